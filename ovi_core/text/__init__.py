"""Prompts and the text encoder."""
