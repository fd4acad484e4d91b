"""Patches for client libraries by the tool that generated them."""
