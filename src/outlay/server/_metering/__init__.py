"""Compute exact quantities from events."""
