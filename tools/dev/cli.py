"""The command line of ``dev.py``."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from . import setup
from .problems import DevError
from .setup import ROOT, Installation

BASE = ROOT / ".comfyui" / "base"
SERVE_PORT = 8199
# The second start of dev.py, with the Python that has the packages, is marked by this first argument.
READY = "--with-packages"

EPILOG = """\
The first command makes .venv/ and .comfyui/ (about 6 GB, a few minutes); later ones start at once.

environment variables:
  COMFYUI_PATH     folder of a ComfyUI to use. Without it: the ComfyUI whose custom_nodes/ holds this checkout,
                   else a pinned copy in .comfyui/ComfyUI.
  OVI_DEV_PYTHON   a Python that has PyTorch, ComfyUI's requirements and both requirements*.txt; no .venv/ is made.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    ready = argv[:1] == [READY]
    argv = argv[1:] if ready else argv
    forwards = argv[:1] in (["test"], ["bench"], ["fuzz"], ["soak"], ["mini-report"], ["speed-report"], ["convert"])
    arguments = _parser().parse_args(argv[:1] if forwards else argv)
    try:
        installation = setup.ensure()
        if arguments.command == "paths":
            print(json.dumps({"python": str(installation.python), "comfyui": str(installation.comfyui)}))
            return 0
        if arguments.command in ("demo", "serve", "fetch-models") and not ready:
            return _restart(installation, [str(ROOT / "dev.py"), READY, *argv])
        return _run(installation, arguments, argv[1:] if forwards else [])
    except DevError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _run(installation: Installation, arguments: argparse.Namespace, forwarded: list[str]) -> int:
    if arguments.command == "test":
        return _in_checkout(installation, ["-m", "pytest", *pytest_arguments(forwarded)])
    if arguments.command == "bench":
        return _in_checkout(installation, ["-m", "tools.bench", *forwarded])
    if arguments.command in ("fuzz", "soak"):
        return _in_checkout(installation, ["-m", f"tools.{arguments.command}", *forwarded])
    if arguments.command == "mini-report":
        return _in_checkout(installation, ["-m", "tools.mini.report", *forwarded])
    if arguments.command == "speed-report":
        return _in_checkout(installation, ["-m", "tools.mini.report.speed", *forwarded])
    if arguments.command == "convert":
        # In the folder it was called from, for the files are named from there.
        environment = {**_environment(installation), "PYTHONPATH": str(ROOT)}
        command = [str(installation.python), "-m", "tools.pack", "tools.convert", *forwarded]
        return subprocess.run(command, env=environment, check=False).returncode
    if arguments.command == "inspect":
        return _in_checkout(installation, ["-m", "tools.pack", "tools.dev.inspect_file", *map(str, arguments.files)])
    if arguments.command == "check":
        models = _models(arguments.models) or (BASE / "models" if ROOT in installation.comfyui.parents else None)
        return _in_checkout(installation, ["-m", "tools.dev.check", *([str(models)] if models else [])])
    if arguments.command == "lint":
        from . import lint

        return lint.run(installation)
    if arguments.command == "serve":
        from .server import serve

        return serve(installation, arguments.base, arguments.port, _models(arguments.models))
    if arguments.command == "fetch-models":
        from . import fetch_models

        return fetch_models.run(arguments.variant, arguments.to, arguments.yes)
    from . import demo

    options = demo.Options(
        arguments.base, _models(arguments.models), arguments.workflow, arguments.port, arguments.keep, arguments.seed
    )
    return demo.run(installation, options)


