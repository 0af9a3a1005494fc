"""`python -m kit`, the same as `kit`."""

from kit.runs.command_line import main

main()
