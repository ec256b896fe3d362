"""Guidance of the two towers: each with its own strength over the run, the negative pass with skipped block pairs.

Where nothing else is asked for, a step is one batch of positive and negative prompt and one linear blend of what they
predict. Modality guidance adds a third conditioning to the batch: the positive prompt without cross-modal attention.
Reference guidance adds the positive prompt with zeros for the faces or the voices of reference people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..latents import denoise_mask, joint
from ..model.base_model import AUDIO_TEXT, NEGATIVE_TEXT
from ..model.reference_conds import ZEROED
from ..network import cross_modal, text_attention
from ..network.batch_rows import pick, put
from ..network.blocks import Stream
from ..network.run_cache import noise_level
from ..network.text_attention import NEGATIVE
from .comfyui import (
    CFGGuider,
    calc_cond_batch,
    create_model_options_clone,
    pack_latents,
    sampling_function,
    set_model_options_patch_replace,
    unpack_latents,
)
from .guidance import Guidance, Strengths
from .variant_settings import parts_given, skip_layers_for

WITHOUT_CROSS_MODAL, WITHOUT_FACE, WITHOUT_VOICE = CONTRASTS = ("without_cross_modal", "without_face", "without_voice")
"""Further predictions for the positive prompt: without cross-modal attention, and with zeros for what the video and the
audio tower read of reference people."""
# Roles: places in the list of conditionings that ComfyUI predicts for; the contrasts follow in their order.
FIRST_CONTRAST = NEGATIVE + 1
READ_NEGATIVE = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")
"""Hooks of other nodes that may read the negative prediction."""


class OviGuider(CFGGuider):
    """ComfyUI's guider with two strengths and skipped layers; all prompts still run as one batch of ComfyUI's.

    Args:
        latent_input: name of the node's input that gives the latent, for errors.
    """

    def __init__(
        self,
        model_patcher: Any,
        guidance: Guidance,
        latent_input: str = "latent_image",
    ):
        super().__init__(model_patcher)
        self.latent_input = latent_input
        self.guidance = guidance
        self.cfg = guidance.video_cfg
        self.model_options: dict = create_model_options_clone(model_patcher.model_options)
        self._skipped = [
            guidance.skip_layers if tower.skip_layers is None else skip_layers_for(tower.skip_layers, model_patcher)
            for tower in guidance.options
        ]
        self._shapes: list = []
        options = self.model_options.get("transformer_options", {})
        self._patches_text = bool(text_attention.patches_of(options))

    def set_conds(self, positive: Any, negative: Any) -> None:
        if self._patches_text and negative:
            positive, negative = (_with_negative_text(conds, negative[0]) for conds in (positive, negative))
        conditionings = {"positive": positive, "negative": negative}
        if self.guidance.has_modality:
            conditionings[WITHOUT_CROSS_MODAL] = positive
        for name, part, tower in zip(CONTRASTS[1:], ("face", "voice"), self.guidance.options, strict=True):
            if tower.reference and part in parts_given(options for _, options in positive):
                conditionings[name] = [[text, {**options, ZEROED: part}] for text, options in positive]
        self.inner_set_conds(conditionings)

    @property
    def conditionings(self) -> int:
        """How many conditionings run in a step that needs them all."""
        return sum(len(conds) for name, conds in self.conds.items() if name != "negative") + self.negatives

    @property
    def negatives(self) -> int:
        """How many of these are negative: none where nothing is guided, unless another node reads their prediction."""
        readers = READ_NEGATIVE if self._patches_text else ("disable_cfg1_optimization",)
        read = any(self.model_options.get(key) for key in readers)
        return len(self.conds.get("negative", ())) if read or not self.guidance.off else 0

    def sample(self, noise: Any, latent_image: Any, *args: Any, **kwargs: Any) -> Any:
        joint.parts(latent_image, self.latent_input)
        denoise_mask.check_mask(kwargs.get("denoise_mask"), self.latent_input)
        return super().sample(noise, latent_image, *args, **kwargs)

    def inner_sample(self, noise: Any, *args: Any, **kwargs: Any) -> Any:
        self._shapes = kwargs.get("latent_shapes") or [noise.shape]
        skipped = [self._skipped[tower] for tower in self._present()]
        for layer in sorted(set().union(*skipped)):
            self._skip_in_negative(layer, [layer in layers for layers in skipped])
        return super().inner_sample(noise, *args, **kwargs)

    def _present(self) -> list[int]:
        """The towers that run: 0 video, 1 audio."""
        return [i for i, shape in enumerate(self._shapes) if not joint.is_absent(shape)]

    def _skip_in_negative(self, layer: int, towers: list[bool]) -> None:
        """Leave block pair ``layer`` out of the negative pass; another patch of that pair still applies to the rest."""
        options = self.model_options.setdefault("transformer_options", {})
        replacements = options.get("patches_replace", {}).get("dit", {})
        patch = _skip_negative(replacements.get(("double_block", layer)), towers)
        set_model_options_patch_replace(self.model_options, patch, "dit", "double_block", layer)

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None) -> Tensor:
        options = dict(model_options or {})
        negative = self.conds["negative"]
        strengths = self._strengths_at(timestep, options.get("transformer_options", {}))
        if strengths is None:
            for key in ("disable_cfg1_optimization", "sampler_cfg_function"):
                options.pop(key, None)
            negative, strengths = None, (Strengths(), Strengths())
        unguided = all(math.isclose(tower.cfg, 1.0) for tower in strengths)
        contrasts = self._contrasts(strengths)
        found: dict[str, Tensor] = {}
        if contrasts:
            self._add_predictions(options, contrasts, found)
        if contrasts or not unguided:
            other = None if unguided else options.get("sampler_cfg_function")
            options["sampler_cfg_function"] = _combined(strengths, self._shapes, contrasts, found, other)
        if not unguided:
            options["disable_cfg1_optimization"] = True
        elif self._patches_text and not any(options.get(key) for key in READ_NEGATIVE):
            options.pop("disable_cfg1_optimization", None)  # of NAGuidance, whose negative text the positive rows have
        cfg = 1.0 if unguided else strengths[0].cfg
        return sampling_function(
            self.inner_model, x, timestep, negative, self.conds["positive"], cfg, model_options=options, seed=seed
        )

    def _strengths_at(self, timestep: Tensor, options: dict) -> tuple[Strengths, Strengths] | None:
        if self.guidance.constant:
            return self.guidance.always()
        return self.guidance.at(noise_level(options, timestep), self.inner_model.model_sampling)

    def _contrasts(self, strengths: Sequence[Strengths]) -> dict[str, list[float]]:
        """The contrasts that this step needs, each with its strength in the video and in the audio tower."""
        (video, audio), present = strengths, self._present()
        contrasts = {}
        if len(present) == 2 and (video.modality or audio.modality):
            contrasts[WITHOUT_CROSS_MODAL] = [video.modality, audio.modality]
        if 0 in present and video.reference and WITHOUT_FACE in self.conds:
            contrasts[WITHOUT_FACE] = [video.reference, 0.0]
        if 1 in present and audio.reference and WITHOUT_VOICE in self.conds:
            contrasts[WITHOUT_VOICE] = [0.0, audio.reference]
        return contrasts

    def _add_predictions(self, options: dict, names: Collection[str], found: dict[str, Tensor]) -> None:
        """Have ComfyUI predict the contrasts of these ``names`` in the same batch; the results go to ``found``."""
        other = options.get("sampler_calc_cond_batch_function")

        def predict(args: dict) -> list[Tensor]:
            # another node's way to predict knows two conditionings only
            predicted = None if other is None else other(args)
            conds = [
                *(args["conds"] if predicted is None else (None, None)),
                *(self.conds[name] if name in names else None for name in CONTRASTS),
            ]
            inputs = (args["model"], conds, args["input"], args["sigma"], args["model_options"])
            results = calc_cond_batch(*inputs)
            more = zip(CONTRASTS, results[FIRST_CONTRAST:], strict=True)
            found.update({name: result for name, result in more if name in names})
            return results[:FIRST_CONTRAST] if predicted is None else predicted

        options["sampler_calc_cond_batch_function"] = predict
        if WITHOUT_CROSS_MODAL in names:
            role = FIRST_CONTRAST + CONTRASTS.index(WITHOUT_CROSS_MODAL)
            options["transformer_options"] = {**options.get("transformer_options", {}), cross_modal.WITHOUT_ROLE: role}


def _with_negative_text(conditioning: Any, negative: Any) -> list:
    """A conditioning with the texts of the first ``negative`` one, see ``network.text_attention``."""
    text, options = negative
    texts = (text, options.get(AUDIO_TEXT, text))
    return [[own, {**more, NEGATIVE_TEXT: texts}] for own, more in conditioning]


def _combined(
    strengths: Sequence[Strengths],
    shapes: list,
    contrasts: dict[str, list[float]],
    found: dict[str, Tensor],
    other: Callable[[dict], Tensor] | None,
) -> Callable[[dict], Tensor]:
    """ComfyUI's hook that combines the predictions, all of them velocities times the noise level, packed.

    Args:
        contrasts: strengths of each contrast in both towers.
        found: holds the predictions of the contrasts, when the hook is called.
        other: another node's hook, which then replaces the linear blend.
    """

    def combine(args: dict) -> Tensor:
        positive = args["cond"]
        cfgs = [tower.cfg for tower in strengths]
        if other is None:
            guided = torch.lerp(args["uncond"], positive, _packed(cfgs, shapes, positive))
        else:
            guided = _in_each_tower(other, cfgs, shapes, args)
        for name, pushes in contrasts.items():
            guided = guided + _packed(pushes, shapes, positive) * (positive - (args["input"] - found[name]))
        if any(tower.rescale for tower in strengths):
            guided = _rescaled(guided, positive, [tower.rescale for tower in strengths], shapes)
        return guided

    return combine


def _packed(values: Sequence[float], shapes: list, like: Tensor) -> Tensor | float:
    """A value for each tower as one vector [1, 1, N] over the pack; a number where nothing is packed."""
    if len(shapes) == 1:
        return values[0]
    return torch.cat(
        [like.new_full((1, 1, math.prod(shape[1:])), v) for shape, v in zip(shapes, values, strict=True)], dim=-1
    )


def _rescaled(guided: Tensor, positive: Tensor, shares: Sequence[float], shapes: list) -> Tensor:
    """``guided`` with the share given for each tower of it brought to the standard deviation of ``positive``."""
    parts = []
    for part, like, share in zip(
        unpack_latents(guided, shapes), unpack_latents(positive, shapes), shares, strict=False
    ):
        axes = tuple(range(1, part.ndim))
        ratio = like.std(axes, keepdim=True) / part.std(axes, keepdim=True).clamp(min=1e-8)
        parts.append(part * (1 - share + share * ratio))
    return parts[0] if len(parts) == 1 else pack_latents(parts)[0]


def _in_each_tower(function: Callable[[dict], Tensor], strengths: Sequence[float], shapes: list, args: dict) -> Tensor:
    """Another node's hook that combines both predictions, used on video and audio apart, with the strength of each.

    It gets what it knows from other video models: [B, C, frames, height, width], the audio as frames of one pixel.
    """
    packed = ("cond", "uncond", "input", "cond_denoised", "uncond_denoised")
    parts = {name: unpack_latents(args[name], shapes) for name in packed}
    results = []
    for i, (strength, shape) in enumerate(zip(strengths, shapes, strict=False)):
        as_video = (*shape[1:], 1, 1)[:4]
        own = {name: values[i].reshape(-1, *as_video) for name, values in parts.items()}
        results.append(function({**args, **own, "cond_scale": strength}))
    return results[0] if len(results) == 1 else pack_latents(results)[0]


def _skip_negative(inner: Any, towers: list[bool]) -> Any:
    """A block replacement that leaves the negative rows of those ``towers`` as they are.

    Where that is all towers that run, the pair runs for the other rows only. Where it is one of two, the other tower's
    block runs as ever and reads the skipped one as it stands after its self-attention.
    """

    def patch(args: dict, extra: dict) -> dict:
        def run(args: dict) -> dict:
            return inner(args, extra) if inner else extra["original_block"](args)

        roles = args["transformer_options"]["cond_or_uncond"]
        others = [i for i, role in enumerate(roles) if role != NEGATIVE]
        if len(others) == len(roles):
            return run(args)
        if not all(towers):
            done = run(args)["img"]
            negative = [i for i, role in enumerate(roles) if role == NEGATIVE]
            img = tuple(
                put(new, pick(old, negative, len(roles)), negative, len(roles)) if skipped else new
                for old, new, skipped in zip(args["img"], done, towers, strict=True)
            )
            return {**args, "img": img}
        if not others:
            return args
        rest = tuple(_rows(stream, others, len(roles)) for stream in args["streams"])
        options = {**args["transformer_options"], "cond_or_uncond": [roles[i] for i in others]}
        tokens = tuple(pick(t, others, len(roles)) for t in args["img"])
        done = run({**args, "img": tokens, "streams": rest, "transformer_options": options})["img"]
        img = tuple(put(old, new, others, len(roles)) for old, new in zip(args["img"], done, strict=True))
        return {**args, "img": img}

    return patch


def _rows(stream: Stream, wanted: list[int], of: int) -> Stream:
    """The stream's rows of the ``wanted`` conditionings, ``of`` of which make up the batch."""
    scale = stream.cross_modal_scale

    def picked(text: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pick(text[0], wanted, of), pick(text[1], wanted, of)

    time = replace(
        stream.time,
        embedding=pick(stream.time.embedding, wanted, of),
        projection=pick(stream.time.projection, wanted, of),
        index=None if stream.time.index is None else pick(stream.time.index, wanted, of),
    )
    return replace(
        stream,
        time=time,
        text=picked(stream.text),
        negative_text=None if stream.negative_text is None else picked(stream.negative_text),
        cross_modal_scale=scale if len(scale) == 1 else tuple(scale[i] for i in wanted),
    )
