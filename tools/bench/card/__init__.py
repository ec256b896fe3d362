"""One script for a card (``python3 dev.py bench --gpu``): what a step and a decode take, and where the time goes."""
