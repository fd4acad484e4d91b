"""Apply the rules of the server, without HTTP and without SQL."""
