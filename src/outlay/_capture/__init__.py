"""Capture: turns calls of providers into cost events, without writing them by hand."""
