"""Define the bodies of requests, responses and errors."""
