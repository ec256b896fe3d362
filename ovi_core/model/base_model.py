"""Ovi as one of ComfyUI's models: configuration, conditioning, latents.

A joint latent is ComfyUI's ``NestedTensor((video [B, 48, T, H, W], audio [B, 20, L]))``. While it samples, ComfyUI
packs both into one [B, 1, N] with N = 48 T H W + 20 L, so what differs between the two parts (latent scaling, masks,
guidance) needs the shapes to take the pack apart. One part alone: see ``latents``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor
from torch.nn.functional import max_pool3d

from ..errors import OviError
from ..latents import joint
from ..latents.denoise_mask import follows
from ..network.run_cache import RunCache, SamplingRun
from ..network.timesteps import TimestepShares
from ..network.transformer import PATCH, OviTransformer
from ..spec import TEXT_LENGTH
from ..stable_names import stable_name
from . import checkpoint, memory_estimate
from .comfyui import known_options, multiplies_in_fp8
from .latent_format import OviLatentFormat
from .reference_conds import NAMES, reference_conds, reference_lengths, reference_shapes

AUDIO_TEXT = "ovi_audio_text"
"""Key of a conditioning's options: text [B, S, text_dim] for the audio tower, where it is another than the video's."""
NEGATIVE_TEXT = "ovi_negative_text"
"""Key of a conditioning's options: the negative prompt's texts of both towers, for ``network.text_attention``."""

NEGATIVE_CONTEXTS = ("negative_context", "negative_audio_context")


class OviModelConfig(comfy.supported_models_base.BASE):
    """What ComfyUI wants to know about the model before it builds it."""

    unet_config = {"image_model": "ovi"}
    unet_extra_config: dict = {}
    sampling_settings = {"shift": 5.0}
    latent_format = OviLatentFormat
    supported_inference_dtypes = [torch.bfloat16, torch.float32]  # float16 overflows in the published weights

    def model_type(self, state_dict: dict, prefix: str = "") -> comfy.model_base.ModelType:
        return comfy.model_base.ModelType.FLOW

    def get_model(self, state_dict: dict, prefix: str = "", device: Any = None) -> Ovi:
        return Ovi(self, device=device)

    def set_inference_dtype(self, dtype: Any, manual_cast_dtype: Any, **options: Any) -> None:
        # ComfyUI 0.26 does not take the device.
        super().set_inference_dtype(dtype, manual_cast_dtype, **known_options(super().set_inference_dtype, options))

    def process_unet_state_dict_for_saving(self, state_dict: dict) -> dict:
        # With its own prefix the file is not taken for a plain Wan 2.2 model when it is loaded again.
        return super().process_unet_state_dict_for_saving(checkpoint.to_published_keys(state_dict))


@stable_name("model.Ovi")
class Ovi(comfy.model_base.BaseModel):
    """ComfyUI's side of the twin transformer."""

    def __init__(self, model_config: OviModelConfig, device: Any = None):
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=OviTransformer)
        self.sampling_run: SamplingRun | None = None
        self._last_shapes: Sequence[Sequence[int]] = ()

    @property
    def num_layers(self) -> int:
        """Number of block pairs."""
        return self.diffusion_model.config.num_layers

    @contextmanager
    def sampling(self, run: SamplingRun) -> Iterator[None]:
        """Put ``run`` where ComfyUI's calls without options find it, and the one before back, however the run ends."""
        before, self._last_shapes = self.sampling_run, run.latent_shapes
        self.sampling_run = self.latent_format.sampling_run = run
        try:
            yield
        finally:
            self.sampling_run = self.latent_format.sampling_run = before

    # -- latents ------------------------------------------------------------------------------------------------

    def _on_video(self, latent: Any, scale: Any) -> Any:
        """Apply ``scale`` to the video part of a latent in any of the forms ComfyUI uses; audio has no scaling."""
        if getattr(latent, "is_nested", False):
            video, *audio = latent.unbind()
            return NestedTensor([scale(video), *audio])
        if latent.ndim == 5:
            return scale(latent)
        # before 0.30 ComfyUI also asks for the scale of a packed prediction when the run has ended
        shapes = self._last_shapes if self.sampling_run is None else self.sampling_run.latent_shapes
        if len(shapes) == 2 and latent.shape[1:] == (1, sum(math.prod(shape[1:]) for shape in shapes)):
            parts = comfy.utils.unpack_latents(latent, shapes)
            return comfy.utils.pack_latents([scale(parts[0]), parts[1]])[0]
        return latent

    def process_latent_in(self, latent: Any) -> Any:
        return self._on_video(latent, super().process_latent_in)

    def process_latent_out(self, latent: Any) -> Any:
        return self._on_video(latent, super().process_latent_out)

    def scale_latent_inpaint(self, sigma: Any, noise: Any, latent_image: Any, **kwargs: Any) -> Any:
        """What is kept is shown to the model clean, at timestep 0, as the reference shows the first frame.

        Where the noise mask says ``latents.FOLLOW`` it is shown at the noise level of the step.
        """
        run = self.sampling_run
        if run is None or run.follows is None:
            return latent_image
        noised = super().scale_latent_inpaint(sigma=sigma, noise=noise, latent_image=latent_image, **kwargs)
        return torch.where(run.follows, noised, latent_image)

    def preview_video(self, x0: Tensor) -> Tensor:
        """The video part of a step's packed prediction ``x0``; the preview shows the audio part under it."""
        run = self.sampling_run or SamplingRun()
        video, *audio = comfy.utils.unpack_latents(x0, run.latent_shapes)
        run.preview_audio = audio[0][0] if audio else None
        return video

    def memory_required(self, input_shape: Any, cond_shapes: Any = None, **_: Any) -> float:
        """Bytes beside the weights that ComfyUI keeps free for a forward; see ``memory_estimate``."""
        run = self.sampling_run or SamplingRun()
        tokens = memory_estimate.tokens_of(input_shape, run.latent_shapes, reference_lengths(cond_shapes))
        itemsize = comfy.model_management.dtype_size(self.get_dtype_inference())
        asking = _asking_twice(len((cond_shapes or {}).get(NEGATIVE_CONTEXTS[0], ())), run.negatives)
        return memory_estimate.activation_bytes(
            self.diffusion_model.config,
            input_shape[0],
            *tokens,
            itemsize,
            run.chunk_tokens,
            asking,
            multiplies_in_fp8(self.diffusion_model.blocks[0].ffn[2]),
        )

    # -- conditioning -------------------------------------------------------------------------------------------

    def extra_conds(self, **kwargs: Any) -> dict:
        """What goes into every forward of one conditioning; called once a run."""
        out = super().extra_conds(**kwargs)
        shapes = kwargs.get("latent_shapes") or [kwargs["noise"].shape]
        out["latent_shapes"] = comfy.conds.CONDConstant(shapes)
        text = kwargs.get("cross_attn")
        prompt_type = kwargs.get("prompt_type", "conditioning")
        audio_text = kwargs.get(AUDIO_TEXT, text)
        # Always both, so that positive and negative run as one batch whichever of them is dual.
        device = kwargs["device"]  # at once, or every step would copy them there
        out["c_crossattn"] = comfy.conds.CONDRegular(self._full_length(text, prompt_type).to(device))
        out["audio_context"] = comfy.conds.CONDRegular(self._full_length(audio_text, prompt_type).to(device))
        for name, other in zip(NEGATIVE_CONTEXTS, kwargs.get(NEGATIVE_TEXT) or (), strict=False):
            out[name] = comfy.conds.CONDRegular(self._full_length(other, "negative").to(device))
        out["keep_text_keys"] = comfy.conds.CONDConstant(self._may_keep_text_keys(kwargs))
        shares = self._shares(kwargs.get("denoise_mask"), shapes)
        for name, share in zip(("video_shares", "audio_shares"), shares, strict=True):
            if share is not None:
                out[name] = comfy.conds.CONDConstant(share)
        return {**out, **reference_conds(kwargs, shapes, super().process_latent_in, device)}

    def extra_conds_shapes(self, **kwargs: Any) -> dict:
        """Shapes of conditions that take memory of their own, which ComfyUI asks for before a run."""
        texts = kwargs.get(NEGATIVE_TEXT) or ()
        width = self.diffusion_model.config.text_dim
        negative = {name: [1, TEXT_LENGTH, width] for name, _ in zip(NEGATIVE_CONTEXTS, texts, strict=False)}
        return {**super().extra_conds_shapes(**kwargs), **negative, **reference_shapes(kwargs)}

    def _full_length(self, text: Any, prompt_type: str) -> Tensor:
        """Pad text [B, S, text_dim] with zeros to the 512 positions the model was trained with."""
        width = self.diffusion_model.config.text_dim
        if found := _fault_of_text(text, width):
            raise OviError(
                input=prompt_type,
                found=f"a conditioning with {found}",
                accepted=f"a conditioning of width {width} and of finite numbers, made by umt5-xxl",
                remedy="Load umt5_xxl with CLIPLoader (type wan), and encode with Ovi Text Encode.",
            )
        return torch.nn.functional.pad(text, (0, 0, 0, max(0, TEXT_LENGTH - text.shape[1])))

    def _may_keep_text_keys(self, kwargs: dict) -> bool:
        """Whether text keys and values of all blocks may stay in memory for the run.

        Not with hooks, which change weights from step to step; not where the step itself may need the room.
        """
        if kwargs.get("hooks") is not None:
            return False
        config, noise, dtype = self.diffusion_model.config, kwargs["noise"], self.get_dtype_inference()
        count = (self.sampling_run or SamplingRun()).conditionings
        each = noise.shape[0] * 2 * 2 * config.num_layers * TEXT_LENGTH * config.dim * dtype.itemsize
        texts, shapes = count * each, {}
        if kwargs.get(NEGATIVE_TEXT):
            texts, shapes = 2 * texts, {NEGATIVE_CONTEXTS[0]: [[1]] * count}
        step = self.memory_required((count * noise.shape[0], *noise.shape[1:]), shapes)
        return texts + step < comfy.model_management.get_free_memory(kwargs["device"])

    def _shares(
        self, denoise_mask: Tensor | None, latent_shapes: Sequence[Sequence[int]]
    ) -> tuple[TimestepShares | None, TimestepShares | None]:
        """Timestep shares of the video and audio tokens under a noise mask packed like the latent."""
        if denoise_mask is None:
            return None, None
        run = self.sampling_run or RunCache()
        return run.once(("timestep shares", denoise_mask), lambda: _shares_of(denoise_mask, latent_shapes))

    # -- sampling and weights -----------------------------------------------------------------------------------

    def load_model_weights(self, sd: dict, unet_prefix: str = "", assign: bool = False) -> Ovi:
        """Put the weights ``sd``, by the module's names, in place; raises OviError unless they are all there."""
        checkpoint.check_complete(sd, self.diffusion_model.config)
        return super().load_model_weights(sd, unet_prefix, assign=assign)

    def map_context_window_to_modalities(self, primary_indices: list, latent_shapes: list, dim: int) -> list:
        """For ComfyUI's context windows: the audio frames of the given video latent frames."""
        if len(latent_shapes) < 2:
            return [primary_indices]
        frames, steps = latent_shapes[0][dim], latent_shapes[1][-1]
        sounding = (
            range(math.floor(frame * steps / frames), math.ceil((frame + 1) * steps / frames))
            for frame in primary_indices
        )
        # in the order of the frames, which may run over the end to the beginning
        return [primary_indices, list(dict.fromkeys(chain.from_iterable(sounding)))]

    def resize_cond_for_context_window(self, cond_key: str, cond_value: Any, window: Any, *args: Any, **kw: Any) -> Any:
        """For ComfyUI's context windows: the timestep shares of what a window shows; None for everything else."""
        run = self.sampling_run or SamplingRun()
        if cond_key in NAMES:
            return cond_value  # people are in every window, whatever their axes are as long as
        if cond_key == "video_shares":
            anchor = getattr(window, "causal_anchor_index", None)
            shown = [*([] if anchor is None else [anchor]), *window.index_list]
            for frame in run.retained_frames:
                shown[frame] = frame
        elif cond_key == "audio_shares":
            window = window.modality_windows[1]
            shown = window.index_list
        else:
            return None
        shares = cond_value.cond
        part = run.once((cond_key, shares, tuple(shown)), lambda: shares.of_stretches(shown, window.total_frames))
        return comfy.conds.CONDConstant(part)


