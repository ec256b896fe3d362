"""Names of the small model's files."""

from __future__ import annotations

MODEL, TEXT = "diffusion_models/ovi_mini.safetensors", "text_encoders/ovi_mini_umt5.safetensors"


MODEL, TEXT = "diffusion_models/ovi_mini.safetensors", "text_encoders/ovi_mini_umt5.safetensors"


VIDEO_VAE, AUDIO_VAE = "vae/ovi_mini_video_vae.safetensors", "vae/ovi_mini_audio_vae.safetensors"


VIDEO_VAE, AUDIO_VAE = "vae/ovi_mini_video_vae.safetensors", "vae/ovi_mini_audio_vae.safetensors"
