"""The twin transformer as a native ComfyUI model."""
