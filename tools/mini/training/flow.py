"""Rectified flow of the joint latent: what the twin is asked in training, and how it is sampled for a preview.

With clean latents x0 and noise e, x(s) = (1 - s) x0 + s e and the velocity is e - x0; the twin's timestep is 1000 s.
A part that is given clean has s = 0 and timestep 0: the first frame, or a whole tower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from comfy.text_encoders.t5 import T5
from ovi_native.ovi_core.network.run_cache import RunCache
from ovi_native.ovi_core.network.timesteps import TimestepShares
from ovi_native.ovi_core.network.transformer import OviTransformer
from ovi_native.ovi_core.spec import TEXT_LENGTH
from torch import Tensor
from torch.func import functional_call

from . import networks
from .config import Twin
from .gradients import Rounding
from .tokenizer import Tokenizer

VIDEO_NEGATIVE = "jitter, bad hands, blur, distortion"
AUDIO_NEGATIVE = "robotic, muffled, echo, distorted"


@dataclass(frozen=True)
class Question:
    """What one training step asks of each sample of a batch.

    Attributes:
        level: noise level s [B] in 0..1.
        video_free: [B, T], 0 for latent frames that are given clean.
        audio_free: [B, L or 1], 0 for audio steps that are given clean.
    """

    level: Tensor
    video_free: Tensor
    audio_free: Tensor


def ask(settings: Twin, batch: int, frames: int, steps: int, source: torch.Generator) -> Question:
    """Draw levels, spread evenly over the shifted schedule, and what of both latents is given clean."""
    place = (torch.randperm(batch, generator=source) + torch.rand(batch, generator=source)) / batch
    level = settings.shift * place / (1 + (settings.shift - 1) * place)
    role = torch.rand(batch, generator=source)
    bounds = list(accumulate((settings.video_clean, settings.audio_clean, settings.span), initial=0.0))
    video_clean, audio_clean, in_span = ((role >= low) & (role < high) for low, high in pairwise(bounds))
    first_clean = (torch.rand(batch, generator=source) < settings.first_frame) & ~in_span
    middle, half = (torch.rand(batch, 1, generator=source) for _ in range(2))
    half = SPAN[0] + (SPAN[1] - SPAN[0]) * half
    frees = []
    for clean, length in ((video_clean, frames), (audio_clean, steps)):
        in_it = (torch.linspace(0, 1, length) - middle).abs() < half
        frees.append((~clean[:, None] & (in_it | ~in_span[:, None])).float())
    frees[0][:, 0] *= (~first_clean).float()
    return Question(level, *frees)


SPAN = (0.15, 0.6)
"""Half of the least and the most of a clip's length that is free where the rest is given clean in both towers."""


def texts_of(settings: Twin, prompts: list[str], source: torch.Generator) -> tuple[list[str], list[str]]:
    """Prompts for the video and the audio tower, some of them dropped: nothing, or each tower's negative prompt."""
    dropped = torch.rand(len(prompts), generator=source) < settings.no_text
    negative = torch.rand(len(prompts), generator=source) < 0.5
    video, audio = list(prompts), list(prompts)
    for i in torch.nonzero(dropped).flatten().tolist():
        video[i], audio[i] = (VIDEO_NEGATIVE, AUDIO_NEGATIVE) if negative[i] else ("", "")
    return video, audio


