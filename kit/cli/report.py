"""`kit report [RUNS]`: what executed notebooks say about the claims."""

from __future__ import annotations

from pathlib import Path

import click

from kit.cli.main import PATH, show
from kit.core.errors import BadValue


@click.command()
@click.argument("runs", type=PATH, required=False)
@click.option("--html", type=PATH, help="Write the report card to this file, a page to print.")
def report(runs: Path | None, html: Path | None) -> None:
    """List the claims with the verdicts of the executed notebooks in RUNS.

    RUNS is a folder or one executed notebook; by default, the lessons with their stored outputs.
    For a folder, a table and a page of all runs are written to RUNS/report/. Folders inside it are
    read, too, but not hidden ones, such as .venv.
    """
    from kit.core.files import NOTEBOOKS
    from kit.experiments.records import UNREADABLE, executed_runs
    from kit.experiments.report import ledger_table, result_sentence, write_card, write_report

    if html is not None:
        show(write_card(runs or NOTEBOOKS, html))
        return

    if runs is None:
        show(ledger_table(NOTEBOOKS))
        return
    if runs.is_file():
        found = executed_runs(runs)
        if not found or found[0].status == UNREADABLE:
            reason = found[0].error if found else "its cells have not run"
            raise BadValue(f"{runs} is not an executed notebook: {reason}. Run it with kit run.")
        show(ledger_table(runs))
        show(f"{runs.stem}: {found[0].error or result_sentence(runs)}")
        return
    written = write_report(runs)
    for line in (written.ledger, written.summary, *written.paths):
        show(line)
