"""Frames and audio as H.264 and AAC can hold them, which is what ComfyUI saves videos with."""

from __future__ import annotations

from torch import Tensor

from .resampling import resampled

AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)  # Hz
AAC_CHANNELS = (1, 2, 6)  # of the layouts that ComfyUI saves
OTHERWISE = 48_000  # Hz, for audio of another rate


def encodable_images(images: Tensor) -> Tensor:
    """Images [F, H, W, 3]; the same where they can be encoded. An odd side loses its last line of pixels."""
    height, width = (side // 2 * 2 for side in images.shape[1:3])
    return images if images.shape[1:3] == (height, width) else images[:, :height, :width]


def encodable_audio(waveform: Tensor, rate: int) -> tuple[Tensor, int]:
    """Audio [B, C, S] and its rate in Hz; the same where they can be encoded.

    An odd sample rate becomes 48 kHz, channels that are no usual layout are mixed to one.
    """
    if waveform.shape[1] not in AAC_CHANNELS:
        waveform = waveform.mean(dim=1, keepdim=True)
    return (waveform, rate) if rate in AAC_RATES else (resampled(waveform, rate, OTHERWISE), OTHERWISE)
