"""Weights for other systems' stock loaders: their own keys and, where ComfyUI reads sizes from a file, small sizes.

Each file is drawn for ComfyUI's own module, so that its loader, sampler and decoder run; what they make is noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.ops
import safetensors.torch
import torch
from torch import Tensor, nn

OPERATIONS = comfy.ops.disable_weight_init
TEXT = 4096  # width of the text that T5, UMT5 and LLaMA give
LTX_SIZES = {"num_attention_heads": 2, "attention_head_dim": 64, "cross_attention_dim": 128, "caption_channels": TEXT}
LTX_VAE = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "latent_channels": 128,
    "patch_size": 4,
    "norm_layer": "pixel_norm",
    "latent_log_var": "uniform",
    "encoder_base_channels": 16,
    "decoder_base_channels": 16,
    "encoder_blocks": [["res_x", {"num_layers": 1}], *[["compress_all", {}]] * 3, ["res_x", {"num_layers": 1}]],
    "decoder_blocks": [["res_x", {"num_layers": 1}], *[["compress_all", {}]] * 3, ["res_x", {"num_layers": 1}]],
}
LTX_UPSAMPLER = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}
Weights = dict[str, Tensor]


def write(models: Path) -> None:
    """Write every stand-in into ``models``, laid out as ComfyUI's folder of that name."""
    for name, drawn in FILES.items():
        file = models / name
        file.parent.mkdir(parents=True, exist_ok=True)
        weights, config = drawn()
        metadata = {"format": "pt"} | ({"config": json.dumps(config)} if config else {})
        safetensors.torch.save_file(weights, file, metadata=metadata)


def conditioning(length: int, width: int, pooled: int = 0) -> list:
    """CONDITIONING as a text encoder of that width gives it: [1, length, width], a mask, and pooled [1, pooled]."""
    generator = torch.Generator().manual_seed(length)
    more = {"pooled_output": torch.randn(1, pooled, generator=generator)} if pooled else {}
    return [[torch.randn(1, length, width, generator=generator), more | {"attention_mask": torch.ones(1, length)}]]


def _drawn(build: Callable[[], nn.Module], prefix: str = "", only: tuple[str, ...] = ("",)) -> Weights:
    """Half-precision weights for the module that ``build`` makes; ``only``: those whose keys begin so.

    Norms have gain 1, matrices and filters a spread of 1/√(fan in), so that activations stay near unit size.
    """
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in build().state_dict().items()}
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(len(shapes))).half()

    def draw(key: str, shape: torch.Size) -> Tensor:
        if len(shape) < 2:
            return torch.full(shape, 0.0 if key.endswith(("bias", "mean-of-means")) else 1.0).half()
        count = math.prod(shape)
        values = pool.repeat(math.ceil(count / len(pool)))[:count].reshape(shape)
        return values / math.sqrt(count / shape[0])

    return {prefix + key: draw(key, shape) for key, shape in shapes.items() if key.startswith(only)}


def _unet(width: int, depths: list[int], **more: Any) -> nn.Module:
    """Stable Diffusion's UNet, 320 channels throughout. ``depths``: transformers after each residual block."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    levels = max(1, len(depths) // 2)
    rows = [depths[2 * level : 2 * level + 2] for level in range(levels)]
    given: dict[str, Any] = {"image_size": 32, "in_channels": 4, "model_channels": 320, "out_channels": 4}
    given |= {"num_res_blocks": [len(row) for row in rows], "channel_mult": [1] * levels, "context_dim": width}
    given |= {"transformer_depth": list(depths), "use_spatial_transformer": True, "legacy": False}
    given["transformer_depth_output"] = [depth for row in rows for depth in (*row, row[-1])]
    return UNetModel(**given, **more, operations=OPERATIONS)


def _image_vae() -> nn.Module:
    """Stable Diffusion's VAE, whose decoder may be narrow."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    sizes = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    sizes |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    return AutoencoderKL(ddconfig=sizes, embed_dim=4, decoder_ddconfig={**sizes, "ch": 32})


def _clip_l() -> nn.Module:
    """The text encoder of SD 1.5, whose size ComfyUI has fixed."""
    from comfy import clip_model, sd1_clip

    config = json.loads(Path(sd1_clip.__file__).with_name("sd1_clip_config.json").read_text(encoding="utf-8"))
    return clip_model.CLIPTextModel(config, torch.float32, torch.device("meta"), OPERATIONS)


def _checkpoint(unet: Callable[[], nn.Module]) -> Weights:
    """A checkpoint without text encoder, and of its VAE the decoder alone."""
    decoder = _drawn(_image_vae, "first_stage_model.", only=("decoder.", "post_quant_conv."))
    return _drawn(unet, "model.diffusion_model.") | decoder


