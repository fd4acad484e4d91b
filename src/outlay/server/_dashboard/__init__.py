"""Show the server's figures to people, as pages drawn on the server."""
