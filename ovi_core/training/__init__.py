"""LoRA training: datasets, samples, adapters and the loop."""
