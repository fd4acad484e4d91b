"""The bodies of requests, responses and refusals."""
