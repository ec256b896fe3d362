"""ComfyUI still has everything that the pack uses beyond its documented interface.

One row per use. A row that fails names what ComfyUI has changed and which file of ours needs it; the other tests then
say what it breaks. Rows stand in the order of our packages.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Use:
    """One name of ComfyUI that we use.

    Attributes:
        name: dotted, such as ``comfy.samplers.CFGGuider.inner_sample``.
        file: ours that uses it, from the root of the repository.
        positional: its first parameters in order, without ``self``, as we pass or take them.
        keywords: parameters that we pass or take by name; ``**kwargs`` takes any.
        attributes: that it has.
        mentions: words in its source: keys of dictionaries and attributes of instances that we rely on.
        kind: ``callable``, ``class`` or ``value``.
        optional: ComfyUI may lack it (older or newer ones do), and the pack does without.
    """

    name: str
    file: str
    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    kind: str = "callable"
    optional: bool = False


USES = [
    # -- weights
    Use("comfy.utils.load_torch_file", "ovi_core/weights/comfyui.py", positional=("ckpt",)),
    Use("comfy.quant_ops.QUANT_ALGOS", "ovi_core/weights/comfyui.py", kind="value"),
    Use("comfy.quant_ops.QuantizedLayout", "ovi_core/weights/comfyui.py", kind="class", attributes=("dequantize",)),
    Use("comfy.quant_ops.QuantizedTensor", "ovi_core/weights/comfyui.py", kind="class", attributes=("dequantize",)),
    Use("comfy.quant_ops.register_layout_class", "ovi_core/weights/comfyui.py"),
    Use("comfy_kitchen.tensor.base.BaseLayoutParams", "ovi_core/weights/comfyui.py", kind="class"),
    Use(
        "comfy.ops.mixed_precision_ops",
        "ovi_core/weights/comfyui.py",
        positional=("quant_config", "compute_dtype"),
        keywords=("full_precision_mm",),
        mentions=("class Linear", "class Embedding", "forward_comfy_cast_weights", "_load_from_state_dict"),
    ),
    Use("comfy.lora.calculate_weight", "ovi_core/weights/comfyui.py", positional=("patches", "weight", "key")),
    Use("comfy.model_patcher.LowVramPatch", "ovi_core/weights/comfyui.py", positional=("key", "patches")),
    Use("comfy.model_patcher.get_key_weight", "ovi_core/weights/comfyui.py", positional=("model", "key")),
    Use(
        "comfy.model_patcher.ModelPatcher.set_attachments",
        "ovi_core/weights/variant_note.py",
        positional=("key", "attachment"),
    ),
    # -- text
    Use("comfy.sd.detect_te_model", "ovi_core/text/comfyui.py", positional=("sd",)),
    Use("comfy.sd.TEModel", "ovi_core/text/comfyui.py", kind="class", attributes=("T5_XXL",)),
    Use("comfy.text_encoders.wan.te", "ovi_core/text/comfyui.py", keywords=("dtype_t5", "t5_quantization_metadata")),
    Use("comfy.text_encoders.wan.WanT5Tokenizer", "ovi_core/text/comfyui.py", kind="class"),
    Use("comfy.text_encoders.wan.UMT5XXlTokenizer", "ovi_core/text/comfyui.py", kind="class"),
    Use("comfy.text_encoders.sd3_clip.t5_xxl_detect", "ovi_core/text/comfyui.py", positional=("state_dict",)),
    Use(
        "comfy.text_encoders.spiece_tokenizer.SPieceTokenizer",
        "ovi_core/text/comfyui.py",
        kind="class",
        positional=("tokenizer_path",),
        mentions=("self.tokenizer = sentencepiece.SentencePieceProcessor",),
    ),
    Use(
        "comfy.text_encoders.t5.T5",
        "ovi_core/text/comfyui.py",
        kind="class",
        positional=("config_dict", "dtype", "device", "operations"),
    ),
    Use(
        "comfy.utils.convert_old_quants",
        "ovi_core/text/comfyui.py",
        positional=("state_dict",),
        keywords=("model_prefix", "metadata"),
    ),
    Use("comfy.sd.load_text_encoder_state_dicts", "ovi_core/text/umt5.py", keywords=("disable_dynamic",)),
    Use("comfy.sd.CLIP", "ovi_core/text/umt5.py", kind="class", keywords=("tokenizer_data", "state_dict")),
    # -- vae
    Use(
        "comfy.sd.VAE",
        "ovi_core/vae/sized_vae.py",
        kind="class",
        mentions=("first_stage_model", "vae_dtype", "memory_used_encode", "memory_used_decode", "self.patcher", "size"),
    ),
    Use("comfy.sd.VAE.model_size", "ovi_core/vae/sized_vae.py"),
    Use("comfy.model_management.archive_model_dtypes", "ovi_core/vae/sized_vae.py", positional=("model",)),
    Use("comfy.sd.VAE.vae_encode_crop_pixels", "ovi_core/vae/audio_vae.py", positional=("pixels",)),
    Use("comfy.sd.VAE.encode_tiled_1d", "ovi_core/vae/audio_vae.py", positional=("samples",)),
    Use(
        "comfy.ldm.mmaudio.vae.autoencoder.MelConverter",
        "ovi_core/vae/audio_vae.py",
        keywords=("sampling_rate", "n_fft", "num_mels", "hop_size", "win_size", "fmin", "fmax", "norm_fn"),
        mentions=("mel_basis", "hann_window"),
    ),
    Use("comfy.ldm.mmaudio.vae.autoencoder.AudioAutoencoder", "ovi_core/vae/audio_vae.py", keywords=("mode",)),
    Use("comfy.ldm.mmaudio.vae.bigvgan.BigVGANVocoder", "ovi_core/vae/audio_vae.py", positional=("h",)),
    Use(
        "comfy.ldm.mmaudio.vae.vae.VAE",
        "ovi_core/vae/audio_vae.py",
        keywords=("data_dim", "embed_dim", "hidden_dim"),
    ),
    Use(
        "comfy.ldm.wan.vae2_2.WanVAE",
        "ovi_core/vae/video_vae.py",
        keywords=("dim", "dec_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample"),
    ),
    # -- decoding
    Use("comfy.model_management.get_total_memory", "ovi_core/decoding/towers.py", positional=("dev",)),
    Use("comfy.model_management.get_free_memory", "ovi_core/decoding/towers.py", positional=("dev",)),
    Use("comfy.model_management.current_loaded_models", "ovi_core/decoding/towers.py", kind="value"),
    Use("comfy.model_management.LoadedModel.model_loaded_memory", "ovi_core/decoding/towers.py"),
    Use("comfy.sd.VAE", "ovi_core/decoding/towers.py", kind="class", mentions=("memory_used_decode", "vae_dtype")),
    Use(
        "comfy.sd.VAE.decode_tiled",
        "ovi_core/decoding/towers.py",
        positional=("samples",),
        keywords=("tile_x", "tile_y", "overlap", "tile_t", "overlap_t"),
    ),
    # -- loading
    Use(
        "comfy.model_management.unet_dtype",
        "ovi_core/loading/comfyui.py",
        keywords=("model_params", "supported_dtypes", "weight_dtype"),
    ),
    Use(
        "comfy.model_management.unet_manual_cast",
        "ovi_core/loading/comfyui.py",
        positional=("weight_dtype", "inference_device", "supported_dtypes"),
    ),
    Use("comfy.model_management.unet_offload_device", "ovi_core/loading/comfyui.py"),
    Use("comfy.utils.weight_dtype", "ovi_core/loading/comfyui.py", positional=("sd",)),
    Use("comfy.utils.calculate_parameters", "ovi_core/loading/comfyui.py", positional=("sd",)),
    Use("comfy.patcher_extension.WrappersMP", "ovi_core/loading/comfyui.py", attributes=("OUTER_SAMPLE",)),
    Use("folder_paths.folder_names_and_paths", "ovi_core/loading/comfyui.py", kind="value"),
    Use("comfyui_version.__version__", "ovi_core/loading/comfyui.py", kind="value"),
    Use("comfy.model_management.get_total_memory", "ovi_core/loading/comfyui.py", positional=("dev",)),
    Use("comfy.model_management.get_free_memory", "ovi_core/loading/comfyui.py", positional=("dev",)),
    Use("comfy.cli_args.args", "ovi_core/loading/comfyui.py", kind="value", attributes=("lowvram", "reserve_vram")),
    # -- network
    Use(
        "comfy.ops.cast_bias_weight",
        "ovi_core/network/comfyui.py",
        positional=("s",),
        keywords=("dtype", "device", "bias_dtype", "offloadable"),
        mentions=("weight_function",),
    ),
    Use(
        "comfy.ops.uncast_bias_weight",
        "ovi_core/network/comfyui.py",
        positional=("s", "weight", "bias", "offload_stream"),
    ),
    Use(
        "comfy.ops.CastWeightBiasOp",
        "ovi_core/network/comfyui.py",
        kind="class",
        attributes=("comfy_cast_weights", "weight_function", "bias_function"),
    ),
    Use("comfy.ops.manual_cast", "ovi_core/network/comfyui.py", kind="class", attributes=("RMSNorm", "LayerNorm")),
    Use("comfy.ldm.common_dit.pad_to_patch_size", "ovi_core/network/comfyui.py", positional=("img", "patch_size")),
    Use("comfy.ldm.flux.math.apply_rope1", "ovi_core/network/comfyui.py", positional=("x", "freqs_cis")),
    Use("comfy.ldm.modules.attention.optimized_attention", "ovi_core/network/comfyui.py"),
    Use(
        "comfy.ldm.modules.attention.attention_pytorch",
        "ovi_core/network/comfyui.py",
        positional=("q", "k", "v", "heads"),
    ),
    Use("comfy.cli_args.args", "ovi_core/network/comfyui.py", kind="value", attributes=("use_sage_attention",)),
    Use("comfy_kitchen.list_backends", "ovi_core/network/comfyui.py", optional=True),
    Use("comfy_kitchen.adaln", "ovi_core/network/comfyui.py", positional=("x", "scale", "shift", "eps"), optional=True),
    Use(
        "comfy.ops.linear_input_act",
        "ovi_core/network/comfyui.py",
        positional=("linear", "x", "input_act"),
        mentions=("TensorWiseINT8Layout", "_layout_cls"),
        optional=True,
    ),
    Use(
        "comfy.quant_ops.QuantizedTensor.from_float",
        "ovi_core/network/comfyui.py",
        positional=("tensor", "layout_cls"),
        keywords=("scale",),
    ),
    Use(
        "comfy.ops.mixed_precision_ops",
        "ovi_core/network/comfyui.py",
        mentions=(
            "not isinstance(input, QuantizedTensor)",
            "input_scale",
            "pre_quant_scale",
            "_full_precision_mm",
            "layout_type",
        ),
    ),
    Use(
        "comfy.k_diffusion.sampling.sample_euler",
        "ovi_core/sampling/comfyui.py",
        positional=("model", "x", "sigmas", "extra_args", "callback"),
        keywords=("s_churn",),
    ),
    Use(
        "comfy.samplers.uni_pc.sample_unipc",
        "ovi_core/sampling/comfyui.py",
        positional=("model", "noise", "sigmas", "extra_args", "callback"),
        optional=True,
    ),
    Use(
        "comfy.ldm.modules.attention.wrap_attn",
        "ovi_core/network/layers.py",
        mentions=("transformer_options", "optimized_attention_override"),
    ),
    Use(
        "comfy.patcher_extension.WrapperExecutor.new_class_executor",
        "ovi_core/network/transformer.py",
        positional=("original", "class_obj", "wrappers"),
    ),
    Use("comfy.patcher_extension.WrapperExecutor.execute", "ovi_core/network/transformer.py"),
    Use(
        "comfy.patcher_extension.get_all_wrappers",
        "ovi_core/network/comfyui.py",
        positional=("wrapper_type", "transformer_options"),
    ),
    Use(
        "comfy.model_base.BaseModel._apply_model",
        "ovi_core/model/base_model.py",
        mentions=("prefetch_dynamic_vbars", "latent_shapes", "extra_conds"),
    ),
    Use(
        "comfy.model_prefetch.make_prefetch_queue",
        "ovi_core/network/comfyui.py",
        positional=("queue", "device", "transformer_options"),
        mentions=("prefetch_dynamic_vbars",),
        optional=True,
    ),
    Use(
        "comfy.model_prefetch.prefetch_queue_pop",
        "ovi_core/network/comfyui.py",
        positional=("queue", "device", "module"),
        optional=True,
    ),
    # -- model
    Use(
        "comfy.lora.load_lora",
        "ovi_core/model/comfyui.py",
        positional=("lora", "to_load"),
        keywords=("log_missing",),
        mentions=("weight_adapter.adapters", "{}.diff", "{}.diff_b", "{}.set_weight", "{}.alpha"),
    ),
    Use("comfy.model_management.supports_fp8_compute", "ovi_core/model/comfyui.py", positional=("device",)),
    Use("comfy.ops.fp8_ops", "ovi_core/model/comfyui.py", kind="class", attributes=("Linear",), optional=True),
    Use("comfy.weight_adapter", "ovi_core/model/lora_checks.py", kind="value", attributes=("adapters",)),
    Use(
        "comfy.supported_models_base.BASE.set_inference_dtype",
        "ovi_core/model/base_model.py",
        positional=("dtype", "manual_cast_dtype"),
    ),
    Use("comfy.supported_models_base.BASE.process_unet_state_dict_for_saving", "ovi_core/model/base_model.py"),
    Use(
        "comfy.model_base.BaseModel.load_model_weights",
        "ovi_core/model/base_model.py",
        positional=("sd", "unet_prefix"),
        keywords=("assign",),
    ),
    Use(
        "comfy.model_base.BaseModel.scale_latent_inpaint",
        "ovi_core/model/base_model.py",
        keywords=("sigma", "noise", "latent_image"),
    ),
    Use("comfy.model_base.BaseModel.extra_conds", "ovi_core/model/base_model.py"),
    Use("comfy.model_base.BaseModel.process_latent_in", "ovi_core/model/base_model.py"),
    Use("comfy.model_base.BaseModel.process_latent_out", "ovi_core/model/base_model.py"),
    Use("comfy.model_base.BaseModel.memory_required", "ovi_core/model/base_model.py", positional=("input_shape",)),
    Use(
        "comfy.latent_formats.Wan22",
        "ovi_core/model/latent_format.py",
        kind="class",
        mentions=("latent_rgb_factors", "latent_rgb_factors_bias"),
    ),
    Use("comfy.model_patcher.CoreModelPatcher", "ovi_core/model/patcher.py", kind="class"),
    Use("comfy.model_patcher.ModelPatcher.add_patches", "ovi_core/model/patcher.py", positional=("patches",)),
    Use(
        "comfy.model_patcher.ModelPatcher.add_hook_patches",
        "ovi_core/model/patcher.py",
        positional=("hook", "patches"),
    ),
    Use(
        "comfy.model_patcher.ModelPatcher.get_key_patches",
        "ovi_core/model/patcher.py",
        positional=("filter_prefix",),
        mentions=("self.model_state_dict()",),
    ),
    Use("comfy.storage.state_dict_fast_disk", "ovi_core/model/comfyui.py", optional=True),
    # -- training
    Use("comfyui_version.__version__", "ovi_core/training/comfyui.py", kind="value"),
    Use("comfy.weight_adapter.adapter_maps", "ovi_core/training/comfyui.py", kind="value"),
    Use("comfy.weight_adapter.base.WeightAdapterTrainBase", "ovi_core/training/comfyui.py", kind="class"),
    Use("comfy.weight_adapter.lora.LoraDiff", "ovi_core/training/comfyui.py", kind="class", attributes=("h",)),
    Use("comfy.weight_adapter.lora.LoraDiff.h", "ovi_core/training/comfyui.py", positional=("x", "base_out")),
    Use("comfy.weight_adapter.lokr.LokrDiff", "ovi_core/training/comfyui.py", kind="class", attributes=("h",)),
    Use(
        "comfy.weight_adapter.lora.LoRAAdapter.create_train",
        "ovi_core/training/comfyui.py",
        positional=("weight",),
        keywords=("rank", "alpha"),
    ),
    Use("comfy.weight_adapter.lora.LoRAAdapter.to_train", "ovi_core/training/adapters.py"),
    Use(
        "comfy.weight_adapter.lora.LoRAAdapter.calculate_weight",
        "ovi_core/training/comfyui.py",
        positional=("weight", "key", "strength", "strength_model", "offset", "function"),
    ),
    Use(
        "comfy.model_patcher.ModelPatcher.add_weight_wrapper",
        "ovi_core/training/comfyui.py",
        positional=("name", "function"),
    ),
    Use(
        "comfy.model_management.load_models_gpu",
        "ovi_core/training/comfyui.py",
        positional=("models",),
        keywords=("memory_required", "force_full_load"),
    ),
    Use("comfy.model_management.in_training", "ovi_core/training/comfyui.py", kind="value"),
    Use("comfy.ldm.modules.attention.attention_pytorch", "ovi_core/training/comfyui.py"),
    # -- sampling
    Use(
        "comfy.samplers.calc_cond_batch",
        "ovi_core/sampling/comfyui.py",
        positional=("model", "conds", "x_in", "timestep", "model_options"),
    ),
    Use("comfy.samplers._calc_cond_batch", "ovi_core/sampling/guider.py", mentions=("cond_or_uncond", "uuids")),
    Use(
        "comfy.samplers.sampling_function",
        "ovi_core/sampling/comfyui.py",
        positional=("model", "x", "timestep", "uncond", "cond", "cond_scale"),
        keywords=("model_options", "seed"),
        mentions=("sampler_calc_cond_batch_function",),
    ),
    Use(
        "comfy.samplers.cfg_function",
        "ovi_core/sampling/guider.py",
        mentions=("sampler_cfg_function", '"cond"', '"uncond"', '"input"', '"cond_denoised"', '"uncond_denoised"'),
    ),
    Use("comfy.samplers.CFGGuider", "ovi_core/sampling/comfyui.py", positional=("model_patcher",)),
    Use("comfy.samplers.CFGGuider.inner_set_conds", "ovi_core/sampling/guider.py", positional=("conds",)),
    Use(
        "comfy.samplers.CFGGuider.inner_sample", "ovi_core/sampling/guider.py", mentions=("latent_shapes", "self.conds")
    ),
    Use(
        "comfy.samplers.CFGGuider.predict_noise",
        "ovi_core/sampling/guider.py",
        positional=("x", "timestep"),
        keywords=("model_options", "seed"),
    ),
    Use(
        "comfy.samplers.CFGGuider.sample",
        "ovi_core/sampling/guider.py",
        positional=("noise", "latent_image", "sampler", "sigmas"),
        keywords=("denoise_mask", "callback", "disable_pbar", "seed"),
        mentions=("OUTER_SAMPLE", "latent_shapes=latent_shapes", "create_model_options_clone"),
    ),
    Use(
        "comfy.samplers.CFGGuider.outer_sample",
        "ovi_core/sampling/run_hook.py",
        positional=("noise", "latent_image", "sampler", "sigmas", "denoise_mask", "callback", "disable_pbar", "seed"),
        keywords=("latent_shapes",),
    ),
    Use(
        "comfy.samplers.KSamplerX0Inpaint.__call__",
        "ovi_core/sampling/run_hook.py",
        mentions=('"denoise_mask_function"', "extra_options=", "scale_latent_inpaint"),
    ),
    Use("comfy.samplers.KSAMPLER", "ovi_core/sampling/comfyui.py", positional=("sampler_function",)),
    Use(
        "comfy.sample.prepare_noise",
        "ovi_core/sampling/comfyui.py",
        positional=("latent_image", "seed", "noise_inds"),
    ),
    Use("comfy.utils.pack_latents", "ovi_core/sampling/comfyui.py", positional=("latents",)),
    Use("comfy.utils.unpack_latents", "ovi_core/sampling/comfyui.py", positional=("combined_latent", "latent_shapes")),
    Use(
        "comfy.model_patcher.create_model_options_clone",
        "ovi_core/sampling/comfyui.py",
        positional=("orig_model_options",),
    ),
    Use(
        "comfy.model_patcher.set_model_options_patch_replace",
        "ovi_core/sampling/comfyui.py",
        positional=("model_options", "patch", "name", "block_name", "number"),
    ),
    Use(
        "comfy.patcher_extension.WrappersMP", "ovi_core/sampling/comfyui.py", attributes=("OUTER_SAMPLE", "APPLY_MODEL")
    ),
    Use(
        "comfy.patcher_extension.WrappersMP.CALC_COND_BATCH",
        "ovi_core/sampling/shortcuts/negative_reuse.py",
        kind="value",
    ),
    Use("comfy.patcher_extension.WrappersMP.PREDICT_NOISE", "ovi_core/sampling/shortcuts/step_cache.py", kind="value"),
    Use(
        "comfy.ldm.modules.attention.get_attention_function",
        "ovi_core/sampling/comfyui.py",
        positional=("name",),
        keywords=("default",),
        optional=True,
    ),
    Use(
        "comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING",
        "ovi_core/sampling/context_windows.py",
        kind="value",
    ),
    Use(
        "comfy.context_windows.IndexListContextHandler",
        "ovi_core/sampling/comfyui.py",
        positional=("context_schedule", "fuse_method"),
        keywords=("context_length", "context_overlap", "dim", "latent_retain_index_list", "causal_window_fix"),
        attributes=("should_use_context", "execute"),
        mentions=("self.latent_retain_index_list", "closed_loop"),
    ),
    Use(
        "comfy.context_windows.IndexListContextHandler._build_window_state",
        "ovi_core/sampling/context_windows.py",
        positional=("x_in", "conds", "model"),
    ),
    Use(
        "comfy.context_windows.IndexListContextHandler.evaluate_context_windows",
        "ovi_core/model/base_model.py",
        mentions=("causal_anchor_index",),
    ),
    Use(
        "comfy.context_windows.IndexListContextWindow",
        "ovi_core/sampling/comfyui.py",
        positional=("index_list", "dim", "total_frames", "modality_windows", "context_overlap"),
        attributes=("get_tensor",),
    ),
    Use(
        "comfy.context_windows.WindowingState",
        "ovi_core/sampling/comfyui.py",
        kind="class",
        attributes=("prepare_window",),
        mentions=("latents:", "latent_shapes:", "dim:", "is_multimodal:"),
    ),
    Use("comfy.context_windows.ContextSchedule", "ovi_core/sampling/comfyui.py", positional=("name", "func")),
    Use("comfy.context_windows.ContextFuseMethod", "ovi_core/sampling/comfyui.py", positional=("name", "func")),
    Use("comfy_extras.nodes_easycache.EasyCacheHolder", "ovi_core/sampling/comfyui.py", kind="class", optional=True),
    Use("comfy.model_management.throw_exception_if_processing_interrupted", "ovi_core/sampling/comfyui.py"),
    Use("comfy.model_management.raise_non_oom", "ovi_core/sampling/comfyui.py", positional=("e",)),
    Use("comfy.model_management.cuda_device_context", "ovi_core/sampling/comfyui.py", positional=("device",)),
    Use(
        "comfy.model_patcher.ModelPatcher.set_additional_models",
        "ovi_core/sampling/audio_preview.py",
        positional=("key", "models"),
    ),
    Use("latent_preview.prepare_callback", "ovi_core/sampling/comfyui.py", positional=("model", "steps")),
    # -- media and latents
    Use(
        "comfy.utils.common_upscale",
        "ovi_core/media/images.py",
        positional=("samples", "width", "height", "upscale_method", "crop"),
    ),
    Use("comfy.utils.reshape_mask", "ovi_core/latents/denoise_mask.py", positional=("input_mask", "output_shape")),
    Use("comfy.model_management.intermediate_device", "ovi_core/media/images.py"),
    Use(
        "comfy.nested_tensor.NestedTensor",
        "ovi_core/latents/joint.py",
        kind="class",
        attributes=("unbind",),
        mentions=("is_nested",),
    ),
    Use("comfy.latent_formats.Wan22", "ovi_core/latents/layout.py", kind="class", attributes=("process_out",)),
    Use(
        "comfy_api.latest.InputImpl.VideoFromComponents",
        "ovi_core/media/provenance.py",
        positional=("components", "bit_depth"),
        attributes=("get_components", "get_bit_depth", "get_dimensions", "save_to"),
    ),
    Use(
        "comfy_api.latest.InputImpl.VideoFromComponents.save_to",
        "ovi_core/media/provenance.py",
        positional=("path", "format", "codec", "metadata"),
    ),
    Use("folder_paths.get_system_user_directory", "ovi_core/media/content_credentials.py"),
    # -- story
    Use(
        "latent_preview.get_previewer",
        "ovi_core/story/comfyui.py",
        positional=("device", "latent_format"),
    ),
    Use(
        "latent_preview.LatentPreviewer.decode_latent_to_preview_image",
        "ovi_core/story/comfyui.py",
        positional=("preview_format", "x0"),
    ),
    Use("comfy.cli_args.args", "ovi_core/story/comfyui.py", kind="value"),
    Use("folder_paths.folder_names_and_paths", "ovi_core/story/comfyui.py", kind="value"),
    Use("folder_paths.get_user_directory", "ovi_core/story/ray_cluster.py"),
    Use("folder_paths.annotated_filepath", "nodes/shared/input_media.py", positional=("name",)),
    Use("comfy.model_management.throw_exception_if_processing_interrupted", "ovi_core/story/comfyui.py"),
    Use("comfy.model_management.unload_all_models", "ovi_core/story/farm.py"),
    Use(
        "comfy.model_patcher.ModelPatcher",
        "ovi_core/story/model_fingerprint.py",
        kind="class",
        attributes=("get_model_object", "model_state_dict"),
        mentions=("model_options", "object_patches", "wrappers", "callbacks", "injections", "backup", "patches"),
    ),
    Use("comfy.quant_ops.QuantizedTensor", "ovi_core/story/model_fingerprint.py", kind="class"),
    Use("comfy.context_windows.ContextFuseMethod", "ovi_core/story/comfyui.py", kind="class"),
    Use("comfy.context_windows.ContextSchedule", "ovi_core/story/comfyui.py", kind="class"),
    Use("comfy.model_sampling.ModelSamplingDiscreteFlow", "ovi_core/story/comfyui.py", kind="class"),
    Use("comfy.weight_adapter.base.WeightAdapterBase", "ovi_core/story/comfyui.py", kind="class"),
    Use("comfy_extras.nodes_easycache.EasyCacheHolder", "ovi_core/story/comfyui.py", kind="class"),
    Use("comfy_extras.nodes_easycache.LazyCacheHolder", "ovi_core/story/comfyui.py", kind="class"),
]


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.file}-{use.name}")
def test_comfyui_has_what_we_use(use):
    found = _find(use.name)
    if found is None and use.optional:
        pytest.skip(f"this ComfyUI has no {use.name}; {use.file} does without")
    assert found is not None, f"ComfyUI has no {use.name} any more; {use.file} needs it"
    problems = list(_problems(use, found))
    assert not problems, f"{use.name}, which {use.file} needs: " + "; ".join(problems)


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.file}-{use.name}")
def test_a_row_names_a_file_that_uses_it(use):
    text = (ROOT / use.file).read_text(encoding="utf-8").lower()
    words = (use.name.rpartition(".")[2], *use.mentions)
    assert any(word.lower() in text for word in words), (
        f"{use.file} mentions nothing of {use.name}: correct the row, or delete it"
    )


def _find(dotted: str) -> Any:
    """What a dotted name stands for, None where there is nothing."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


