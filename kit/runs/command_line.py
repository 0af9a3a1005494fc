"""The command line: thin words over the rooms. Only here does the kit print."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kit import __version__
from kit.errors import KitError

if TYPE_CHECKING:
    from kit.runs.sweeping import Outcome

RUNS = Path("runs")


class _OneLine(click.Group):
    """Shows an error of the kit as one line, not as a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except KitError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_OneLine)
@click.version_option(__version__, prog_name="kit")
def main() -> None:
    """Training and inference, run and measured on your own computer."""


@main.command()
def doctor() -> None:
    """Say what this computer is, what is installed, and what will not work here."""
    from kit.runs.doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(str(finding))
    sys.exit(any(finding.blocks for finding in findings))


@main.command()
@click.argument("notebook")
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter.")
@click.option("--out", type=click.Path(path_type=Path), help="The executed notebook to write.")
@click.option("--list", "listed", is_flag=True, help="List the parameters and stop.")
@click.option("--record", "kept", is_flag=True, help="Keep its measurements for other machines.")
def run(
    notebook: str,
    given: tuple[tuple[str, str], ...],
    out: Path | None,
    listed: bool,
    kept: bool,
) -> None:
    """Run NOTEBOOK (a path, or a lesson's number), with parameters checked beforehand."""
    from kit.runs.execution import find_notebook
    from kit.runs.execution import run as execute
    from kit.runs.parameters import declared
    from kit.runs.recording import NAMED, keep_for_others, recorded_cells

    path = find_notebook(notebook)
    if listed:
        for parameter in declared(path).values():
            click.echo(str(parameter))
        return
    if kept and not recorded_cells(path):
        raise KitError(f"--record: {path.name} has no cell tagged {NAMED}…, so nothing to keep.")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    output = out or RUNS / f"{path.stem}-{stamp}.ipynb"
    if output.suffix != ".ipynb":
        raise KitError(f"--out {output}: needs a name that ends in .ipynb.")
    execute(path, output, dict(given), bar=sys.stderr.isatty(), say=_say)
    click.echo(str(output))
    if kept:
        click.echo(str(keep_for_others(output, path.name[:2])))


@main.command()
@click.argument("workload")
@click.option("--model", metavar="NAME", help="One of the workload's; else its first.")
@click.option("--steps", type=int, metavar="N", help="How long: in steps,")
@click.option("--epochs", type=float, metavar="N", help="or in rounds through the examples.")
@click.option("--batch-size", type=int, metavar="N", help="Examples per step, of all processes.")
@click.option("--lr", type=float, metavar="X", help="Learning rate.")
@click.option("--optimizer", metavar="NAME", help="adamw or muon.")
@click.option("--precision", metavar="NAME", help="fp32 or bf16.")
@click.option("--schedule", metavar="NAME", help="Of the learning rate: constant, linear, cosine.")
@click.option("--lr-warmup", type=int, metavar="N", help="Steps in which it rises first.")
@click.option("--accumulate", type=int, metavar="N", help="Parts of a batch, one after the other.")
@click.option("--clip", type=float, metavar="X", help="The longest gradient.")
@click.option("--compile", is_flag=True, help="Let PyTorch's compiler at it first.")
@click.option("--recompute", is_flag=True, help="Keep less for the backward pass.")
@click.option("--sharded", is_flag=True, help="Spread the weights over the processes (FSDP2).")
@click.option("--evaluate-every", type=int, metavar="N", help="Steps between two scores.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Keep it here; go on from it.")
@click.option("--history", type=click.Path(path_type=Path), help="Write the numbers here, JSON.")
@click.option("--device", metavar="NAME", help="Where; else the best there is.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Of each process.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N")
def train(workload: str, **options: Any) -> None:
    """Train on WORKLOAD, by its recipe where no option says otherwise.

    The same under torchrun, by many processes together:

    torchrun --standalone --nproc-per-node 2 -m kit train vision
    """
    from kit.runs.training import failure_noted, trained

    with failure_noted():
        told = trained(workload, **options)
    if told:
        click.echo(told)


