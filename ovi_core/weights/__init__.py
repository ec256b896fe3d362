"""Weight files: reading, identifying and dequantizing them."""
