"""`kit course [NOTEBOOKS]`: lessons as web pages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kit.cli.main import PATH, RUNS, cell_limit, say, show, stoppable


@click.command()
@click.argument("notebooks", nargs=-1)
@click.option(
    "--out",
    type=PATH,
    default=RUNS / "course",
    show_default=True,
    help="Folder for the pages and the executed notebooks.",
)
@cell_limit
def course(notebooks: tuple[str, ...], out: Path, limit_s: float | None) -> None:
    """Run all lessons, or only NOTEBOOKS, and write a web page for each, with an index."""
    from kit.experiments.course_pages import course as run_course
    from kit.experiments.execution import find_notebook

    paths = [find_notebook(name) for name in notebooks] or None
    with stoppable():
        pages = run_course(out, paths, bar=sys.stderr.isatty(), say=say, limit_s=limit_s)
    for page in pages:
        show(page.error or f"{page.seconds:5.1f} s  {page.title}")
    show(f"Open in a browser: {out / 'index.html'}")
    sys.exit(any(page.error for page in pages))
