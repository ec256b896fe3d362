"""The stages of training the small model."""
