"""What all commands share: how they are found, how they print, how their errors look.

A new command is one file in this folder: `kit/cli/NAME.py` with a click command called NAME. For
`kit class`, which is a word of Python, it is `class_.py`.
Nothing else lists it. A command imports what it needs inside its function, so that `kit --help`
and the check of a notebook's parameters need no PyTorch.

Exit codes: 0 all went well; 1 something failed while it ran; 2 the command cannot be carried out
as typed; 130 stopped (Ctrl-C, or SIGTERM from a batch system).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from keyword import iskeyword
from pathlib import Path

import click

from kit import __version__
from kit.core.errors import BadValue, KitError, UnknownName

# jsonschema, which checks notebooks, would build a grammar of web addresses when it is imported:
# two thirds of a command's start. No notebook needs it, and jsonschema does without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

PATH = click.Path(path_type=Path)  # of an option or argument
RUNS = Path("runs")  # where commands write if no folder is given


class _Commands(click.Group):
    """The commands of this folder; their errors become one line instead of a traceback."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The files of this folder, without `__init__` and this one."""
        names = {path.stem for path in Path(__file__).parent.glob("*.py")}
        return sorted({name.removesuffix("_") for name in names - {"__init__", "main"}})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name: only its own file is imported."""
        if name not in (known := self.list_commands(context)):
            if context.resilient_parsing:  # the shell completes a line that is not finished
                return None
            raise UnknownName("command", name, known)
        own = f"{name}_" if iskeyword(name) else name  # a module cannot be called `class`
        return getattr(import_module(f"kit.cli.{own}"), own)

    def invoke(self, context: click.Context) -> object:
        """Run the command that was typed."""
        try:
            return super().invoke(context)
        except (BadValue, UnknownName) as error:
            raise _WrongInput(printable(error)) from error
        except KitError as error:
            raise click.ClickException(printable(error)) from error
        except BrokenPipeError:
            raise  # the reader has closed the pipe, as `| head` does: click ends quietly
        except OSError as error:  # a full disk, a folder without permission
            text = f"{context.invoked_subcommand} stopped: {error}"
            raise click.ClickException(printable(text)) from error
        except (click.exceptions.Exit, click.Abort):  # a RuntimeError, too
            raise
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            text = f"{context.invoked_subcommand} stopped: memory ran out. Finished work is kept."
            raise click.ClickException(text) from error
        except KeyboardInterrupt:
            say("Stopped. Finished work is kept.")
            sys.exit(130)


def _out_of_memory(error: Exception) -> bool:
    """Whether that is the reason, in Python, PyTorch or on a device."""
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from kit.devices.resource_limits import out_of_memory

    return out_of_memory(error)


class _WrongInput(click.ClickException):
    """The command cannot be carried out as typed."""

    exit_code = 2


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="kit")
def main() -> None:
    """Training and inference, run and measured on your own computer."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM acts like Ctrl-C. Batch systems send it before they kill a process."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: object) -> None:
    """Print a line about progress to stderr, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(printable(text), file=sys.stderr)


def show(text: object) -> None:
    """Print a result to stdout. The kit prints only here, in `say`, and through click's errors."""
    click.echo(printable(text))


def printable(text: object) -> str:
    """The text without control characters: it may come from a stranger's file."""
    from kit.experiments import untrusted_notebooks

    return untrusted_notebooks.printable(str(text))


cell_limit = click.option(
    "--cell-limit",
    "limit_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop a cell that takes longer. By default there is no limit.",
)
