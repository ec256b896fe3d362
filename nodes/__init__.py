"""The nodes: one file per group of the menu, each of which only translates between ComfyUI and ``ovi_core``."""
