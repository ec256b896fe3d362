"""Endurance: many mixed prompts on one real server (``python3 dev.py soak``)."""
