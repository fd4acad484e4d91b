"""Benchmarks, run by ``make bench``: ratios to bare floors, side by side in one run."""
