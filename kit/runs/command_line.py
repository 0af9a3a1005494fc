"""The command line: thin words over the rooms. Only here does the kit print."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from kit import __version__
from kit.errors import KitError

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
    execute(path, output, dict(given), bar=sys.stderr.isatty())
    click.echo(str(output))
    if kept:
        click.echo(str(keep_for_others(output, path.name[:2])))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=RUNS / "course", show_default=True)
def course(out: Path) -> None:
    """Run every lesson; write executed notebooks, a page each, and the ledger as index."""
    from kit.runs.pages import course as run_course

    pages = run_course(out)
    for page in pages:
        click.echo(page.error or f"{page.seconds:5.1f} s  {page.title}")
    click.echo(str(out / "index.html"))
    sys.exit(any(page.error for page in pages))


@main.command()
@click.argument("notebooks", nargs=-1)
def record(notebooks: tuple[str, ...]) -> None:
    """Run the lessons (all, or those named) and keep their outputs in them."""
    from kit.runs.execution import find_notebook, lessons
    from kit.runs.recording import record as keep

    for path in [find_notebook(name) for name in notebooks] or lessons():
        click.echo(f"recording {path.name}")
        keep(path)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), required=False)
def report(folder: Path | None) -> None:
    """List the claims: decided by the executed notebooks in FOLDER, or still open."""
    from kit.runs.execution import NOTEBOOKS
    from kit.runs.report import ledger_table

    click.echo(str(ledger_table(folder or NOTEBOOKS)))
