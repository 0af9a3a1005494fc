"""Save a run's results: check the file before the run, write it afterwards, hide folder names."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from kit.core.errors import BadValue, KitError
from kit.core.files import atomic_write, cache_folder, make_folder
from kit.core.units import words

ROOM_BYTES = 4 * 10**6  # an executed lesson takes up to 1 MB, a report on a sweep a little more
PICTURES = ("image/png", "image/jpeg", "application/pdf")  # not text: nothing to replace
COLOUR = r"\x1b\[[\d;]*m"  # a traceback may have it before a path


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written after the run.

    Raises
    ------
    BadValue
        It is a folder, its folder cannot be made, or no file of 4 MB can be written there.
    """
    trial = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not an ordinary file"
            raise BadValue(f"{path} is {kind}; give the name of a file to write.")
        make_folder(path.parent)
        try:
            with trial.open("xb") as file:
                file.write(bytes(ROOM_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise BadValue(
            f"{path} cannot be written ({_reason(error)}); give a file in a writable folder "
            f"with {words(ROOM_BYTES, 'B')} of free space."
        ) from error


def _reason(error: OSError) -> str:
    """The reason, such as "No space left on device", without the path."""
    return error.strerror or str(error)


def save_notebook(notebook: Any, output: Path) -> Path:
    """Write an executed notebook, without widgets, in one step; returns its path.

    Raises
    ------
    KitError
        It cannot be written there, for example on a full disk: the message says where it is saved.
    """
    import nbformat

    strip_widgets(notebook)
    return save_text(nbformat.writes(notebook) + "\n", output)


def save_text(text: str, output: Path) -> Path:
    """Write a text that took long to make, in one step; returns its path. See `save_notebook`."""
    try:
        return write_text(output, text)
    except OSError as error:
        problem = f"{output} cannot be written ({_reason(error)})"
        for folder in (Path.cwd(), cache_folder(), Path(tempfile.gettempdir())):
            with suppress(OSError):
                own = Path(tempfile.mkdtemp(prefix="kit-saved-", dir=folder))  # new and empty
                saved = write_text(own / output.name, text)
                raise KitError(f"{problem}. The results are saved in {saved}.") from error
        raise KitError(f"{problem}, and no other folder either.") from error


def write_text(path: Path, text: str) -> Path:
    """Write a file in one step: it is complete, or it is as it was. Returns its path."""
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="replace")
    return path


def strip_widgets(notebook: Any) -> None:
    """Remove the widgets' state and views; the HTML that replaces each of them stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [k for k in output.get("data", {}) if "jupyter.widget" in k]:
                del output["data"][kind]


# --- Paths that name the user --------------------------------------------------------------------


def strip_folders(notebook: Any, folders: Iterable[Path]) -> None:
    """Shorten the paths in outputs and parameters, because they may name the user.

    A path in one of the folders becomes relative to it; a path in the user's home begins with
    `~`. The notebook's own cells are unchanged.
    """
    shorter = _PathShortener(folders)
    notebook.metadata["papermill"] = shorter(notebook.metadata.get("papermill", {}))
    for cell in notebook.cells:
        if "outputs" in cell:
            cell["outputs"] = [shorter(output) for output in cell["outputs"]]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["source"] = shorter(cell["source"])


class _PathShortener:
    """Returns a copy of a text, or of lists and dictionaries of texts, with shorter paths."""

    def __init__(self, folders: Iterable[Path]):
        homes = {Path(os.path.expanduser("~"))}  # unlike Path.home(), it never raises
        with suppress(ImportError, KeyError):  # Windows; an unknown user
            import pwd

            homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir))
        found = {str(folder.resolve()): "" for folder in folders}
        found |= {str(path): "~" for home in homes for path in (home, home.resolve())}
        # As written, with / on Windows, and as `repr` shows it there.
        self.short = {
            form: short
            for path, short in found.items()
            if len(path) > 4  # not "/", nor a string that a picture contains by chance
            for form in (path, path.replace("\\", "/"), path.replace("\\", "\\\\"))
        }
        longest_first = sorted(self.short, key=len, reverse=True)
        paths = "|".join(map(re.escape, longest_first))
        self.found = re.compile(
            rf"((?:{COLOUR})+|(?<![\w.-]))({paths})(?:(?P<more>[/\\]+)|(?![\w-]|\.\w))"
        )

    def __call__(self, given: Any) -> Any:
        if isinstance(given, str):
            return self.found.sub(self._replacement, given)
        if isinstance(given, dict):
            return type(given)({k: v if k in PICTURES else self(v) for k, v in given.items()})
        return [self(item) for item in given] if isinstance(given, list | tuple) else given

    def _replacement(self, match: re.Match[str]) -> str:
        before, path, more = match.group(1), match.group(2), match.group("more") or ""
        short = self.short[path]
        if short:
            return f"{before}{short}{more}"
        return before if more else before + path.replace("\\", "/").rpartition("/")[2]
