"""What an artist sees: one file per shelf of the menu, each only translating between ComfyUI and ``ovi_core``."""
