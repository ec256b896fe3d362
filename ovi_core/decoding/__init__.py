"""From latents to frames and audio."""
