"""`python -m kit`, the same as `kit`."""

from kit.cli.commands import main

main()
