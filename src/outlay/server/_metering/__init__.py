"""Compute numbers from events."""