def _sd15() -> tuple[Weights, None]:
    weights = _checkpoint(lambda: _unet(768, [1], num_heads=8, transformer_depth_middle=1))
    return weights | _drawn(_clip_l, "cond_stage_model.transformer.", only=("text_model.",)), None


def _sdxl() -> tuple[Weights, None]:
    """With as many transformers as SDXL's smallest descendant that ComfyUI knows, Segmind Vega."""
    labels = {"num_classes": "sequential", "adm_in_channels": 2816, "num_head_channels": 64}
    more = {"use_linear_in_transformer": True, "transformer_depth_middle": -1, **labels}
    return _checkpoint(lambda: _unet(2048, [0, 0, 1, 1, 2, 2], **more)), None


def _ltx() -> tuple[Weights, dict]:
    from comfy.ldm.lightricks.model import LTXVModel
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    model = _drawn(lambda: LTXVModel(**LTX_SIZES, num_layers=1, operations=OPERATIONS), "model.diffusion_model.")
    return model | _drawn(lambda: VideoVAE(config=LTX_VAE), "vae."), {"transformer": LTX_SIZES, "vae": LTX_VAE}


def _ltx_upsampler() -> tuple[Weights, dict]:
    from comfy.ldm.lightricks.latent_upsampler import LatentUpsampler

    return _drawn(lambda: LatentUpsampler.from_config(LTX_UPSAMPLER, OPERATIONS)), LTX_UPSAMPLER


def _wan(channels: int) -> tuple[Weights, None]:
    from comfy.ldm.wan.model import WanModel

    sizes = {"dim": 128, "num_heads": 1, "ffn_dim": 256, "num_layers": 1, "in_dim": channels, "out_dim": channels}
    return _drawn(lambda: WanModel(**sizes, operations=OPERATIONS)), None


def _wan_vae() -> tuple[Weights, None]:
    from comfy.ldm.wan.vae import WanVAE

    sizes = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    return _drawn(lambda: WanVAE(**sizes, temperal_downsample=[False, True, True])), None


def _hunyuan() -> tuple[Weights, None]:
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    sizes = {"in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": TEXT, "hidden_size": 128}
    sizes |= {"mlp_ratio": 4.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56]}
    sizes |= {"theta": 256, "patch_size": [1, 2, 2], "qkv_bias": True, "guidance_embed": True, "byt5": False}
    sizes |= {"meanflow": False, "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False}
    return _drawn(lambda: HunyuanVideo(**sizes, operations=OPERATIONS)), None


def _hunyuan_vae() -> tuple[Weights, None]:
    """TAEHV, HunyuanVideo's small autoencoder, in its own size."""
    from comfy.taesd.taehv import TAEHV

    return _drawn(lambda: TAEHV(latent_channels=16, latent_format=None)), None


def _cogvideox() -> tuple[Weights, None]:
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    sizes = {"num_attention_heads": 2, "num_layers": 1, "time_embed_dim": 64, "text_embed_dim": TEXT}
    given = {**sizes, "use_rotary_positional_embeddings": True, "operations": OPERATIONS}
    return _drawn(lambda: CogVideoXTransformer3DModel(**given)), None


def _cogvideox_vae() -> tuple[Weights, None]:
    """The decoder, in the size that ComfyUI has fixed; of the encoder what ComfyUI knows the VAE by."""
    from comfy.ldm.cogvideo.vae import AutoencoderKLCogVideoX

    return _drawn(lambda: AutoencoderKLCogVideoX(latent_channels=16), only=("decoder.", "encoder.conv_out.")), None


def _film() -> tuple[Weights, None]:
    """In its own size, which ComfyUI has fixed."""
    from comfy_extras.frame_interpolation_models.film_net import FILMNet

    return _drawn(FILMNet), None


def _upscaler() -> tuple[Weights, None]:
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    return _drawn(lambda: RRDBNet(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4)), None


FILES: dict[str, Callable[[], tuple[Weights, dict | None]]] = {
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": _sd15,
    "checkpoints/sd_xl_base_1.0.safetensors": _sdxl,
    "checkpoints/ltxv-2b-0.9.8-distilled.safetensors": _ltx,
    "latent_upscale_models/ltxv-spatial-upscaler-0.9.8.safetensors": _ltx_upsampler,
    "diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors": lambda: _wan(16),
    "diffusion_models/wan2.2_ti2v_5B_fp16.safetensors": lambda: _wan(48),
    "vae/wan_2.1_vae.safetensors": _wan_vae,
    "diffusion_models/hunyuan_video_t2v_720p_bf16.safetensors": _hunyuan,
    "vae_approx/taehv.safetensors": _hunyuan_vae,
    "diffusion_models/cogvideox_5b.safetensors": _cogvideox,
    "vae/cogvideox_vae.safetensors": _cogvideox_vae,
    "frame_interpolation/film_net_fp16.safetensors": _film,
    "upscale_models/RealESRGAN_x4plus.safetensors": _upscaler,
}
