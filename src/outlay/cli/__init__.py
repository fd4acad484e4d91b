"""The command line: ``outlay serve``, ``demo``, ``track``, ``costs``, ``metrics``.

One module for each command, imported only when that command is called: its
``configure`` adds arguments to a parser, its ``run`` returns an exit code.
"""
