"""Benchmarks: ``make bench``. Ratios to bare floors, measured side by side in one run."""
