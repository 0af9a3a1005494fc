"""`kit sweep NOTEBOOK GRID`: one notebook with many sets of parameters."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kit.cli.main import PATH, RUNS, cell_limit, say, show, stoppable

if TYPE_CHECKING:
    from kit.experiments.sweeping import Outcome


@click.command()
@click.argument("notebook")
@click.argument("grid", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder for the executed notebooks.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--retry", is_flag=True, help="Repeat the runs that failed before.")
@click.option(
    "--parallel", type=click.IntRange(1), default=1, metavar="N", help="Number of runs at once."
)
@click.option(
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Run on this Dask cluster. Anyone who can connect to it can run code on it: start the "
    "scheduler with --host, or use TLS.",
)
@cell_limit
def sweep(
    notebook: str,
    grid: Path,
    out: Path,
    dry_run: bool,
    retry: bool,
    parallel: int,
    scheduler: str | None,
    limit_s: float | None,
) -> None:
    """Run NOTEBOOK once for each set of parameters in the file GRID.

    Each run writes an executed notebook into the folder --out. Finished runs are not repeated:
    the same command continues a sweep that was stopped. GRID is YAML: a grid of values, a list
    of runs, or random draws (see kit/experiments/grids.py).
    """
    from kit.core.units import plural
    from kit.experiments.cluster import connect, run_plan_on_cluster
    from kit.experiments.execution import find_notebook
    from kit.experiments.plans import describe_plan, make_plan, pending_runs, sweep_status
    from kit.experiments.sweeping import lock_folder, run_plan

    path = find_notebook(notebook)
    beside = path.parent / grid  # the grid files that come with the kit are there
    plan = make_plan(path, beside if beside.exists() and not grid.exists() else grid, not scheduler)
    with ExitStack() as stack:
        client = None
        if not dry_run:
            stack.enter_context(stoppable())
            client = stack.enter_context(connect(scheduler, say)) if scheduler else None
            stack.enter_context(lock_folder(out))
        status = sweep_status(plan, out, RUNS)
        runs = pending_runs(plan, status, retry)
        show(describe_plan(plan, status, runs, parallel))
        if dry_run:
            show("\n".join(run.name for run in runs))
            return
        say_once = cache(say)
        if client:
            outcomes = run_plan_on_cluster(client, plan, runs, out, parallel, limit_s)
        else:
            outcomes = run_plan(plan, runs, out, parallel, say_once, limit_s)
        try:
            follow(outcomes, len(runs))
        except KeyboardInterrupt:
            say("Stopped. Finished runs are kept; the same command continues.")
            sys.exit(130)
        status = sweep_status(plan, out)
    show(f"{out}: {plural(len(status.done), 'run')} done, {len(status.failed)} failed")
    sys.exit(bool(status.failed or status.left))


def follow(outcomes: Generator[Outcome, None, None], total: int) -> None:
    """Report runs as they end: with a progress bar on a terminal, else with a line for each."""
    from tqdm import tqdm

    from kit.experiments.plans import duration_text

    began = time.monotonic()
    with closing(outcomes), tqdm(total=total, unit="run", disable=None) as bar:
        for count, outcome in enumerate(outcomes, 1):
            bar.update()
            left = duration_text((time.monotonic() - began) / count * (total - count))
            if outcome.error:
                say(f"failed: {outcome.path}: {outcome.error}")
            if bar.disable:
                say(f"{count} of {total}, about {left} left: {outcome.run.name}")
