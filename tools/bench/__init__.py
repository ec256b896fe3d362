"""Benchmarks of cost, as ratios."""
