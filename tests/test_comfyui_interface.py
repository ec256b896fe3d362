"""ComfyUI still has everything that the pack uses beyond its documented interface.

One row per use. A row that fails names what ComfyUI has changed and which file of ours needs it; the other tests then
say what it breaks. Rows stand in the order of our packages.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Use:
    """One name of ComfyUI that we use.

    Attributes:
        name: dotted, such as ``comfy.samplers.CFGGuider.inner_sample``.
        file: ours that uses it, from the root of the repository.
        positional: its first parameters in order, without ``self``, as we pass or take them.
        keywords: parameters that we pass or take by name; ``**kwargs`` takes any.
        attributes: that it has.
        mentions: words in its source: keys of dictionaries and attributes of instances that we rely on.
        kind: ``callable``, ``class`` or ``value``.
        optional: ComfyUI may lack it (older or newer ones do), and the pack does without.
    """

    name: str
    file: str
    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    kind: str = "callable"
    optional: bool = False


USES = [
    # -- weights
    Use("comfy.utils.load_torch_file", "ovi_core/weights/comfyui.py", positional=("ckpt",)),
    Use("comfy.quant_ops.QUANT_ALGOS", "ovi_core/weights/comfyui.py", kind="value"),
    Use("comfy.quant_ops.QuantizedLayout", "ovi_core/weights/comfyui.py", kind="class", attributes=("dequantize",)),
    Use("comfy.quant_ops.QuantizedTensor", "ovi_core/weights/comfyui.py", kind="class", attributes=("dequantize",)),
    Use("comfy.quant_ops.register_layout_class", "ovi_core/weights/comfyui.py"),
    Use("comfy_kitchen.tensor.base.BaseLayoutParams", "ovi_core/weights/comfyui.py", kind="class"),
    Use(
        "comfy.ops.mixed_precision_ops",
        "ovi_core/weights/comfyui.py",
        positional=("quant_config", "compute_dtype"),
        keywords=("full_precision_mm",),
        mentions=("class Linear", "class Embedding", "forward_comfy_cast_weights", "_load_from_state_dict"),
    ),
    Use("comfy.lora.calculate_weight", "ovi_core/weights/comfyui.py", positional=("patches", "weight", "key")),
    Use("comfy.model_patcher.LowVramPatch", "ovi_core/weights/comfyui.py", positional=("key", "patches")),
    Use("comfy.model_patcher.get_key_weight", "ovi_core/weights/comfyui.py", positional=("model", "key")),
    # -- text
    Use("comfy.sd.detect_te_model", "ovi_core/text/comfyui.py", positional=("sd",)),
    Use("comfy.sd.TEModel", "ovi_core/text/comfyui.py", kind="class", attributes=("T5_XXL",)),
    Use("comfy.text_encoders.wan.te", "ovi_core/text/comfyui.py", keywords=("dtype_t5", "t5_quantization_metadata")),
    Use("comfy.text_encoders.wan.WanT5Tokenizer", "ovi_core/text/comfyui.py", kind="class"),
    Use("comfy.text_encoders.wan.UMT5XXlTokenizer", "ovi_core/text/comfyui.py", kind="class"),
    Use("comfy.text_encoders.sd3_clip.t5_xxl_detect", "ovi_core/text/comfyui.py", positional=("state_dict",)),
    Use(
        "comfy.text_encoders.spiece_tokenizer.SPieceTokenizer",
        "ovi_core/text/comfyui.py",
        kind="class",
        positional=("tokenizer_path",),
        mentions=("self.tokenizer = sentencepiece.SentencePieceProcessor",),
    ),
    Use(
        "comfy.text_encoders.t5.T5",
        "ovi_core/text/comfyui.py",
        kind="class",
        positional=("config_dict", "dtype", "device", "operations"),
    ),
    Use(
        "comfy.utils.convert_old_quants",
        "ovi_core/text/comfyui.py",
        positional=("state_dict",),
        keywords=("model_prefix", "metadata"),
    ),
    Use("comfy.sd.load_text_encoder_state_dicts", "ovi_core/text/umt5.py", keywords=("disable_dynamic",)),
    Use("comfy.sd.CLIP", "ovi_core/text/umt5.py", kind="class", keywords=("tokenizer_data", "state_dict")),
    # -- loading
    Use(
        "comfy.model_management.unet_dtype",
        "ovi_core/loading/comfyui.py",
        keywords=("model_params", "supported_dtypes", "weight_dtype"),
    ),
    Use(
        "comfy.model_management.unet_manual_cast",
        "ovi_core/loading/comfyui.py",
        positional=("weight_dtype", "inference_device", "supported_dtypes"),
    ),
    Use("comfy.model_management.unet_offload_device", "ovi_core/loading/comfyui.py"),
    Use("comfy.utils.weight_dtype", "ovi_core/loading/comfyui.py", positional=("sd",)),
    Use("comfy.utils.calculate_parameters", "ovi_core/loading/comfyui.py", positional=("sd",)),
    Use("comfy.patcher_extension.WrappersMP", "ovi_core/loading/comfyui.py", attributes=("OUTER_SAMPLE",)),
    Use("folder_paths.folder_names_and_paths", "ovi_core/loading/comfyui.py", kind="value"),
    # -- network
    Use(
        "comfy.ops.cast_bias_weight",
        "ovi_core/network/layers.py",
        positional=("s",),
        keywords=("dtype", "device", "bias_dtype", "offloadable"),
    ),
    # -- sampling
    Use(
        "comfy.samplers.calc_cond_batch",
        "ovi_core/sampling/guider.py",
        positional=("model", "conds", "x_in", "timestep", "model_options"),
    ),
]


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.file}-{use.name}")
def test_comfyui_has_what_we_use(use):
    found = _find(use.name)
    if found is None and use.optional:
        pytest.skip(f"this ComfyUI has no {use.name}; {use.file} does without")
    assert found is not None, f"ComfyUI has no {use.name} any more; {use.file} needs it"
    problems = list(_problems(use, found))
    assert not problems, f"{use.name}, which {use.file} needs: " + "; ".join(problems)


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.file}-{use.name}")
def test_a_row_names_a_file_that_uses_it(use):
    assert use.name.rpartition(".")[2] in (ROOT / use.file).read_text(encoding="utf-8"), (
        f"{use.file} does not mention {use.name}: correct the row, or delete it"
    )


def _find(dotted: str) -> Any:
    """What a dotted name stands for, None where there is nothing."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


