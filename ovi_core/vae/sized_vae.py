"""ComfyUI's VAE object around a network whose sizes were read from its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch


class SizedVAE(comfy.sd.VAE):
    """``comfy.sd.VAE`` with every setting ComfyUI's and the network the file's.

    ComfyUI knows a kind of VAE by its keys and then builds the published size of it. So it is shown the published
    network, on the meta device, where it costs no memory: it chooses ratios, value ranges, working types, memory
    formulas and the model patcher. Then the file's own network takes that place, loaded as ComfyUI would load it.

    Args:
        published: builds a network whose state dict ComfyUI recognises; called with meta as default device.
        network: the network to use, of the file's sizes, on the CPU.
        weights: its state dict, complete and of the right shapes (``weight_files.check_weights``).
        disable_dynamic: take ComfyUI's plain patcher even where dynamic VRAM is on.
    """

    patcher: comfy.model_patcher.ModelPatcher
    vae_dtype: torch.dtype
    memory_used_encode: Callable[[tuple[int, ...], torch.dtype], float]  # bytes
    memory_used_decode: Callable[[tuple[int, ...], torch.dtype], float]

    def __init__(
        self,
        published: Callable[[], torch.nn.Module],
        network: torch.nn.Module,
        weights: Mapping[str, torch.Tensor],
        disable_dynamic: bool = False,
    ):
        with torch.device("meta"):
            super().__init__(sd=published().state_dict())
        patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else type(self.patcher)
        self.first_stage_model = network.eval().to(self.vae_dtype)
        comfy.model_management.archive_model_dtypes(network)
        self.patcher = patcher_class(network, load_device=self.device, offload_device=self.patcher.offload_device)
        network.load_state_dict(weights, assign=_is_dynamic(self.patcher))
        self.size = None
        self.model_size()

    def scale_memory(self, *, encode: float, decode: float) -> None:
        """Scale ComfyUI's memory estimates by the width of this network over that of the published one."""
        estimate_encode, estimate_decode = self.memory_used_encode, self.memory_used_decode
        self.memory_used_encode = lambda shape, dtype: encode * estimate_encode(shape, dtype)
        self.memory_used_decode = lambda shape, dtype: decode * estimate_decode(shape, dtype)


def _is_dynamic(patcher: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether ComfyUI pages weights in from the file (dynamic VRAM); older versions have no such question."""
    return hasattr(patcher, "is_dynamic") and patcher.is_dynamic()
