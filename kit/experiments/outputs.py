"""Where a run's results go: checked before the run, kept after it, without the user's folders."""

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

ROOM_BYTES = 4 * 10**6  # an executed lesson takes up to 1 MB, a report on a sweep somewhat more
PICTURES = ("image/png", "image/jpeg", "application/pdf")  # no text, so nothing to replace
COLOUR = r"\x1b\[[\d;]*m"  # in a traceback it may stand before a path


def check_place(path: Path) -> None:
    """Refuse, before a run, a file that could not be written after it.

    Raises
    ------
    BadValue
        It is a folder, its folder cannot be, or no file of 4 MB can be written there.
    """
    trial = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no ordinary file"
            raise BadValue(f"{path} is {kind}; needs the name of a file to write.")
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
            f"{path} cannot be written ({_why(error)}); needs a folder that can be written to, "
            f"with {words(ROOM_BYTES, 'B')} of room."
        ) from error


def _why(error: OSError) -> str:
    """The reason, "No space left on device", without the path, which the sentence names already."""
    return error.strerror or str(error)


def keep(notebook: Any, output: Path) -> Path:
    """Write an executed notebook, without widgets, whole or not at all; returns its path.

    Raises
    ------
    KitError
        It cannot be written there, as when a disk has filled up meanwhile: where it is instead.
    """
    import nbformat

    strip_widgets(notebook)
    return keep_text(nbformat.writes(notebook) + "\n", output)


def keep_text(text: str, output: Path) -> Path:
    """Write what took long to make, whole or not at all; returns its path. See `keep`."""
    try:
        return _written(text, output)
    except OSError as error:
        reason = error
    for folder in (Path.cwd(), cache_folder(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            own = Path(tempfile.mkdtemp(prefix="kit-kept-", dir=folder))  # nothing is there yet
            kept = _written(text, own / output.name)
            break
    else:
        raise KitError(f"{output} cannot be written ({_why(reason)}), nor any other place.")
    raise KitError(
        f"{output} cannot be written ({_why(reason)}). What ran is not lost: it is in {kept}."
    ) from reason


def _written(text: str, path: Path) -> Path:
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def strip_widgets(notebook: Any) -> None:
    """Take the widgets' state and views out; the HTML that stands in for each stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [k for k in output.get("data", {}) if "jupyter.widget" in k]:
                del output["data"][kind]


# --- Whose computer it was -----------------------------------------------------------------------


def strip_folders(notebook: Any, folders: Iterable[Path]) -> None:
    """Take out of outputs and parameters where files lie on this computer; names stay.

    A path in one of the folders is given from there, one in the user's home from `~`. The
    notebook's own cells stay as they were written.
    """
    shorter = _Shorter(folders)
    notebook.metadata["papermill"] = shorter(notebook.metadata.get("papermill", {}))
    for cell in notebook.cells:
        if "outputs" in cell:
            cell["outputs"] = [shorter(output) for output in cell["outputs"]]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["source"] = shorter(cell["source"])


class _Shorter:
    """Gives a copy of a text, or of anything made of texts, with shorter paths."""

    def __init__(self, folders: Iterable[Path]):
        homes = {Path(os.path.expanduser("~"))}  # which does not raise where there is none
        with suppress(ImportError, KeyError):  # Windows; a user that the system does not know
            import pwd

            homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir))
        found = {str(folder.resolve()): "" for folder in folders}
        found |= {str(place): "~" for home in homes for place in (home, home.resolve())}
        # As it is, with / on Windows, and as `repr` shows it there.
        self.short = {
            form: short
            for path, short in found.items()
            if len(path) > 4  # not "/", nor what could be part of a picture by chance
            for form in (path, path.replace("\\", "/"), path.replace("\\", "\\\\"))
        }
        longest_first = sorted(self.short, key=len, reverse=True)
        paths = "|".join(map(re.escape, longest_first))
        self.found = re.compile(
            rf"((?:{COLOUR})+|(?<![\w.-]))({paths})(?:(?P<more>[/\\]+)|(?![\w-]|\.\w))"
        )

    def __call__(self, given: Any) -> Any:
        if isinstance(given, str):
            return self.found.sub(self._instead, given)
        if isinstance(given, dict):
            return type(given)({k: v if k in PICTURES else self(v) for k, v in given.items()})
        return [self(item) for item in given] if isinstance(given, list | tuple) else given

    def _instead(self, match: re.Match[str]) -> str:
        before, path, more = match.group(1), match.group(2), match.group("more") or ""
        short = self.short[path]
        if short:
            return f"{before}{short}{more}"
        return before if more else before + path.replace("\\", "/").rpartition("/")[2]
