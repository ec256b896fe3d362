"""C2PA content credentials: a signed record inside the file of what made it, by the official library (optional)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import folder_paths

from ..errors import OviError
from ..safe_write import new_file
from .provenance import MADE_WITH, STATEMENTS

SIGN = ("if set up", "required", "off")
PACKAGE = "c2pa-python"
CERTIFICATES, KEY = "certificates.pem", "private_key.pem"


def folder() -> Path:
    """Where key and certificates lie: a folder of ComfyUI's that its server never serves."""
    return Path(folder_paths.get_system_user_directory("ovi"))


def signer(sign: str) -> Any:
    """The signer to use, or None for no credentials.

    Args:
        sign: one of :data:`SIGN`. ``if set up`` gives None where package, key or certificates are missing.

    Raises:
        OviError: what is required is missing, or the files do not fit.
    """
    files = [folder() / name for name in (CERTIFICATES, KEY)]
    missing = [str(file) for file in files if not file.is_file()]
    if sign == "off" or (sign == "if set up" and missing):
        return None
    if missing:
        raise _refusal("no " + " and no ".join(missing), f"Put them there, or choose '{SIGN[0]}'.")
    if importlib.util.find_spec("c2pa") is None:
        if sign == "if set up":
            return None
        raise _refusal(f"no Python package {PACKAGE}", f"Run 'python -m pip install {PACKAGE}' with ComfyUI's Python.")
    import c2pa

    certificates, key = (file.read_bytes() for file in files)
    try:
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(key), certificates, key, None))
    except (ValueError, TypeError, c2pa.C2paError) as error:
        why = " ".join(str(error).split())
        raise _refusal(f"files that do not serve ({why})", f"Replace them, or choose '{SIGN[2]}'.") from None


def _refusal(found: str, remedy: str) -> OviError:
    accepted = f"{PACKAGE}, and in {folder()} the files {CERTIFICATES} (the chain, the signer's first) and {KEY}"
    return OviError(input="credentials", found=found, accepted=accepted, remedy=remedy)


def _algorithm(key: bytes) -> bytes:
    """C2PA's name of the signature that a private key (PEM) makes."""
    from cryptography.hazmat.primitives import serialization  # comes with c2pa-python
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    private = serialization.load_pem_private_key(key, password=None)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return {256: b"es256", 384: b"es384", 521: b"es512"}[private.curve.key_size]
    return b"ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else b"ps256"


def embed(path: Path, source: str | None, signer: Any, title: str = "", likeness: tuple[str, ...] = ()) -> None:
    """Sign an MP4 file in place: who made it, with what, and its digital source type. Whole, or not at all.

    Args:
        title: name of the file that the credentials state; without it that of ``path``.
        likeness: a key of :data:`.provenance.STATEMENTS`, or nothing.

    Raises:
        OviError: the disk is full, or may not be written to.
    """
    import c2pa

    action: dict[str, Any] = {"action": "c2pa.created", "softwareAgent": {"name": MADE_WITH}}
    if source:
        action["digitalSourceType"] = source
    if source and likeness:
        action["parameters"] = {"description": STATEMENTS[likeness]}
    manifest = {
        "claim_generator_info": [{"name": MADE_WITH}],
        "title": title or path.name,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }
    with new_file(path, input="credentials", needed=path.stat().st_size) as part, c2pa.Builder(manifest) as builder:
        builder.sign_file(str(path), str(part), signer)
