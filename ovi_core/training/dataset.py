"""A folder of clips with captions as latents and conditionings to train on.

Beside each video lies its caption, ``talk.mp4`` and ``talk.txt``. What a clip is encoded to is kept next to it, under a
name made of the content of the file, what was wanted of it and the VAEs that encoded it; nothing is encoded twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import safetensors.torch
import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ..errors import OviError
from ..latents import joint
from ..media import resampling
from ..media.audio import checked_sound
from ..media.images import check_picture, fit
from ..spec import FPS, FRAMES_PER_LATENT, MIN_LATENT_FRAMES, ClipShape, Variant
from ..text import encode
from ..vae.checks import check_audio_vae, check_video_vae, compute_dtype

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
FORMAT = "1"  # of what is kept; with another, clips are encoded anew
KEPT_AS = torch.float16
MARGIN = 0.25  # s read beyond a clip, for rates at which its last frame is shown a little later
NAMED = 3  # files named in a message


@dataclass(frozen=True)
class Item:
    """One clip on disk, with what is said of it."""

    video: Path
    caption: str

    @classmethod
    def all_in(cls, folder: Path) -> list[Item]:
        """The clips of a folder, by name.

        Raises:
            OviError: no clips, or clips without a caption.
        """
        if not folder.is_dir():
            raise _refusal(f"no folder '{folder.name}'", "a folder in ComfyUI's input folder")
        videos = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
        if not videos:
            raise _refusal(
                f"no video in '{folder.name}'", f"clips ({', '.join(ENDINGS)}), each with its caption as a .txt file"
            )
        items = [cls(video, _caption_of(video)) for video in videos]
        silent = [item.video.name for item in items if not item.caption]
        if silent:
            more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
            raise _refusal(
                f"no caption for {', '.join(silent[:NAMED])}{more}",
                "beside each clip a .txt file of the same name, in UTF-8, with its caption",
                "Write what is seen and heard, speech as <S>words<E>, the sound as 'Audio: …' at the end.",
            )
        return items


def state_of(folder: Path) -> str:
    """Changes when videos or captions of a folder do; "" where there is no such folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    states = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.suffix.lower() in (*ENDINGS, ".txt")]
    return str(states) if states else ""


def _refusal(found: str, accepted: str, remedy: str = "Put the clips into that folder, or pick another.") -> OviError:
    return OviError(input="folder", found=found, accepted=accepted, remedy=remedy)


def _caption_of(video: Path) -> str:
    """The caption of a clip; "" where there is none."""
    try:
        return video.with_suffix(".txt").read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise _refusal(
            f"'{video.with_suffix('.txt').name}', which is no UTF-8 text",
            "captions in UTF-8",
            "Save the caption as UTF-8.",
        ) from error


@contextmanager
def _in_file(name: str) -> Iterator[None]:
    """While this lasts, what is wrong is told of a file of the folder."""
    try:
        yield
    except OviError as error:
        raise _refusal(f"'{name}' with {error.found}", error.accepted, error.remedy) from error


