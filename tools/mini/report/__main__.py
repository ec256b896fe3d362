"""Measures Ovi mini and writes the figures into docs/mini.md: ``python3 dev.py mini-report``.

The clips are kept in ``.mini/report``, so a report that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training import curves
from ..training.workers import load_pack

if TYPE_CHECKING:
    from .studio import Studio

ROOT = Path(__file__).resolve().parents[3]
MODELS, PAGE = ROOT / "models" / "ovi-mini", ROOT / "docs" / "mini.md"
SHEET, CURVES = "mini.jpg", "mini-curves.png"


def report(studio: Studio, seeds: int, only: str = "") -> tuple[str, bool]:
    """The figures of all sections, or of those with ``only`` in their title, as Markdown; and whether all hold."""
    from .sections import SECTIONS

    parts, good = [], True
    for title, section in SECTIONS.items():
        if only.lower() not in title.lower():
            continue
        print(title)
        rows: list[str] = []
        for figure in section(studio, seeds):
            print(f"  {figure.row}", flush=True)
            rows.append(figure.row)
            good = good and figure.holds is not False
        head = "| what | measured | wanted | holds | control |\n|---|---|---|---|---|\n"
        parts.append(f"### {title}\n\n{head}" + "\n".join(rows) + "\n")
    return "\n".join(parts), good


def into_page(page: str, part: str, text: str) -> str:
    """The page with what stands between the marks of one of its parts replaced."""
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    head, rest = page.split(begin)
    return f"{head}{begin}\n\n{text}\n{end}{rest.split(end)[1]}"


def draw_sheet(studio: Studio, file: Path, count: int = 6) -> None:
    """Clips of held-out prompts: frames over time, spectrogram, events marked on its lower edge."""
    from PIL import Image

    from ..stages.preview_sheets import picture_rows, save_sheet, sound_row
    from .figures import orders
    from .scores import examined

    rows: list[Any] = []
    for order in orders(count):
        clip = examined(order, studio.make(order))
        row = picture_rows(clip.made.frames)
        rows += row, sound_row(clip.made.sound, row.shape[1], list(clip.found.events), clip.found.seconds)
    png = file.with_suffix(".png")
    save_sheet(rows, png)
    Image.open(png).convert("RGB").save(file, quality=88)
    png.unlink()


def main(argv: list[str] | None = None) -> int:
    """Write the report; returns 1 when a figure misses its bound."""
    parser = argparse.ArgumentParser(prog="dev.py mini-report", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder with the exported files")
    parser.add_argument("--seeds", type=int, default=50, help="clips of each kind (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="page to write the figures into")
    parser.add_argument("--shelf", type=Path, default=ROOT / ".mini" / "report", metavar="DIR", help="keeps the clips")
    parser.add_argument("--only", default="", metavar="WORDS", help="sections with these words in their title")
    arguments = parser.parse_args(argv)
    load_pack("cpu")
    import comfy.model_management

    comfy.model_management.in_training = False
    from .studio import Studio

    studio = Studio(arguments.models, arguments.shelf)
    figures, good = report(studio, arguments.seeds, arguments.only)
    draw_sheet(studio, arguments.page.with_name(SHEET))
    page = into_page(arguments.page.read_text(encoding="utf-8"), "figures", figures)
    training = arguments.models / curves.HISTORY
    if training.exists():
        stages = json.loads(training.read_text(encoding="utf-8"))
        curves.draw(stages, arguments.page.with_name(CURVES))
        page = into_page(page, "training", f"{curves.table(stages)}\n\n![Curves of all stages]({CURVES})\n")
    arguments.page.write_text(page, encoding="utf-8")
    print(json.dumps({"page": str(arguments.page), "all hold": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
