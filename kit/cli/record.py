"""`kit record [NOTEBOOKS]`: store what notebooks showed, for readers who do not run them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kit.cli.main import cell_limit, say, show, stoppable
from kit.core.errors import BadValue


@click.command()
@click.argument("notebooks", nargs=-1)
@click.option(
    "--measurements",
    is_flag=True,
    help="Store only what the cells tagged record:NAME measured on this machine, for readers of "
    "other machines. The lessons do not change.",
)
@click.option(
    "-p",
    "given",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="A parameter, with --measurements.",
)
@cell_limit
def record(
    notebooks: tuple[str, ...],
    measurements: bool,
    given: tuple[tuple[str, str], ...],
    limit_s: float | None,
) -> None:
    """Run all lessons and experiments, or only NOTEBOOKS, and store their outputs in them.

    If you name a folder of executed experiments, nothing runs: their records are stored beside
    the experiments that come with the kit.
    """
    from kit.experiments.execution import experiments, find_notebook, lessons
    from kit.experiments.recording import RECORDED_RUNS, record_lesson, record_runs, tagged_cells

    if given and not measurements:
        raise BadValue("-p: lessons are recorded with their defaults; use -p with --measurements.")
    # All names are looked up first: a wrong one is reported before any notebook runs.
    paths = [Path(name) if Path(name).is_dir() else find_notebook(name) for name in notebooks]
    if measurements:
        for path in paths or filter(tagged_cells, lessons()):
            _record_measurements(path, dict(given), limit_s)
        return
    for path in paths or [*lessons(), *experiments()]:
        if path.is_dir():
            stored = record_runs(path, RECORDED_RUNS / path.name)
            show(f"stored {len(stored)} runs in {RECORDED_RUNS / path.name}")
        else:
            show(f"recording {path.name}")
            record_lesson(path, say, limit_s)


def _record_measurements(path: Path, given: dict[str, str], limit_s: float | None) -> None:
    """Run a lesson into the folder of runs, and store what its tagged cells measured."""
    from kit.cli.run import new_output
    from kit.experiments.execution import run
    from kit.experiments.recording import TAG, record_measurements, tagged_cells

    if path.is_dir() or not tagged_cells(path):
        raise BadValue(f"--measurements: {path.name} has no cell tagged {TAG}…; tag one of them.")
    with stoppable():
        output = run(path, new_output(path), given, sys.stderr.isatty(), say, limit_s)
    show(f"Executed notebook: {output}")
    show(f"Recording: {record_measurements(output, path.name[:2])}")
