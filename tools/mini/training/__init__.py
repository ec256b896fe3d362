"""Networks and the training loop of the small model."""
