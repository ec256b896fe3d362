"""Guidance of the two towers: each with its own strength, the negative pass with skipped block pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_patcher
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from . import latents
from .errors import OviError
from .transformer import Stream


@dataclass(frozen=True)
class Guidance:
    """n + g (p - n) on the velocity, with a strength g for each tower.

    skip_layers: block pairs (counted from 0) that the negative pass leaves out in both towers.
    start, end: share of the run, 0 to 1, between which guidance applies; outside only the positive prompt runs.
    """

    video_cfg: float = 4.0
    audio_cfg: float = 3.0
    skip_layers: tuple[int, ...] = (11,)
    start: float = 0.0
    end: float = 1.0

    @property
    def off(self) -> bool:
        """Both strengths 1: the negative pass would not change the result, so it does not run."""
        return math.isclose(self.video_cfg, 1.0) and math.isclose(self.audio_cfg, 1.0)


def parse_skip_layers(text: str, num_layers: int) -> tuple[int, ...]:
    """Numbers of block pairs from a text such as ``"11"`` or ``"10, 11"``; "" and "0" skip none.

    As in the reference 0 stands for none: the first pair cannot be skipped.

    Raises:
        OviError: text that is no list of whole numbers, or a number the model has no block pair for.
    """
    parts = [part for part in text.replace(";", ",").replace(" ", ",").split(",") if part]
    accepted = f"block pairs 1 to {num_layers - 1}, as in '11' or '10, 11'; '0' or nothing for none"
    for part in parts:
        if not (part.isdecimal() and int(part) < num_layers):
            raise OviError(
                input="skip_layers", found=f"'{part}'", accepted=accepted, remedy="Correct the list of block pairs."
            )
    return tuple(sorted({int(part) for part in parts} - {0}))


class OviGuider(comfy.samplers.CFGGuider):
    """The host's guider with two strengths and skipped layers; both prompts still run as one batch of the host's."""

    def __init__(self, model_patcher: comfy.model_patcher.ModelPatcher, guidance: Guidance):
        super().__init__(model_patcher)
        self.guidance = guidance
        self.cfg = 1.0 if guidance.off else guidance.video_cfg
        self.model_options: dict = comfy.model_patcher.create_model_options_clone(model_patcher.model_options)
        for layer in guidance.skip_layers:
            self._skip_in_negative(layer)

    def _skip_in_negative(self, layer: int) -> None:
        """Leave block pair ``layer`` out of the negative pass; another patch of that pair still applies to the rest."""
        options = self.model_options.setdefault("transformer_options", {})
        replacements = options.get("patches_replace", {}).get("dit", {})
        patch = _skip_negative(replacements.get(("double_block", layer)))
        comfy.model_patcher.set_model_options_patch_replace(self.model_options, patch, "dit", "double_block", layer)

    def sample(self, noise: Any, latent_image: Any, *args: Any, **kwargs: Any) -> Any:
        latents.parts(latent_image, "latent_image")
        latents.check_mask(kwargs.get("denoise_mask"), "latent_image")
        return super().sample(noise, latent_image, *args, **kwargs)

    def inner_sample(self, noise: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.guidance.off:
            shapes = kwargs["latent_shapes"]
            strengths = (self.guidance.video_cfg, self.guidance.audio_cfg)[: len(shapes)]
            other = self.model_options.get("sampler_cfg_function")
            blend = _blend(noise, strengths, shapes) if other is None else _in_each_tower(other, strengths, shapes)
            self.model_options["disable_cfg1_optimization"] = True
            self.model_options["sampler_cfg_function"] = blend
        return super().inner_sample(noise, *args, **kwargs)

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None) -> Tensor:
        options = model_options or {}
        if (self.guidance.start > 0 or self.guidance.end < 1) and not self._guided_at(float(timestep[0])):
            options = {
                k: v for k, v in options.items() if k not in ("disable_cfg1_optimization", "sampler_cfg_function")
            }
            return comfy.samplers.sampling_function(
                self.inner_model, x, timestep, None, self.conds["positive"], 1.0, model_options=options, seed=seed
            )
        return super().predict_noise(x, timestep, options, seed)

    def _guided_at(self, sigma: float) -> bool:
        percent = self.inner_model.model_sampling.percent_to_sigma
        return percent(self.guidance.end) <= sigma <= percent(self.guidance.start)


def _blend(noise: Tensor, strengths: tuple[float, ...], shapes: list) -> Any:
    """The host's hook that joins both predictions, with one strength for every value of the pack [1, 1, N]."""
    if len(shapes) == 1:  # a video alone is not packed
        return lambda args: torch.lerp(args["uncond"], args["cond"], strengths[0])
    strength = torch.cat(
        [noise.new_full((1, 1, math.prod(shape[1:])), g) for shape, g in zip(shapes, strengths, strict=True)], dim=-1
    )
    return lambda args: torch.lerp(args["uncond"], args["cond"], strength)


