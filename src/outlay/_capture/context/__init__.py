"""Attribute costs to customers, and let the attribution travel with work."""
