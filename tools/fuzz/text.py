"""Text as bytes and back, whatever the bytes."""

from __future__ import annotations


def to_bytes(text: str) -> bytes:
    """UTF-8 in which lone surrogates survive, as JSON and so a saved workflow may bring them."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The text of :func:`to_bytes`, and a text for any other bytes."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")
