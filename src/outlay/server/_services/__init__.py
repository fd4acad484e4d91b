"""The rules of the server, without HTTP and without SQL."""
