"""Random inputs for everything that comes from a file, a workflow or another node (``python3 dev.py fuzz``)."""
