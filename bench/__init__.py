"""Measure outlay beside bare floors: ``make bench``, or one module of this package."""
