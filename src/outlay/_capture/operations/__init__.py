"""Which operation a cost belongs to, and functions that are tracked."""
