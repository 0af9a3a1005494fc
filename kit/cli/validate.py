"""`kit validate NOTEBOOK`: what a student does before handing in."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kit.cli.main import PATH, show


@click.command()
@click.argument("notebook", type=PATH)
def validate(notebook: Path) -> None:
    """Say whether NOTEBOOK can be graded, and which of its answers are right.

    It runs your answers as the grader will: in a fresh process, only with the cells that they need.
    So it finds an answer that works only because of a cell that you have deleted.
    """
    from kit.classroom.validating import validate as look

    found = look(notebook)
    show(found)
    sys.exit(not found.ready)
