"""`kit grade FOLDER`: what a class handed in, graded."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kit.cli.main import PATH, say, show, stoppable


@click.command()
@click.argument("folder", type=PATH)
@click.option("--lesson", required=True, metavar="NN", help="The number of the lesson.")
@click.option("--out", type=PATH, required=True, help="Folder for the gradebook and the feedback.")
@click.option("--due", default="", metavar="DATE", help="The deadline, such as '2026-12-04 23:59'.")
@click.option(
    "--points",
    type=(str, float),
    multiple=True,
    metavar="ID NUMBER",
    help="Points of an exercise, such as 02-account 3; one for each that is not named.",
)
@click.option("--jobs", type=click.IntRange(1), help="Hand-ins at a time. Default: one per core.")
@click.option(
    "--limit",
    "limit_s",
    type=click.FloatRange(1, 600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Most time for the code of one exercise.",
)
@click.option(
    "--unsafe",
    is_flag=True,
    help="Run other people's code also where this system cannot isolate it.",
)
def grade(
    folder: Path,
    lesson: str,
    out: Path,
    due: str,
    points: tuple[tuple[str, float], ...],
    jobs: int | None,
    limit_s: float,
    unsafe: bool,
) -> None:
    """Grade all notebooks in FOLDER, or in a zip, and write a gradebook and pages of feedback.

    Answers are found by the exercise's id in the code, so a notebook may be renamed, reordered and
    saved by any program. The students' code runs within limits, without a network and without
    access to files. Each file is one row with a reason, and nothing in a file stops the others. A
    second run grades only what is new.
    """
    from kit.classroom.grading import grade as grade_all
    from kit.classroom.limits import Limits

    bar = sys.stderr.isatty()
    with stoppable():
        book = grade_all(
            folder,
            lesson,
            out,
            due=due,
            points=dict(points),
            jobs=jobs,
            unsafe=unsafe,
            limits=Limits(seconds_s=limit_s),
            say=say if bar else lambda _: None,
        )
    show(book.summary)
    for path in book.paths:
        show(path)