def _asking_twice(conditionings: int, negatives: int) -> float:
    """The share of a batch's ``conditionings`` that ask the negative text too: all but up to ``negatives`` of them."""
    return max(1, conditionings - negatives) / conditionings if conditionings else 0.0


def _shares_of(
    denoise_mask: Tensor, latent_shapes: Sequence[Sequence[int]]
) -> tuple[TimestepShares | None, TimestepShares | None]:
    noise = denoise_mask.masked_fill(follows(denoise_mask), 1)
    video, *audio = comfy.utils.unpack_latents(noise, latent_shapes)
    # A token of 2x2 cells is as free as its freest cell; an odd edge is padded to a token of its own.
    tokens = max_pool3d(video[:, :1].float(), PATCH, ceil_mode=True)
    frames = video.shape[2]
    return (
        TimestepShares.of_mask(tokens.flatten(1), frames),
        TimestepShares.of_mask(audio[0].float().amax(dim=1), audio[0].shape[-1]) if audio else None,
    )


def require_ovi(patcher: comfy.model_patcher.ModelPatcher, input: str = "model") -> Ovi:
    """The Ovi model inside a MODEL.

    Raises:
        OviError: a MODEL of another family.
    """
    if isinstance(patcher.model, Ovi):
        return patcher.model
    raise OviError(
        input=input,
        found=f"a {type(patcher.model).__name__} model",
        accepted="an Ovi model",
        remedy="Connect Load Ovi Model or Load Ovi (all in one).",
    )


def _fault_of_text(text: Any, width: int) -> str:
    """What keeps a conditioning's text [B, S, ``width``] from being read; "" where nothing does."""
    if not isinstance(text, Tensor):
        return "no text" if text is None else f"a {type(text).__name__} for text"
    if text.ndim != 3 or text.shape[-1] != width:
        return f"text of width {text.shape[-1] if text.ndim else 0}"
    if not text.shape[0]:
        return "text of no prompt"
    if not joint.is_plain(text) or text.is_complex():
        return f"text of {joint.storage(text)}"
    # an encoder in fp16 may overflow
    return "" if bool(torch.isfinite(text).all()) else "text that holds NaN or infinite values"
