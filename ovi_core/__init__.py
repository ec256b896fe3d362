"""Ovi as a native ComfyUI model. Imports comfy and torch, never ``nodes/``."""
