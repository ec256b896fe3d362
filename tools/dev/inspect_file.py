"""Identifies weight files and lists missing parts."""

from __future__ import annotations

import sys
from pathlib import Path

from ovi_native.ovi_core.loading.inspection import inspect


def main(paths: list[str]) -> int:
    """Print the report on each file; 1 if the pack cannot use one of them."""
    reports = [inspect(str(Path(path).expanduser())) for path in paths]
    print("\n\n".join(map(str, reports)))
    return 0 if all(report.usable for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
