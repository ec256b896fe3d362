"""What clips were encoded to, kept beside them under a name made of all that it depends on.

That name outlives moves and new names of our code: it is a hash of fixed strings.
"""

from __future__ import annotations

import hashlib
import logging
import math
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import OviError
from ..safe_write import new_file
from ..spec import MIN_LATENT_FRAMES, ClipShape

FORMAT = "1"  # of the files; with another, clips are encoded again
BY_OWN_TIMES = " times 1"  # of clips whose frames come at uneven times, or whose audio does not begin with them
KEPT_AS = torch.float16
COMPUTED = {"mel_converter.mel_basis": [0.0, 0.011267280206084251, 0.022534560412168503, 0.01990498974919319]}
"""First values of what a VAE computes rather than loads, as first hashed: libraries round them in several ways."""
HEADER = 1 << 16  # bytes, more than a file has beside its values


class LatentCache:
    """Files of latents for clips of one shape, encoded by one pair of VAEs."""

    def __init__(self, vae: Any, audio_vae: Any, wanted: ClipShape):
        self.wanted = wanted
        size = f"Clip(width={wanted.width}, height={wanted.height}, video_steps={wanted.latent_frames})"
        self._made_by = f"{FORMAT} {size} {_mark_of(vae)} {_mark_of(audio_vae)}"

    def file_of(self, video: Path, by_own_times: bool) -> Path:
        """Where the latents of a clip are kept."""
        made_by = self._made_by + (BY_OWN_TIMES if by_own_times else "")
        name = hashlib.sha256(made_by.encode() + _content_hash(video)).hexdigest()[:16]
        return video.with_name(f"{video.stem}.ovi_{name}.safetensors")

    def read(self, file: Path) -> tuple[Tensor, Tensor] | None:
        """Video latent [1, 48, T, H, W] and audio latent [1, 20, L]; None where there is no file that holds such."""
        try:
            # Read, not mapped: the folder is the user's, who may change it while training runs.
            with open(file, "rb") as stream:
                most = KEPT_AS.itemsize * sum(math.prod(shape) for shape in self._shapes(self.wanted.latent_frames))
                content = stream.read(most + HEADER)
            parts = safetensors.torch.load(content)
            video, audio = parts["video"], parts["audio"]
        except FileNotFoundError:
            return None
        except Exception as error:  # safetensors raises its own, and whatever its header leads to
            logging.warning("%s is damaged; the clip is encoded again: %s", file, error)
            return None
        if (fault := self._fault(video, audio)) is not None:
            logging.warning("%s holds %s; the clip is encoded again.", file, fault)
            return None
        return video, audio

    def write(self, file: Path, video: Tensor, audio: Tensor) -> str:
        """Keep latents; returns a note for the user where that is not possible, "" otherwise."""
        size = KEPT_AS.itemsize * (video.numel() + audio.numel())
        try:
            with new_file(file, input="folder", needed=size) as part:
                safetensors.torch.save_file({"video": video.contiguous(), "audio": audio.contiguous()}, part)
        except (OviError, OSError, safetensors.SafetensorError) as error:
            found = error.found if isinstance(error, OviError) else error
            return f"{file.name} could not be written ({found}): the clip is encoded again the next time."
        return ""

    def _shapes(self, latent_frames: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = ClipShape(self.wanted.width, self.wanted.height, latent_frames)
        return shape.video_shape(), shape.audio_shape()

    def _fault(self, video: Tensor, audio: Tensor) -> str | None:
        """What is wrong with latents that were read; None where nothing is."""
        latent_frames = video.shape[2] if video.ndim == 5 else 0
        if not MIN_LATENT_FRAMES <= latent_frames <= self.wanted.latent_frames:
            return f"a video latent of shape {list(video.shape)}"
        if (tuple(video.shape), tuple(audio.shape)) != self._shapes(latent_frames):
            return f"latents of shapes {list(video.shape)} and {list(audio.shape)}"
        if video.dtype != KEPT_AS or audio.dtype != KEPT_AS:
            return f"latents of type {video.dtype} and {audio.dtype}"
        if not all(bool(part.isfinite().all()) for part in (video, audio)):
            return "values that are not numbers"
        return None


def _content_hash(file: Path) -> bytes:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _mark_of(vae: Any) -> str:
    """A hash that differs between VAEs: names, shapes and first values of the weights."""
    digest = hashlib.sha256(str(vae.vae_dtype).encode())
    for name, weight in vae.first_stage_model.state_dict().items():
        start = COMPUTED.get(name) or weight.flatten()[:4].to("cpu", torch.float32).tolist()
        digest.update(f"{name} {tuple(weight.shape)} {start}".encode())
    return digest.hexdigest()
