"""Names that a package imports when they are first used: `import kit` costs next to nothing."""

import ast
import gc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def listed_names(file: str) -> dict[str, str]:
    """Name -> the module of the kit that it comes from, read from the imports of an `__init__.py`.

    Type checkers and editors read the same list, under `if TYPE_CHECKING:`.
    """
    page = ast.parse(Path(file).read_text(encoding="utf-8"))
    # Only those: what a function imports for itself is none of the package's names.
    lists = (node.body for node in page.body if isinstance(node, ast.If))
    imports = [node for each in lists for node in each if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def import_late(module: str) -> Any:
    """The module, imported while Python's garbage collector rests.

    The many new objects would make it go through all that PyTorch has loaded, in the middle of the
    import. That takes longer than the import, and finds nothing: what is imported stays.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if was_on:
            gc.enable()


def lazy_names(
    package: str, file: str, known: dict[str, Any]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package whose listed names are imported late.

    Parameters
    ----------
    package, file, known
        Its `__name__`, its `__file__`, and its `globals()`, which get each name once it is used.
    """
    files = listed_names(file)
    names = sorted(files)

    def get(name: str) -> Any:
        """A name of the list, from its file."""
        if name not in files:
            from kit.core.errors import UnknownName  # here: few programs ask for a wrong name

            near = UnknownName("name", name, names).hint
            raise AttributeError(f"{package} has no {name!r}{near} It has: {', '.join(names)}.")
        found = known[name] = getattr(import_late(files[name]), name)
        return found

    def listed() -> list[str]:
        """The names of the list."""
        return list(names)

    return names, get, listed