def _in_each_tower(function: Any, strengths: tuple[float, ...], shapes: list) -> Any:
    """Another node's hook that joins both predictions, used on video and audio apart, with the strength of each.

    It finds what it knows from other video models: [B, C, frames, height, width], the audio as frames of one pixel.
    """
    if len(shapes) == 1:
        return lambda args: function({**args, "cond_scale": strengths[0]})
    packed = ("cond", "uncond", "input", "cond_denoised", "uncond_denoised")

    def joined(args: dict) -> Tensor:
        parts = {name: comfy.utils.unpack_latents(args[name], shapes) for name in packed}
        results = []
        for i, (strength, shape) in enumerate(zip(strengths, shapes, strict=True)):
            as_video = (*shape[1:], 1, 1)[:4]
            own = {name: values[i].reshape(-1, *as_video) for name, values in parts.items()}
            results.append(function({**args, **own, "cond_scale": strength}))
        return comfy.utils.pack_latents(results)[0]

    return joined


def _skip_negative(inner: Any) -> Any:
    """A block replacement that runs the pair for the positive rows only and leaves the negative rows as they are."""

    def patch(args: dict, extra: dict) -> dict:
        def run(args: dict) -> dict:
            return inner(args, extra) if inner else extra["original_block"](args)

        roles = args["transformer_options"]["cond_or_uncond"]
        positive = [i for i, role in enumerate(roles) if role == 0]
        if len(positive) == len(roles):
            return run(args)
        if not positive:
            return args
        kept = tuple(
            _rows(replace(stream, tokens=t), positive, len(roles))
            for stream, t in zip(args["streams"], args["img"], strict=True)
        )
        done = run({**args, "img": tuple(stream.tokens for stream in kept), "streams": kept})["img"]
        return {
            **args,
            "img": tuple(_put(old, new, positive, len(roles)) for old, new in zip(args["img"], done, strict=True)),
        }

    return patch


def _rows(stream: Stream, wanted: list[int], of: int) -> Stream:
    """The stream's rows of the ``wanted`` conditionings, ``of`` of which make up the batch."""

    def pick(x: Tensor) -> Tensor:
        chunks = x.chunk(of)
        return chunks[wanted[0]] if len(wanted) == 1 else torch.cat([chunks[i] for i in wanted])

    time = replace(
        stream.time,
        embedding=pick(stream.time.embedding),
        projection=pick(stream.time.projection),
        index=None if stream.time.index is None else pick(stream.time.index),
    )
    return replace(stream, tokens=pick(stream.tokens), time=time, text=(pick(stream.text[0]), pick(stream.text[1])))


def _put(old: Tensor, new: Tensor, at: list[int], of: int) -> Tensor:
    """``old`` with the chunks ``at`` replaced by those of ``new``."""
    chunks = list(old.chunk(of))
    for i, chunk in zip(at, new.chunk(len(at)), strict=True):
        chunks[i] = chunk
    return torch.cat(chunks)
