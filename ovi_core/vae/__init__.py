"""The video VAE and the audio VAE."""
