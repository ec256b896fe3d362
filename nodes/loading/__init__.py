"""Nodes of the menu Ovi/loaders."""