def _problems(use: Use, found: Any) -> Iterator[str]:
    """What is not as the row says, in words."""
    if use.kind == "class" and not inspect.isclass(found):
        yield f"is no class but {found!r:.80}"
    if use.kind == "callable" and not callable(found):
        yield f"cannot be called, it is {found!r:.80}"
    if use.positional or use.keywords:
        yield from _parameter_problems(use, found)
    for attribute in use.attributes:
        if not hasattr(found, attribute):
            yield f"has no attribute {attribute}"
    if use.mentions:
        source = inspect.getsource(found)
        yield from (f"its source no longer mentions {word}" for word in use.mentions if word not in source)


def _parameter_problems(use: Use, found: Any) -> Iterator[str]:
    parameters = [p for p in inspect.signature(found).parameters.values() if p.name not in ("self", "cls")]
    any_position = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    in_order = [p.name for p in parameters if p.kind in KINDS]
    if not any_position and in_order[: len(use.positional)] != list(use.positional):
        yield f"takes {', '.join(in_order) or 'nothing'} in this order, where we pass {', '.join(use.positional)}"
    named = {p.name for p in parameters}
    missing = [name for name in use.keywords if name not in named and not any_name]
    if missing:
        yield f"takes no {', '.join(missing)}"
    passed = {*use.positional, *use.keywords}
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind in KINDS and p.name not in passed]
    if wanted and not any_position:
        yield f"also wants {', '.join(wanted)}, which we do not pass"
