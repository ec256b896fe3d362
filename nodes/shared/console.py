"""Consoles and log files that are not UTF-8, as on Windows when the output goes to a file."""

from __future__ import annotations

import io
import sys


def escape_what_it_lacks() -> None:
    """Let the console write an escape (``\\u58f0``) for what it cannot show.

    By default it raises, also within ``logging`` while an error is reported: a prompt in Chinese in the text of an
    error would then end the thread that runs prompts.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