class Model:
    """Twin and text encoder together.

    Args:
        rounded: compute the twin's matrices in bfloat16, as the pack does with files of that type, while those that
            learn stay in 32 bits. On a card this is faster than autocast, which runs every norm in 32 bits.
        eight_bit: round the large matrices as the exported file holds them, so that the others learn to live with it.
    """

    def __init__(
        self, twin: OviTransformer, text: T5, tokenizer: Tokenizer, rounded: bool = False, eight_bit: bool = False
    ):
        self.twin, self.text, self.tokenizer = twin, text, tokenizer
        self._run = RunCache()
        self._rounded = networks.sixteen_bit_weights(twin) if rounded else []
        self._eight_bit = networks.eight_bit_weights(twin) if eight_bit else []

    def contexts(self, video_texts: list[str], audio_texts: list[str]) -> tuple[Tensor, Tensor]:
        """Both towers' texts [B, S, text_dim], with gradients, zero after the end of each."""
        return self.encoded(*self.tokenizer([*video_texts, *audio_texts]))

    def encoded(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The same from ids and mask [2 B, S], the video tower's first."""
        device = self.text.shared.weight.device
        video, audio = networks.encode_text(self.text, ids.to(device), mask.to(device)).chunk(2)
        return video, audio

    def velocity(
        self, video: Tensor, audio: Tensor, timestep: Tensor, contexts: tuple[Tensor, Tensor], question: Question
    ) -> tuple[Tensor, Tensor]:
        """The twin's velocities; ``timestep`` [B] in 0..1000."""
        tokens = (video.shape[2] * (-(-video.shape[3] // 2)) * (-(-video.shape[4] // 2)), audio.shape[2])
        length, options = self._text_length(contexts[0].shape[1], tokens, video.device)
        contexts = (_padded(contexts[0], length), _padded(contexts[1], length))
        device = video.device.type
        if self._rounded or torch.is_autocast_enabled(device):
            # Tokens have the latents' type: all that is no matrix is faster so, too.
            video, audio = video.bfloat16(), audio.bfloat16()
        weights: dict[str, Tensor] = {name: Rounding.apply(self.twin.get_parameter(name)) for name in self._eight_bit}
        if self._rounded:
            contexts = (contexts[0].bfloat16(), contexts[1].bfloat16())
            learned = {name: weights.get(name, self.twin.get_parameter(name)) for name in self._rounded}
            weights |= {name: weight.bfloat16() for name, weight in learned.items()}
        shares = self._run.once(("shares", video.device), lambda: torch.tensor([0.0, 1.0], device=video.device))
        out = functional_call(
            self.twin,
            weights,
            ([video, audio], timestep, contexts[0], options),
            {
                "audio_context": contexts[1],
                "video_shares": TimestepShares(shares, question.video_free.long()),
                "audio_shares": TimestepShares(shares, question.audio_free.long()),
            },
        )
        return out[0], out[1]

    def _text_length(self, text: int, tokens: tuple[int, ...], device: torch.device) -> tuple[int, dict[str, Any]]:
        """Positions to give the twin instead of 512, and options that make the last one count for all that are left.

        Positions after the end of a text are all alike, so one of them with the others' number as a factor inside the
        softmax gives the same attention at a tenth of the cost.
        """
        length = text_room(text)
        while length in tokens:  # the text's attention is told from the others by its number of keys
            length += 1

        def attention_of_this_length() -> Callable:
            bias = torch.zeros(1, 1, 1, length, device=device)
            bias[..., -1] = math.log(TEXT_LENGTH - length + 1)

            def attention(inner: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any) -> Tensor:
                return networks.attention(q, k, v, heads, bias if k.shape[1] == length else None)

            return attention

        attention = self._run.once(("attention", length, device), attention_of_this_length)
        return length, {"optimized_attention_override": attention, RunCache.KEY: self._run}


def text_room(text: int) -> int:
    """Positions for texts of so many: at least one more, and few different numbers, for each is compiled on its own."""
    return max(64, -(-(text + 1) // 32) * 32)


def _padded(context: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(context, (0, 0, 0, length - context.shape[1]))


def mix(clean: Tensor, noise: Tensor, level: Tensor, free: Tensor) -> Tensor:
    """x(s) of latents whose third axis (frames or steps) is free or given clean; level [B], free [B, T or 1]."""
    s = (level[:, None] * free).view(len(level), 1, -1, *[1] * (clean.ndim - 3))
    return torch.lerp(clean, noise, s)


def flow_errors(
    model: Model,
    question: Question,
    latents: tuple[Tensor, Tensor],
    noises: tuple[Tensor, Tensor],
    contexts: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Mean squared error of both velocities over what is not given clean."""
    frees = question.video_free, question.audio_free
    mixed = [mix(x, e, question.level, free) for x, e, free in zip(latents, noises, frees, strict=True)]
    found = model.velocity(mixed[0], mixed[1], 1000 * question.level, contexts, question)
    errors = []
    for velocity, x, e, free in zip(found, latents, noises, frees, strict=True):
        square = (velocity.float() - (e - x)).square().mean(dim=1)
        weight = free.view(*free.shape, *[1] * (square.ndim - 2)).expand_as(square)
        errors.append((square * weight).sum() / weight.sum().clamp(min=1))
    return errors[0], errors[1]


@torch.no_grad()
def sample(
    model: Model,
    prompts: list[str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    source: torch.Generator,
    settings: Twin,
    clean_video: Tensor | None = None,
    clean_frame: Tensor | None = None,
    steps: int = 20,
    strengths: tuple[float, float] = (4.0, 3.0),
) -> tuple[Tensor, Tensor]:
    """Latents for prompts by Euler steps with guidance, ComfyUI's sampler in small.

    Args:
        shapes: of the video and the audio latent, with the batch.
        clean_video: a video latent to make sound for.
        clean_frame: a first latent frame [B, 48, 1, h, w] to go on from.
    """
    device = model.text.shared.weight.device
    video, audio = (torch.randn(shape, generator=source).to(device) for shape in shapes)
    batch, frames = video.shape[0], video.shape[2]
    free = torch.ones(batch, frames, device=device)
    if clean_video is not None:
        video, free[:] = clean_video.to(device), 0
    elif clean_frame is not None:
        video[:, :, :1], free[:, 0] = clean_frame.to(device), 0
    question = Question(
        torch.ones(2 * batch, device=device), free.repeat(2, 1), torch.ones(2 * batch, 1, device=device)
    )
    contexts = model.contexts([*prompts, *[VIDEO_NEGATIVE] * batch], [*prompts, *[AUDIO_NEGATIVE] * batch])
    places = torch.linspace(1, 0, steps + 1)
    levels = (settings.shift * places / (1 + (settings.shift - 1) * places)).tolist()
    for level, following in pairwise(levels):
        timestep = torch.full((2 * batch,), 1000 * level, device=device)
        found = model.velocity(video.repeat(2, 1, 1, 1, 1), audio.repeat(2, 1, 1), timestep, contexts, question)
        (positive, negative), (heard, unheard) = (velocity.chunk(2) for velocity in found)
        step = following - level
        video = video + step * torch.lerp(negative, positive, strengths[0]) * free.view(batch, 1, frames, 1, 1)
        audio = audio + step * torch.lerp(unheard, heard, strengths[1])
    return video.float(), audio.float()
