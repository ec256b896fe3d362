"""A folder of clips with captions as latents and conditionings to train on.

What a clip is encoded to is kept next to it (:mod:`.latent_cache`), so that no clip is encoded twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
from torch import Tensor

from ..errors import OviError
from ..latents import joint
from ..media import resampling
from ..media.audio import checked_audio
from ..media.images import checked_images, fit
from ..spec import FPS, MIN_LATENT_FRAMES, ClipShape, Variant, latent_frames_within
from ..text import encode
from ..vae.checks import check_audio_vae, check_video_vae
from ..vae.encode_audio import as_vae_input, encode_mono
from .clip_folder import Item, refusal
from .clip_reader import ClipStart, DamagedClip, Timing, read_clip, read_timing
from .latent_cache import KEPT_AS, LatentCache

MARGIN = 0.25  # s read beyond a clip, for rates at which its last frame is shown a little later


class Encoder:
    """Brings clips to one size, to at most one length and to Ovi's rates, and encodes them.

    Attributes:
        notes: for the user, of the clips encoded so far.
    """

    def __init__(self, vae: Any, audio_vae: Any, wanted: ClipShape):
        check_video_vae(vae)
        check_audio_vae(audio_vae)
        self.vae, self.audio_vae, self.wanted = vae, audio_vae, wanted
        self.notes: list[str] = []
        self._cache = LatentCache(vae, audio_vae, wanted)
        self._seconds = wanted.seconds + MARGIN

    def latent_of(self, video: Path) -> dict:
        """The joint LATENT of a clip; shorter clips have a shorter one.

        Raises:
            OviError: a clip that cannot be used.
        """
        with _in_file(video.name):
            timing = read_timing(video, self._seconds)
            kept = self._cache.file_of(video, by_own_times=not timing.is_even)
            parts = self._cache.read(kept)
            if parts is None:
                parts = self._encode(video, timing)
                if note := self._cache.write(kept, *parts):
                    self.notes.append(note)
        return {"samples": joint.join(*(part.float() for part in parts))}

    def _encode(self, video: Path, timing: Timing) -> tuple[Tensor, Tensor]:
        """Video latent [1, 48, T, H, W] and audio latent [1, 20, L] of a file, as they are kept."""
        start = read_clip(video, timing, self._seconds)
        shape = self._shape_of(start)
        images = start.frames(shape.frames)
        images = checked_images(images, "folder")
        frames = self.vae.encode(fit(images, shape.width, shape.height, "crop"))
        audio = encode_mono(self.audio_vae, self._mono(video, start, shape.audio_frames), shape.audio_frames)
        return frames.to("cpu", KEPT_AS), audio.to("cpu", KEPT_AS)

    def _shape_of(self, start: ClipStart) -> ClipShape:
        """The wanted shape, or that of as many latent frames as the clip fills."""
        frames = resampling.frames_within(start.length, Fraction(FPS))
        latent_frames = min(self.wanted.latent_frames, latent_frames_within(frames))
        if latent_frames < MIN_LATENT_FRAMES:
            least = ClipShape(self.wanted.width, self.wanted.height, MIN_LATENT_FRAMES)
            raise refusal(
                f"{start.images.shape[0]} frame(s) at {float(start.timing.rate):g} a second",
                f"{least.frames} frames or more at {FPS} a second",
                "Take the clip out of the folder, or replace it by a longer one.",
            )
        return ClipShape(self.wanted.width, self.wanted.height, latent_frames)

    def _mono(self, video: Path, start: ClipStart, audio_frames: int) -> Tensor:
        """The clip's audio [1, S] at 16 kHz, for up to ``audio_frames``; without a sample where it has none."""
        if start.audio is None:
            self.notes.append(
                f"{video.name} has no audio: it teaches silence. To learn images alone, set audio_loss to 0."
            )
            return start.images.new_zeros(1, 0)
        return as_vae_input(*checked_audio(start.audio, 1, "folder"), audio_frames)


@contextmanager
def _in_file(name: str) -> Iterator[None]:
    """While this lasts, what is wrong is reported of a file of the folder."""
    try:
        yield
    except DamagedClip as error:
        raise refusal(
            f"'{name}' with {error}",
            "videos",
            "Take the file out of the folder, or export it again, as MP4 with H.264 and AAC.",
        ) from error
    except OviError as error:
        raise refusal(f"'{name}' with {error.found}", error.accepted, error.remedy) from error


def load_dataset(
    folder: Path, text_encoder: Any, variant: Variant, encoder: Encoder
) -> tuple[list[dict], list[list], list[str]]:
    """LATENTs and CONDITIONINGs of a folder, one each a clip, and notes for the user.

    Captions are read first: a mistake in the last one is reported before the first clip is encoded.

    Raises:
        OviError: no clips, a caption that cannot be read, a clip that cannot be used; what was encoded by then is kept.
    """
    items = Item.all_in(folder)
    conditionings, notes = [], []
    for item in items:
        with _in_file(item.caption_file):
            conditioning, warnings = encode.encode(text_encoder, item.caption, variant)
        conditionings.append(conditioning)
        notes += [f"{item.caption_file}: {warning}" for warning in warnings]
    encoded, bar = [], comfy.utils.ProgressBar(len(items))
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        encoded.append(encoder.latent_of(item.video))
        bar.update(1)
    return encoded, conditionings, [*notes, *encoder.notes]