def _models(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise DevError(f"There is no folder '{folder}'. Give --models a folder laid out like ComfyUI's models/ folder.")
    return folder


def pytest_arguments(given: list[str]) -> list[str]:
    """pytest's command line; unless a file or folder is named all tests, by as many processes as there are cores."""
    named = any((ROOT / argument.split("::")[0]).exists() for argument in given if not argument.startswith("-"))
    return ["--rootdir", ".", "-c", "tests/pytest.ini", *given, *([] if named else [*BY_FILES, "tests"])]


# Each process takes whole files, whose tests share what they set up; each loads a ComfyUI, so not too many of them.
# Files go by their names: reordered by numbers of tests, the slowest, which has few, would be the last one alone.
BY_FILES = ("--dist", "loadfile", "--no-loadscope-reorder", "--numprocesses", "auto", "--maxprocesses", "4")


def _in_checkout(installation: Installation, command: list[str]) -> int:
    environment = _environment(installation)
    return subprocess.run([str(installation.python), *command], cwd=ROOT, env=environment, check=False).returncode


def _environment(installation: Installation) -> dict[str, str]:
    """Of the programs behind the sub-commands. What a console cannot show, it shows as an escape, and nothing stops."""
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    return {
        **os.environ,
        "COMFYUI_PATH": str(installation.comfyui),
        "PYTHONIOENCODING": f"{encoding}:backslashreplace",
    }


def _restart(installation: Installation, command: list[str]) -> int:
    """Continue as ``command`` under the Python that has the packages; signals then reach that program itself."""
    if os.name != "nt":
        os.execv(installation.python, [str(installation.python), *command])
    return subprocess.run([str(installation.python), *command], check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="Run, test and try the Ovi pack on a real ComfyUI.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo = commands.add_parser("demo", help="make three clips with sound, check them, draw a contact sheet: output/")
    demo.add_argument("--workflow", type=_path, metavar="FILE", help="run this workflow instead of the shipped ones")
    demo.add_argument("--seed", type=int, help="seed for every sampler (default: the one saved in the workflow)")
    demo.add_argument("--port", type=_port, help="port of the server (default: any free one)")
    demo.add_argument("--keep", action="store_true", help="leave the server running")
    serve = commands.add_parser("serve", help="run ComfyUI with this checkout as its only custom node")
    serve.add_argument("--port", type=_port, default=SERVE_PORT, help="port of the server (default: %(default)s)")
    for command in (demo, serve):
        command.add_argument("--models", type=_path, metavar="DIR", help="folder laid out like ComfyUI's models/")
        command.add_argument(
            "--base",
            type=_path,
            default=BASE,
            metavar="DIR",
            help="working folder of the server (default: .comfyui/base)",
        )
    fetch = commands.add_parser("fetch-models", help="fetch the published files of a variant that are not there yet")
    fetch.add_argument("--variant", metavar="NAME", default="960x960_10s", help="default: %(default)s")
    fetch.add_argument(
        "--to",
        type=_path,
        default=BASE / "models",
        metavar="DIR",
        help="folder laid out like ComfyUI's models/ (default: .comfyui/base/models, which 'serve' uses)",
    )
    fetch.add_argument(
        "--yes", action="store_true", help="where a source is gone, fetch the next published file without asking"
    )
    inspect = commands.add_parser("inspect", help="identify weight files and list missing parts")
    inspect.add_argument("files", type=_path, nargs="+", metavar="FILE")
    check = commands.add_parser("check", help="what is installed, which files are missing, what fits this card")
    check.add_argument("--models", type=_path, metavar="DIR", help="folder laid out like ComfyUI's models/")
    commands.add_parser("convert", help="turn a model into another layout or type; see --help", add_help=False)
    commands.add_parser("test", help="run the tests; further arguments go to pytest", add_help=False)
    commands.add_parser("lint", help="run ruff, the import contracts and the type checker")
    commands.add_parser("bench", help="measure cost; further arguments go to the benchmark", add_help=False)
    commands.add_parser("fuzz", help="try random inputs on all parsers; --minutes N, --target T", add_help=False)
    commands.add_parser("soak", help="run many mixed prompts on one server and watch it; --prompts N", add_help=False)
    commands.add_parser("mini-report", help="measure Ovi mini and write docs/mini.md; --seeds N", add_help=False)
    commands.add_parser("speed-report", help="measure Ovi Speed's shortcuts: docs/speed.md; --clips N", add_help=False)
    commands.add_parser("paths", help="print the Python and the ComfyUI in use as one JSON object")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port; accepted: 1 to 65535")
    return port
