"""Spans: cost events of what OpenTelemetry instrumentations report of calls."""
