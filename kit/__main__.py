"""`python -m kit`, the same as `kit`."""

from kit.cli.main import main

main()
