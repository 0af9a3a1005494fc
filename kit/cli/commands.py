"""The command line: thin words over the rooms. Only here does the kit print.

It ends with 0 if all went well, 1 if something that ran failed, 2 if what was typed is not
possible, 130 if it was stopped (Ctrl-C, or a polite kill).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kit import __version__
from kit.core.errors import BadValue, KitError, UnknownName

if TYPE_CHECKING:
    from kit.experiments.sweeping import Outcome

RUNS = Path("runs")


class _OneLine(click.Group):
    """Shows an error that the kit or the system raised as one line, not as a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (BadValue, UnknownName) as error:
            raise _Impossible(_shown(error)) from error
        except KitError as error:
            raise click.ClickException(_shown(error)) from error
        except BrokenPipeError:
            raise  # nobody reads on, as behind `| head`: click ends quietly
        except OSError as error:  # a full disk, a folder without permission
            told = f"{context.invoked_subcommand} cannot go on: {error}"
            raise click.ClickException(_shown(told)) from error
        except KeyboardInterrupt:
            _say("Stopped. What was finished is kept.")
            sys.exit(130)


class _Impossible(click.ClickException):
    """What was typed cannot be."""

    exit_code = 2


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within, a polite kill, as a batch system sends before its hard one, is like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    """A line for people, beside what is asked for, and above a bar if there is one."""
    from tqdm import tqdm

    tqdm.write(_shown(text), file=sys.stderr)


def _print(told: object) -> None:
    """What was asked for. All that the kit prints goes through here, `_say` or an error."""
    click.echo(_shown(told))


def _shown(told: object) -> str:
    """The text without what commands a terminal: it may be a stranger's."""
    from kit.experiments.untrusted import visible

    return visible(str(told))


_cell_limit = click.option(
    "--cell-limit",
    "limit_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End a cell that takes longer. By default there is no limit.",
)


@click.group(cls=_OneLine)
@click.version_option(__version__, prog_name="kit")
def main() -> None:
    """Training and inference, run and measured on your own computer."""


@main.command()
def doctor() -> None:
    """Say what this computer is, what is installed, and what will not work here."""
    from kit.cli.doctor import examine

    findings = examine()
    for finding in findings:
        _print(finding)
    sys.exit(any(finding.blocks for finding in findings))


@main.command()
@click.argument("notebook")
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the executed notebook here; without it, into the folder runs.",
)
@click.option("--list", "listed", is_flag=True, help="List the parameters and stop.")
@click.option("--record", "kept", is_flag=True, help="Keep its measurements for other machines.")
@_cell_limit
def run(
    notebook: str,
    given: tuple[tuple[str, str], ...],
    out: Path | None,
    listed: bool,
    kept: bool,
    limit_s: float | None,
) -> None:
    """Run NOTEBOOK and print its result in one sentence.

    NOTEBOOK is a path, a lesson's number (05), or the name of a lesson or an experiment
    (training-ladder). Parameters are checked before anything runs. Files and folders in them are
    looked for from the folder where you are.
    """
    from kit.experiments.execution import find_notebook
    from kit.experiments.execution import run as execute
    from kit.experiments.headline import headline
    from kit.experiments.parameters import declared
    from kit.experiments.recording import NAMED, keep_for_others, recorded_cells

    path = find_notebook(notebook)
    if listed:
        for parameter in declared(path).values():
            _print(parameter)
        return
    if kept and not recorded_cells(path):
        raise BadValue(f"--record: {path.name} has no cell tagged {NAMED}…, so nothing to keep.")
    unique = f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    output = out or RUNS / f"{path.stem}-{unique}.ipynb"
    if output.suffix != ".ipynb":
        raise BadValue(f"--out {output}: needs a name that ends in .ipynb.")
    with _stoppable():
        execute(path, output, dict(given), bar=sys.stderr.isatty(), say=_say, limit_s=limit_s)
    _print(f"{path.stem}: {headline(output)}")
    _print(f"Executed notebook: {output}")
    if kept:
        _print(f"Kept for other machines: {keep_for_others(output, path.name[:2])}")


