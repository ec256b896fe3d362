"""Texts of the nodes in English, French and Chinese."""
