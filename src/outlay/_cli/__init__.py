"""The command line; ``outlay --help`` lists the commands. One module for each."""
