"""`kit run NOTEBOOK`: one notebook, with parameters."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import click

from kit.cli.main import PATH, RUNS, cell_limit, say, show, stoppable
from kit.core.errors import BadValue


@click.command()
@click.argument("notebook")
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter.")
@click.option(
    "--out",
    type=PATH,
    help="Write the executed notebook to this file. By default it goes into the folder runs.",
)
@click.option("--list", "list_only", is_flag=True, help="List the parameters and stop.")
@cell_limit
def run(
    notebook: str,
    given: tuple[tuple[str, str], ...],
    out: Path | None,
    list_only: bool,
    limit_s: float | None,
) -> None:
    """Run NOTEBOOK and print its result in one sentence.

    NOTEBOOK is a path, a lesson's number (05), or the name of a lesson or an experiment
    (training-ladder). Parameters are checked before anything runs. Paths in parameters are
    relative to the current folder.
    """
    from kit.experiments.execution import find_notebook
    from kit.experiments.execution import run as execute
    from kit.experiments.parameters import declared
    from kit.experiments.report import result_sentence

    path = find_notebook(notebook)
    if list_only:
        for parameter in declared(path).values():
            show(parameter)
        return
    output = out or new_output(path)
    if output.suffix != ".ipynb":
        raise BadValue(f"--out {output}: needs a name that ends in .ipynb.")
    with stoppable():
        execute(path, output, dict(given), bar=sys.stderr.isatty(), say=say, limit_s=limit_s)
    show(f"{path.stem}: {result_sentence(output)}")
    show(f"Executed notebook: {output}")


def new_output(notebook: Path) -> Path:
    """A new file in the folder of runs."""
    unique = f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    return RUNS / f"{notebook.stem}-{unique}.ipynb"
