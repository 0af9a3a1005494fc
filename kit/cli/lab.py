"""`kit lab [FOLDER]`: the lessons in JupyterLab, as a copy that belongs to the reader."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import click

from kit.cli.jupyterlab import start_page
from kit.cli.main import say
from kit.core.errors import KitError
from kit.core.files import atomic_write, python_command

FOLDER = Path("kit-lessons")  # for the copy, if the reader names no folder
COPIED = ".kit-lessons.json"  # in the copy: the digest of each file as the kit wrote it


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[FOLDER] [JUPYTERLAB OPTION]…")
@click.option("--copy-only", is_flag=True, help="Copy the lessons and stop.")
def lab(words: tuple[str, ...], copy_only: bool) -> None:
    """Copy the lessons into FOLDER and open them in JupyterLab.

    Files that you have changed are never overwritten: the command lists them. Lessons that you
    have not changed are replaced by those of a newer kit. By default, FOLDER is kit-lessons; in
    a checkout of the project, its own notebooks are opened instead of a copy. The page START.md
    lists the lessons with the exercises that you have solved; later starts open it first.
    """
    from kit.core.files import NOTEBOOKS

    named = bool(words) and not words[0].startswith("-")
    root = lessons = Path(words[0]) if named else FOLDER
    if not named and not copy_only and (NOTEBOOKS.parent / "pyproject.toml").is_file():
        root, lessons = NOTEBOOKS.parent, NOTEBOOKS  # a checkout
    else:
        for name in copy_lessons(NOTEBOOKS, lessons):
            say(f"Not overwritten, because you have changed it: {lessons / name}")
        say(f"The lessons are in {lessons}")
    if not copy_only:
        begun = start_page.write_start_page(lessons)
        _open(lab_command(root, lessons, words[named:], begun))


def copy_lessons(source: Path, folder: Path) -> list[str]:
    """Copy the lessons, experiments and solutions; returns the files that the reader has changed.

    Those files stay as they are. A file that is still as the kit wrote it is replaced.
    """
    notes = folder / COPIED
    try:
        written = json.loads(notes.read_bytes())
    except (OSError, ValueError):  # a new folder, or half a file: then no file may be replaced
        written = {}
    changed = []
    for path in sorted(filter(Path.is_file, source.rglob("*"))):
        name = path.relative_to(source).as_posix()
        # A template, caches, checkpoints of JupyterLab; the page of somebody's progress.
        if re.search("(^|/)[._]", name) or name == start_page.NAME:
            continue
        target, data = folder / name, path.read_bytes()
        found = _digest(target.read_bytes()) if target.exists() else None
        if found not in (None, _digest(data), written.get(name)):
            changed.append(name)
            continue
        if found != _digest(data):
            with atomic_write(target) as draft:
                draft.write_bytes(data)
        written[name] = _digest(data)
    with atomic_write(notes) as draft:
        draft.write_text(json.dumps(written, indent=1))
    return changed


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def lab_command(
    root: Path, lessons: Path, options: Sequence[str] = (), begun: bool = False
) -> list[str]:
    """The command that starts JupyterLab in the folder `root`, at the first lesson.

    For a reader who has begun, at the page that lists what is solved and what comes next.
    """
    first = next(iter(sorted(lessons.glob("00-*.ipynb"))), lessons)
    page = lessons / start_page.NAME
    if begun and page.exists():
        first = page
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        f"--ServerApp.root_dir={root.resolve()}",
        f"--LabApp.default_url=/lab/tree/{first.relative_to(root).as_posix()}",
        "--ServerApp.ip=127.0.0.1",  # this computer only
        # overrides.json: no question about news over the lesson, no look for updates.
        f"--LabApp.app_settings_dir={Path(__file__).with_name('jupyterlab')}",
        # Panels whose kernel has ended are shown as pictures.
        "--ServerApp.contents_manager_class=kit.cli.jupyterlab.contents.LessonContents",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # the only user of a container is often root
    return [*command, *options]


def lab_environment() -> dict[str, str]:
    """JupyterLab's environment: the kernel of this Python comes before others of its name."""
    return {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}


def _open(command: list[str]) -> None:
    """Become JupyterLab, so that Ctrl-C reaches only JupyterLab."""
    if find_spec("jupyterlab") is None:
        raise KitError(
            "JupyterLab is not installed in this environment, and kit lab opens it. "
            f"Run: {python_command()} -m pip install jupyterlab. Then repeat."
        )
    say("Opening JupyterLab. To stop it, press Ctrl-C here twice.")
    if os.name == "nt":  # there, exec would return to the prompt at once
        sys.exit(subprocess.call(command, env=lab_environment()))
    os.execve(command[0], command, lab_environment())
