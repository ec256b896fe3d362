"""ComfyUI's entry to the pack."""

import importlib.util
import re

FLOOR = (0, 27, 0)
"""The oldest ComfyUI that the pack runs on; pyproject.toml says the same."""

WEB_DIRECTORY = "./web"


def too_old(found):
    """What to tell the user of a ComfyUI whose version is ``found``; empty where it is new enough or unknown."""
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", str(found))
    if not numbers or tuple(int(number or 0) for number in numbers.groups()) >= FLOOR:
        return ""
    needed = ".".join(map(str, FLOOR))
    return (
        f"Ovi native needs ComfyUI {needed} or newer, and this is {found}. Update ComfyUI (git pull and pip install -r "
        "requirements.txt, the Manager's Update ComfyUI, or a newer portable or desktop version), then start it again."
    )


def _check_version():
    try:
        from comfyui_version import __version__ as found
    except ImportError:
        return
    if message := too_old(found):
        raise RuntimeError(message)


def _asks_for_extensions():
    """Whether this ComfyUI is new enough to call ``comfy_entrypoint``."""
    try:
        return importlib.util.find_spec("comfy_api.latest") is not None
    except ModuleNotFoundError:
        return False


if not _asks_for_extensions():
    _check_version()


async def comfy_entrypoint():
    """The extension object ComfyUI asks for; imported here so that importing the pack costs nothing.

    Raises:
        RuntimeError: a ComfyUI that is too old; ComfyUI writes it to the console as one line, and lists the pack as
            not imported.
    """
    _check_version()
    from .nodes.extension import OviExtension

    return OviExtension()
