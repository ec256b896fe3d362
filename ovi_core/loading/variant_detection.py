"""Which variant of Ovi a file holds. Its weights do not show it: all have the same names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath

from ..spec import METADATA_KEY, VARIANTS, Variant
from . import fingerprints

OVI, DREAMID = "chetwinlow1/Ovi", "XuGuo699/DreamID-Omni"
"""The repositories on Hugging Face where Ovi and DreamID-Omni are published."""
DREAMID_SMALLER = "benjiaiplayground/DreamID-Omni-bf16-FP8"
"""Where others publish DreamID-Omni in bf16 and fp8."""

NAMES = (
    (r"dream[-_. ]?id", "dreamid_omni"),
    (r"ovi[-_. ]?mini", "mini"),
    (r"960x960[-_. ]?10s|ovi[-_. ]?1[-_. ]1[-_. ]10s", "960x960_10s"),
    (r"960x960|ovi[-_. ]?1[-_.]1", "960x960_5s"),
    (r"720x720|ovi[-_. ]11b|^model_fp8_e4m3fn$|wan[-_. ]?2[-_.][12][-_.]ovi[-_.](video|audio)", "720x720_5s"),
    (r"^model$", "720x720_5s"),
)
"""What the names that files are published under have in them; the first that is found counts."""
BY_CONTENT = "by its content, which is that of the published file"


def variant_of(name: str, metadata: Mapping[str, str]) -> tuple[Variant | None, str]:
    """The variant of an Ovi file, and how it is known; None where nothing shows it.

    Args:
        name: the file's name, folders and ending included or not; with the whole path, a file that was fetched by this
            pack is known again by its content.
        metadata: of its header.
    """
    named = VARIANTS.get(metadata.get(METADATA_KEY, ""))
    if named:
        return named, "its header says so"
    source = fingerprints.recall(Path(name))
    if source.startswith((f"{DREAMID}/", f"{DREAMID_SMALLER}/")):
        return VARIANTS["dreamid_omni"], BY_CONTENT
    for variant in VARIANTS.values():
        if source == f"{OVI}/{variant.file}":
            return variant, BY_CONTENT
    stem = PurePath(name.replace("\\", "/")).stem.lower()
    for pattern, known in NAMES:
        if re.search(pattern, stem):
            return VARIANTS[known], "by its name"
    return None, "neither header nor name says it"
