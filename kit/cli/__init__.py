"""The command line: one file per command. Only here does the kit print."""
