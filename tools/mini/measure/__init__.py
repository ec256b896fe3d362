"""Measures of clips of the small world."""
