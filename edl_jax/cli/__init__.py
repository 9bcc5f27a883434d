"""The command line: one module a command, each a thin shell over a function of the same name."""
