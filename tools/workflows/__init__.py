"""Draws the workflows in ``workflows/`` from a few lines of Python each."""
