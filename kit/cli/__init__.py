"""The command line: one file per command, found by its name. Only here does the kit print."""
