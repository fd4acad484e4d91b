"""The command line. ``outlay --help`` lists the commands; each has one module."""
