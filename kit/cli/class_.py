"""`kit class LESSONS`: the board of a class, for the projector."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from kit.cli.main import PATH, RUNS, say, show, stoppable


@click.command("class")
@click.argument("lessons", nargs=-1)
@click.option(
    "--out",
    type=PATH,
    default=RUNS / "class-board",
    show_default=True,
    help="Folder for what the class guesses and measures. A class that is there goes on.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="0.0.0.0 lets the laptops of your network in.",
)
@click.option("--port", default=8010, show_default=True, help="0 takes any free port.")
@click.option(
    "--address",
    default="",
    metavar="HOST:PORT",
    help="What students type, if it is not the address that this computer finds.",
)
@click.option("--students", default=100, show_default=True, help="At most this many join.")
def class_(
    lessons: tuple[str, ...], out: Path, host: str, port: int, address: str, students: int
) -> None:
    """Show the guesses and measurements of a class on one page, for the projector.

    LESSONS are numbers, such as 02 05; without them, all lessons. Students join from their notebook
    with the code on the page. Only this computer can reach the board, unless you give --host.
    """
    from kit.classroom.board.running import Served, run_class

    def ready(served: Served) -> None:
        show(f"The board is at {served.teacher}")
        show("Open it on the projector. The address has your secret; the page hides it.")
        show(f'Students type: kit.join("{served.settings.code}", "{served.where}")')
        if served.damaged:
            say(f"{served.damaged} line(s) of the records could not be read, and are left out.")
        say(f"Records: {out}. Ctrl-C stops the board; the same command goes on with the class.")

    given = {"host": host, "port": port, "where": address, "most_students": students}
    with stoppable(), suppress(KeyboardInterrupt):
        run_class(lessons, out, ready=ready, **given)  # type: ignore[arg-type]
    say(f"The board has stopped. Records: {out}")
