"""Runs that compute less: what is taken over from other steps, or computed with fewer bits."""
