"""`kit record [NOTEBOOKS]`: store the outputs of a run in the lessons themselves."""

from __future__ import annotations

from pathlib import Path

import click

from kit.cli.main import cell_limit, say, show


@click.command()
@click.argument("notebooks", nargs=-1)
@cell_limit
def record(notebooks: tuple[str, ...], limit_s: float | None) -> None:
    """Run all lessons, or only NOTEBOOKS, and store their outputs in them.

    If you name a folder of executed experiments, nothing runs: their records are stored beside
    the experiments that come with the kit.
    """
    from kit.experiments.execution import find_notebook, lessons
    from kit.experiments.folders import RECORDED, keep_runs
    from kit.experiments.recording import record as run_and_store

    # All names are looked up first: a wrong one is reported before any notebook runs.
    paths = [Path(name) if Path(name).is_dir() else find_notebook(name) for name in notebooks]
    for path in paths or lessons():
        if path.is_dir():
            stored = keep_runs(path, RECORDED / path.name)
            show(f"stored {len(stored)} runs in {RECORDED / path.name}")
        else:
            show(f"recording {path.name}")
            run_and_store(path, say, limit_s)
