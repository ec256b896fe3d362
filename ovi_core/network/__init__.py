"""The twin transformer in PyTorch."""
