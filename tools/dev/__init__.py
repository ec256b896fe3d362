"""What ``dev.py`` runs: set-up, a real ComfyUI server, a client for it, the demo."""
