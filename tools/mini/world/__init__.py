"""The small world in which what is seen causes what is heard."""
