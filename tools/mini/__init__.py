"""Ovi mini: a procedural world in which picture causes sound, its measures, and the training of a small twin model."""
