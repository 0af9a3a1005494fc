"""The code cells of a notebook that somebody wrote, as Python: read, cleaned, never run here.

A notebook may come from JupyterLab, VS Code, Colab or an old Notebook, and may be damaged. Nothing
here depends on the metadata of a cell. Lines for IPython (`%time`, `!pip`) are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.experiments.untrusted_notebooks import read_json

CELLS = 5_000
CHARACTERS = 2_000_000  # of all code
NO_MEMORY = "this computer had too little memory to read it; grade it again"
PYTHON_MAGICS = ("time", "timeit", "capture", "prun")  # what follows such a line is Python
MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w.]+\?{1,2}\s*$|[\w, ]+=\s*[%!])")


class Unreadable(KitError):
    """A file that is not a notebook which can be graded; the message is its reason."""


@dataclass(frozen=True)
class Cell:
    """A code cell: its place among the code cells, its source, and its syntax tree."""

    index: int
    source: str
    tree: ast.Module | None  # None: it is not Python
    error: str = ""  # why it is not

    @property
    def key(self) -> str:
        """The same for cells with the same code, whatever their comments and layout."""
        return self.source.strip() if self.tree is None else ast.dump(self.tree)


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook in a file, as JSON.

    Raises
    ------
    Unreadable
        It is missing, too large, a link, not JSON, or JSON of something else.
    """
    try:
        found = read_json(path)
    except OSError as error:
        raise Unreadable(_reason(error, path)) from error
    except MemoryError as error:  # of this computer, and not of the file
        raise Unreadable(NO_MEMORY) from error
    except (ValueError, RecursionError) as error:
        said = "it is not a notebook, or only a part of one" if path.stat().st_size else ""
        raise Unreadable(said or "the file is empty") from error
    if not isinstance(found, dict):
        raise Unreadable("it is not a notebook: its JSON is of something else")
    sheets = found.get("worksheets")  # notebooks of before 2015
    if "cells" not in found and isinstance(sheets, list) and sheets:
        found = {**found, "cells": sheets[0].get("cells") if isinstance(sheets[0], dict) else None}
    if not isinstance(found.get("cells"), list):
        raise Unreadable("it is not a notebook: it has no list of cells")
    return found


def _reason(error: OSError, path: Path) -> str:
    if path.is_symlink():
        return "it is a link, and links are not followed"
    said = str(error)
    return said.removeprefix(f"{path} ") if not error.errno else (error.strerror or said)


def code_cells(notebook: dict[str, Any]) -> list[Cell]:
    """Its code cells in order.

    Raises
    ------
    Unreadable
        There are too many, or too much code.
    """
    sources = list(_sources(notebook["cells"]))
    if len(sources) > CELLS or sum(map(len, sources)) > CHARACTERS:
        raise Unreadable(f"it has more than {CELLS:,} code cells or {CHARACTERS:,} characters")
    return [parsed(i, source) for i, source in enumerate(sources)]


def _sources(cells: list[Any]) -> Iterator[str]:
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            yield "".join(map(str, source)) if isinstance(source, list) else str(source)


def parsed(index: int, source: str) -> Cell:
    """The cell with its syntax tree, if it is Python."""
    text = python_only(source)
    if text is None:
        return Cell(index, source, None, "it is not Python")
    try:
        return Cell(index, source, ast.parse(text))
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        return Cell(index, source, None, f"{type(error).__name__}: {error.msg}{where}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Cell(index, source, None, f"{type(error).__name__}: {error}"[:200])


def python_only(source: str) -> str | None:
    r"""The source without lines for IPython; None for a cell in another language.

    >>> python_only("%time x = 1\nif x:\n    !ls\ny = 2"), python_only("%%bash\nls")
    ('pass\nif x:\n    pass\ny = 2', None)
    """
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("%%"):
        if first.strip()[2:].split(" ")[0] not in PYTHON_MAGICS:
            return None
        lines.remove(first)
    text = "\n".join(lines)
    try:
        ast.parse(text)
        return text  # a % or ? inside a text stays
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = [(line, MAGIC.match(line)) for line in lines]
        return "\n".join(f"{magic[1]}pass" if magic else line for line, magic in found)
