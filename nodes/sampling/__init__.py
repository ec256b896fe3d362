"""Nodes of the menu Ovi/sampling."""