@main.command()
@click.argument("workload")
@click.option(
    "--model", metavar="NAME", help="One of the workload's models; without it, the first."
)
@click.option("--steps", type=int, metavar="N", help="How many steps to train,")
@click.option("--epochs", type=float, metavar="N", help="or how many rounds through the examples.")
@click.option(
    "--batch-size", type=int, metavar="N", help="Examples per step, of all processes together."
)
@click.option("--lr", type=float, metavar="X", help="Learning rate.")
@click.option("--optimizer", metavar="NAME", help="adamw or muon.")
@click.option("--precision", metavar="NAME", help="fp32 or bf16.")
@click.option("--schedule", metavar="NAME", help="Of the learning rate: constant, linear, cosine.")
@click.option(
    "--lr-warmup", type=int, metavar="N", help="Steps in which the learning rate rises first."
)
@click.option(
    "--accumulate",
    type=int,
    metavar="N",
    help="Split each batch into N parts, one after the other.",
)
@click.option("--clip", type=float, metavar="X", help="Shorten a longer gradient to this norm.")
@click.option("--compile", is_flag=True, help="Compile the model with torch.compile first.")
@click.option(
    "--recompute",
    is_flag=True,
    help="Recompute activations in the backward pass: less memory, more time.",
)
@click.option("--sharded", is_flag=True, help="Spread the weights over the processes (FSDP2).")
@click.option("--evaluate-every", type=int, metavar="N", help="Steps between two scores.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Save the training in this file; go on from it if it exists.",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    help="Write the loss of each step to this JSON file.",
)
@click.option(
    "--device", metavar="NAME", help="Where to compute; without it, the best device here."
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads of each process.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N")
def train(workload: str, **options: Any) -> None:
    """Train a model on WORKLOAD. What no option says is as in the workload's recipe.

    Many processes train together under torchrun:

    torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node 2 -m kit train vision

    torchrun opens ports on all interfaces: on a trusted network only.
    """
    from kit.cli.training import failure_noted, trained

    with failure_noted():
        told = trained(workload, **options)
    if told:
        _print(told)


@main.command()
@click.argument("notebook")
@click.argument("grid", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the executed notebooks.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--retry", is_flag=True, help="Run again what failed before.")
@click.option(
    "--parallel", type=click.IntRange(1), default=1, metavar="N", help="How many runs at once."
)
@click.option(
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Run on this Dask cluster. Who reaches it can run code: start it with --host, or use TLS.",
)
@_cell_limit
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
    """Run NOTEBOOK once for each set of parameters that the file GRID asks for.

    Each run leaves an executed notebook in the folder OUT. What is done there is not run again,
    so the same command goes on with a sweep that was stopped. GRID is YAML: a grid of values, a
    list of runs, or random draws (see kit/experiments/grids.py).
    """
    from kit.experiments.cluster import carry_out_there, connect
    from kit.experiments.execution import find_notebook
    from kit.experiments.plans import chosen, described, make_plan, standing
    from kit.experiments.sweeping import alone_in, carry_out

    path = find_notebook(notebook)
    beside = path.parent / grid  # where the kit's own grid files are
    plan = make_plan(path, beside if beside.exists() and not grid.exists() else grid, not scheduler)
    with ExitStack() as meanwhile:
        client = None
        if not dry_run:
            meanwhile.enter_context(_stoppable())
            client = meanwhile.enter_context(connect(scheduler, _say)) if scheduler else None
            meanwhile.enter_context(alone_in(out))
        found = standing(plan, out, RUNS)
        runs = chosen(plan, found, retry)
        _print(described(plan, found, runs, parallel))
        if dry_run:
            _print("\n".join(run.name for run in runs))
            return
        say = cache(_say)  # once is enough
        if client:
            outcomes = carry_out_there(client, plan, runs, out, parallel, limit_s)
        else:
            outcomes = carry_out(plan, runs, out, parallel, say, limit_s)
        try:
            _follow(outcomes, len(runs))
        except KeyboardInterrupt:
            _say("Stopped. What is done stays; the same command goes on.")
            sys.exit(130)
        found = standing(plan, out)
    _print(f"{out}: {len(found.done)} runs done, {len(found.failed)} failed")
    sys.exit(bool(found.failed or found.left))


def _follow(outcomes: Generator[Outcome, None, None], total: int) -> None:
    """Show runs as they end: a bar where somebody watches, else a line for each."""
    from tqdm import tqdm

    from kit.experiments.plans import long

    began = time.monotonic()
    with closing(outcomes), tqdm(total=total, unit="run", disable=None) as bar:
        for count, outcome in enumerate(outcomes, 1):
            bar.update()
            left = long((time.monotonic() - began) / count * (total - count))
            if outcome.error:
                _say(f"failed: {outcome.path}: {outcome.error}")
            if bar.disable:
                _say(f"{count} of {total}, about {left} left: {outcome.run.name}")


@main.command()
@click.argument("notebooks", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), default=RUNS / "course", show_default=True)
@_cell_limit
def course(notebooks: tuple[str, ...], out: Path, limit_s: float | None) -> None:
    """Run lessons, all or those in NOTEBOOKS, and make a web page of each, with an index."""
    from kit.experiments.course_pages import course as run_course
    from kit.experiments.execution import find_notebook

    chosen = [find_notebook(name) for name in notebooks] or None
    with _stoppable():
        pages = run_course(out, chosen, bar=sys.stderr.isatty(), say=_say, limit_s=limit_s)
    for page in pages:
        _print(page.error or f"{page.seconds:5.1f} s  {page.title}")
    _print(f"Open in a browser: {out / 'index.html'}")
    sys.exit(any(page.error for page in pages))


@main.command()
@click.argument("notebooks", nargs=-1)
@_cell_limit
def record(notebooks: tuple[str, ...], limit_s: float | None) -> None:
    """Run lessons and store their outputs in them: all lessons, or those in NOTEBOOKS.

    Of a folder of executed experiments, the records are stored beside the kit's experiments.
    """
    from kit.experiments.execution import find_notebook, lessons
    from kit.experiments.folders import RECORDED, keep_runs
    from kit.experiments.recording import record as keep

    chosen = [
        Path(name) if Path(name).is_dir() else find_notebook(name) for name in notebooks
    ]  # a name that is wrong is found before the first one runs
    for path in chosen or lessons():
        if path.is_dir():
            kept = keep_runs(path, RECORDED / path.name)
            _print(f"kept {len(kept)} runs in {RECORDED / path.name}")
        else:
            _print(f"recording {path.name}")
            keep(path, _say, limit_s)


@main.command()
@click.argument("runs", type=click.Path(path_type=Path), required=False)
def report(runs: Path | None) -> None:
    """List the claims: decided by the executed notebooks in RUNS, or by the lessons as kept.

    RUNS is a folder, or one executed notebook. Of a folder, also write all runs as a table and a
    page, in RUNS/report/.
    """
    from kit.experiments.execution import NOTEBOOKS
    from kit.experiments.headline import headline
    from kit.experiments.records import UNREADABLE, executed
    from kit.experiments.report import ledger_table, write_report

    if runs is None:
        _print(ledger_table(NOTEBOOKS))
        return
    if runs.is_file():
        found = executed(runs)
        if not found or found[0].status == UNREADABLE:
            told = found[0].error if found else "its cells have not run"
            raise BadValue(f"{runs} is not an executed notebook: {told}.")
        _print(ledger_table(runs))
        _print(f"{runs.stem}: {found[0].error or headline(runs)}")
        return
    written = write_report(runs)
    for line in (written.ledger, written.told, *written.paths):
        _print(line)