def _problems(use: Use, found: Any) -> Iterator[str]:
    """What is not as the row says, in words."""
    if use.kind == "class" and not inspect.isclass(found):
        yield f"is no class but {found!r:.80}"
    if use.kind == "callable" and not callable(found):
        yield f"cannot be called, it is {found!r:.80}"
    if use.positional or use.keywords:
        yield from _parameter_problems(use, found)
    for attribute in use.attributes:
        if not hasattr(found, attribute):
            yield f"has no attribute {attribute}"
    if use.mentions:
        source = inspect.getsource(found)
        yield from (f"its source no longer mentions {word}" for word in use.mentions if word not in source)


def _parameter_problems(use: Use, found: Any) -> Iterator[str]:
    parameters = [p for p in inspect.signature(found).parameters.values() if p.name not in ("self", "cls")]
    any_position = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    in_order = [p.name for p in parameters if p.kind in KINDS]
    if not any_position and in_order[: len(use.positional)] != list(use.positional):
        yield f"takes {', '.join(in_order) or 'nothing'} in this order, where we pass {', '.join(use.positional)}"
    named = {p.name for p in parameters}
    missing = [name for name in use.keywords if name not in named and not any_name]
    if missing:
        yield f"takes no {', '.join(missing)}"
    passed = {*use.positional, *use.keywords}
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind in KINDS and p.name not in passed]
    if wanted and not any_position:
        yield f"also wants {', '.join(wanted)}, which we do not pass"
