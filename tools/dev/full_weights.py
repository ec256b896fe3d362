"""Sets the shipped workflows to the weights that are there: they are saved for the small variant."""

from __future__ import annotations

from typing import Any

from ovi_native.ovi_core.loading import manifest
from ovi_native.ovi_core.spec import DEFAULT_VARIANT, VARIANTS, Variant, snap_size

from .problems import DevError

STEPS = 50


def variant_among(files: list[str]) -> Variant:
    """The first variant, from the largest to the smallest, whose model is among ``files`` of diffusion_models.

    Raises:
        DevError: none is.
    """
    parts = {name: manifest.model_part(variant) for name, variant in VARIANTS.items()}
    for name, part in parts.items():
        if part.among(files):
            return VARIANTS[name]
    wanted = ", ".join(part.file for part in parts.values())
    raise DevError(
        f"There is no Ovi model in the models folder: diffusion_models holds {len(files)} file(s), none named as "
        f"one of {wanted}. Put one there, or give --workflow a graph of your own that names the file."
    )


def fit_to_variant(prompt: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """A copy of an API prompt, set to a variant: its weights, size, length, and the reference's sampling."""
    height, width = variant.sizes[0][::-1] if variant.sizes else snap_size(1, 1, variant.area)
    layers = ", ".join(map(str, variant.sampling.skip_layers)) or "0"
    reference = {"steps": STEPS, "video_cfg": variant.sampling.video_cfg, "skip_layers": layers}
    if variant.sampling.audio_cfg != DEFAULT_VARIANT.sampling.audio_cfg:
        reference["audio_cfg"] = variant.sampling.audio_cfg
    changes: dict[str, dict[str, Any]] = {
        "OviPipelineLoader": {"variant": variant.name},
        "OviTextEncode": {"variant": variant.name},
        "EmptyOviLatent": {"width": width, "height": height, "seconds": variant.seconds},
        "OviSampler": reference if variant.name != "mini" else {},
    }
    return {
        key: {**node, "inputs": {**node["inputs"], **changes.get(node["class_type"], {})}}
        for key, node in prompt.items()
    }
