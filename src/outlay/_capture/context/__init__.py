"""Whose costs: attribution, and how it travels with work."""
