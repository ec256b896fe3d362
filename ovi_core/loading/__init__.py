"""From files on disk, or published ones, to loaded models."""
