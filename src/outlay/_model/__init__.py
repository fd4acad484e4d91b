"""Values and rules: no threads, files or sockets."""
