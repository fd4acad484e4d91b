"""The command line: ``outlay serve``, ``track``, ``costs``, ``metrics``, ``demo``."""
