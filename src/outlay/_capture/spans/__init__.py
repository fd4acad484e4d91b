"""Track the costs that OpenTelemetry instrumentations write on spans."""