class Encoder:
    """Brings clips to one size, to at most one length and to Ovi's clocks, and encodes them.

    Attributes:
        notes: for the artist, of the clips encoded so far.
    """

    def __init__(self, vae: Any, audio_vae: Any, wanted: ClipShape):
        check_video_vae(vae)
        check_audio_vae(audio_vae)
        self.vae, self.audio_vae, self.wanted = vae, audio_vae, wanted
        self.notes: list[str] = []
        self._how = f"{FORMAT} {wanted} {_mark_of(vae)} {_mark_of(audio_vae)}"

    def latent_of(self, video: Path) -> dict:
        """The joint LATENT of a clip; shorter clips have a shorter one."""
        name = hashlib.sha256(self._how.encode() + _content_hash(video)).hexdigest()[:16]
        kept = video.with_name(f"{video.stem}.ovi_{name}.safetensors")
        parts = _read(kept)
        if parts is None:
            with _in_file(video.name):
                parts = self._encode(video)
            self._keep(parts, kept)
        return {"samples": joint.join(*(part.float() for part in parts))}

    def _encode(self, video: Path) -> tuple[Tensor, Tensor]:
        """Video latent [1, 48, T, H, W] and audio latent [1, 20, L] of a file, as they are kept."""
        parts = _components(video, self.wanted.seconds + MARGIN)
        count, rate = parts.images.shape[0], Fraction(parts.frame_rate)
        frames = resampling.frames_within(count / rate, Fraction(FPS))
        clip = ClipShape(
            self.wanted.width, self.wanted.height, min(self.wanted.latent_frames, 1 + (frames - 1) // FRAMES_PER_LATENT)
        )
        if clip.latent_frames < MIN_LATENT_FRAMES:
            raise _refusal(
                f"{count} picture(s) at {float(rate):g} a second",
                f"{clip.frames} pictures or more at {FPS} a second",
                "Take the clip out of the folder, or replace it by a longer one.",
            )
        images = parts.images[resampling.at_own_rate(count, rate, clip.frames)]
        check_picture(images, "folder")
        pictures = self.vae.encode(fit(images, clip.width, clip.height, "crop"))
        sound = torch.zeros(1, clip.samples)
        if parts.audio is None:
            self.notes.append(
                f"{video.name} has no sound: it teaches silence. To learn pictures alone, set audio_loss to 0."
            )
        else:
            heard = resampling.as_ovi_hears(*checked_sound(parts.audio, 1, "folder"), clip.samples)
            sound[:, : heard.shape[-1]] = heard
        return tuple(part.to("cpu", KEPT_AS) for part in (pictures, self.audio_vae.encode(sound.unsqueeze(-1))))

    def _keep(self, parts: tuple[Tensor, Tensor], kept: Path) -> None:
        partial = kept.with_suffix(".partial")
        try:
            safetensors.torch.save_file({"video": parts[0].contiguous(), "audio": parts[1].contiguous()}, partial)
            os.replace(partial, kept)
        except OSError as error:
            self.notes.append(f"{kept.name} could not be written ({error}): the clip is encoded again the next time.")


def _read(kept: Path) -> tuple[Tensor, Tensor] | None:
    """What was kept of a clip; None where nothing was, or nothing that can be read."""
    if not kept.exists():
        return None
    try:
        parts = safetensors.torch.load_file(kept)
        return parts["video"], parts["audio"]
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        logging.warning("%s is damaged and made again: %s", kept, error)
        return None


def _components(video: Path, seconds: float) -> Any:
    """Pictures, sound and frame rate of the first ``seconds`` of a file, as ComfyUI reads them."""
    try:
        parts = InputImpl.VideoFromFile(str(video), duration=seconds).get_components()
    except Exception as error:  # whatever libav and ComfyUI raise for files that are no videos
        raise _refusal(
            f"a content that cannot be read ({str(error)[:100]})",
            "videos",
            "Take the file out of the folder, or make it again, as MP4 with H.264 and AAC.",
        ) from error
    return parts


def _content_hash(file: Path) -> bytes:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _mark_of(vae: Any) -> str:
    """What tells one VAE from another: names, shapes and first values of its weights."""
    digest = hashlib.sha256(str(compute_dtype(vae)).encode())
    for name, weight in vae.first_stage_model.state_dict().items():
        start = weight.flatten()[:4].to("cpu", torch.float32).tolist()
        digest.update(f"{name} {tuple(weight.shape)} {start}".encode())
    return digest.hexdigest()


def load_dataset(
    folder: Path, clip: Any, variant: Variant, encoder: Encoder
) -> tuple[list[dict], list[list], list[str]]:
    """LATENTs and CONDITIONINGs of a folder, one each a clip, and notes for the artist.

    Captions are read first: a mistake in the last one is told before the first clip is encoded.

    Raises:
        OviError: no clips, a caption that cannot be read, a clip that cannot be used; what was encoded by then is kept.
    """
    items = Item.all_in(folder)
    conditionings, notes = [], []
    for item in items:
        with _in_file(item.video.with_suffix(".txt").name):
            conditioning, warnings = encode.encode(clip, item.caption, variant)
        conditionings.append(conditioning)
        notes += [f"{item.video.with_suffix('.txt').name}: {warning}" for warning in warnings]
    encoded, bar = [], comfy.utils.ProgressBar(len(items))
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        encoded.append(encoder.latent_of(item.video))
        bar.update(1)
    return encoded, conditionings, [*notes, *encoder.notes]
