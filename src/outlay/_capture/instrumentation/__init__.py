"""Patch libraries, and observe their responses."""
