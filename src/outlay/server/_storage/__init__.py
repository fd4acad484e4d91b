"""Store events and rollups: the seam, and the engines behind it."""
