"""Read the cost of a call from its response."""
