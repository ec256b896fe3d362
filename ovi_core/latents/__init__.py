"""Joint latents of video and audio."""
