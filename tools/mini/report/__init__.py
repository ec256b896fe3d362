"""The report of the small model, docs/mini.md."""