@main.command()
@click.argument("notebook")
@click.argument("grid", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the runs go.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--retry", is_flag=True, help="Run again what failed before.")
@click.option(
    "--parallel", type=click.IntRange(1), default=1, metavar="N", help="So many runs at once."
)
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Run on this Dask cluster.")
def sweep(
    notebook: str,
    grid: Path,
    out: Path,
    dry_run: bool,
    retry: bool,
    parallel: int,
    scheduler: str | None,
) -> None:
    """Run NOTEBOOK with all parameters that the file GRID asks for.

    An executed notebook each in the folder OUT. What is done there is not run again, so a sweep
    that was stopped goes on by the same command. GRID is YAML: a grid of values, a list of runs,
    or random draws (see kit/runs/grids.py).
    """
    from kit.runs.cluster import carry_out_there, connect
    from kit.runs.execution import find_notebook
    from kit.runs.plans import chosen, described, make_plan, standing
    from kit.runs.sweeping import alone_in, carry_out

    path = find_notebook(notebook)
    beside = path.parent / grid  # where the kit's own grid files are
    plan = make_plan(path, beside if beside.exists() and not grid.exists() else grid, not scheduler)
    with ExitStack() as meanwhile:
        client = None
        if not dry_run:
            client = meanwhile.enter_context(connect(scheduler, _say)) if scheduler else None
            meanwhile.enter_context(alone_in(out))
        found = standing(plan, out, RUNS)
        runs = chosen(plan, found, retry)
        click.echo(described(plan, found, runs, parallel))
        if dry_run:
            click.echo("\n".join(run.name for run in runs))
            return
        say = cache(_say)  # once is enough
        if client:
            outcomes = carry_out_there(client, plan, runs, out, parallel)
        else:
            outcomes = carry_out(plan, runs, out, parallel, say)
        try:
            _follow(outcomes, len(runs))
        except KeyboardInterrupt:
            click.echo("Stopped. What is done stays; the same command goes on.", err=True)
            sys.exit(130)
        found = standing(plan, out)
    click.echo(f"{out}: {len(found.done)} runs done, {len(found.failed)} failed")
    sys.exit(bool(found.failed or found.left))


def _say(text: str) -> None:
    click.echo(text, err=True)


def _follow(outcomes: Generator[Outcome, None, None], total: int) -> None:
    """Show runs as they end: a bar where somebody watches, else a line for each."""
    from tqdm import tqdm

    from kit.runs.plans import long

    began = time.monotonic()
    with closing(outcomes), tqdm(total=total, unit="run", disable=None) as bar:
        for count, outcome in enumerate(outcomes, 1):
            bar.update()
            left = long((time.monotonic() - began) / count * (total - count))
            if outcome.error:
                bar.write(f"failed: {outcome.path}: {outcome.error}", file=sys.stderr)
            if bar.disable:
                _say(f"{count} of {total}, about {left} left: {outcome.run.name}")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=RUNS / "course", show_default=True)
def course(out: Path) -> None:
    """Run every lesson; write executed notebooks, a page each, and the ledger as index."""
    from kit.runs.pages import course as run_course

    pages = run_course(out, say=cache(_say))
    for page in pages:
        click.echo(page.error or f"{page.seconds:5.1f} s  {page.title}")
    click.echo(str(out / "index.html"))
    sys.exit(any(page.error for page in pages))


@main.command()
@click.argument("notebooks", nargs=-1)
def record(notebooks: tuple[str, ...]) -> None:
    """Run the lessons (all, or those named) and keep their outputs in them.

    A folder of executed experiments is kept as it is: its records go beside the notebooks.
    """
    from kit.runs.execution import find_notebook, lessons
    from kit.runs.folders import RECORDED, keep_runs
    from kit.runs.recording import record as keep

    for name in notebooks or [str(path) for path in lessons()]:
        if Path(name).is_dir():
            kept = keep_runs(Path(name), RECORDED / Path(name).name)
            click.echo(f"kept {len(kept)} runs in {RECORDED / Path(name).name}")
        else:
            click.echo(f"recording {Path(name).name}")
            keep(find_notebook(name))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def report(folder: Path | None) -> None:
    """List the claims: decided by the executed notebooks in FOLDER, or by the lessons as kept.

    With FOLDER, also write its runs as a table and a page, in FOLDER/report/.
    """
    from kit.runs.execution import NOTEBOOKS
    from kit.runs.report import ledger_table, write_report

    if folder is None:
        click.echo(str(ledger_table(NOTEBOOKS)))
        return
    found = write_report(folder)
    for line in (found.ledger, found.told, *found.paths):
        click.echo(str(line))
