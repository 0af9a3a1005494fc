"""The reference: a page for each group of names in `kit/__init__.py`, from their docstrings."""

import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from types import ModuleType

from places import ROOT

import kit

NAME = re.compile(r"(\w+) as \1")
COLUMNS = re.compile(r"\S {2,}\S|[├└│]")  # a drawing made of spaces, or a tree


def groups() -> dict[str, list[str]]:
    """Title of each group -> its names, in the order of `kit/__init__.py`."""
    text = (ROOT / "kit" / "__init__.py").read_text(encoding="utf-8")
    listed = text.partition("if TYPE_CHECKING:\n")[2].partition("# isort: on")[0]
    found: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if line.strip().startswith("#"):
            found[line.strip(" #")] = names = []
        else:
            names += NAME.findall(line)
    return {title: sorted(names, key=_is_room) for title, names in found.items()}


def _slug(title: str) -> str:
    """The name of a group's page: the words before the first comma or colon."""
    return re.sub(r"\W+", "-", re.split("[,:]", title.lower())[0])


def _is_room(name: str) -> bool:
    return isinstance(getattr(kit, name), ModuleType)


def pages() -> Iterator[tuple[str, str]]:
    """The place of each page of the reference, and its source."""
    found, documented = groups(), set()
    slugs = {title: _slug(title) for title in found}
    yield "reference/index.rst", _index(found, slugs)
    for title, names in found.items():
        parts = [
            _heading(title, "="),
            *(part for name in names for part in _entry(name, documented)),
        ]
        yield f"reference/{slugs[title]}.rst", "\n\n".join(parts) + "\n"


def _index(found: dict[str, list[str]], slugs: dict[str, str]) -> str:
    lines = [_heading("Names", "="), "What ``import kit`` gives, by what it is for.", ""]
    for title, names in found.items():
        lines += [f":doc:`{title} <{slugs[title]}>`"]
        lines += [f"   {', '.join(f':py:obj:`~kit.{name}`' for name in names)}", ""]
    tree = "\n".join(f"   {slug}" for slug in slugs.values())
    return "\n".join([*lines, ".. toctree::\n   :hidden:\n", tree, ""])


def _entry(name: str, documented: set[str]) -> Iterator[str]:
    """A name of the front door: a function with what it returns, or a room with its names."""
    thing = getattr(kit, name)
    yield _heading(f"kit.{name}", "-")
    if isinstance(thing, ModuleType):
        yield f".. automodule:: {thing.__name__}\n   :no-index:"
        yield ", ".join(f":py:obj:`~{thing.__name__}.{inner}`" for inner in _public(thing))
        for inner in _public(thing):
            yield from _described(f"{thing.__name__}.{inner}", getattr(thing, inner), documented)
        return
    yield from _described(f"kit.{name}", thing, documented)
    for found in _results(thing):
        yield from _described(f"{found.__module__}.{found.__qualname__}", found, documented)


def _described(path: str, thing: object, documented: set[str]) -> Iterator[str]:
    key = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', path)}"
    if key in documented:
        return
    documented.add(key)
    if inspect.isclass(thing):
        yield f".. autoclass:: {path}\n   :members:"
    elif callable(thing):
        yield f".. autofunction:: {path}"


def _public(room: ModuleType) -> list[str]:
    """The names that a room lends: functions and classes of the kit, with a docstring."""
    names = getattr(room, "__all__", None) or [n for n in vars(room) if not n.startswith("_")]
    found = []
    for name in names:
        thing = getattr(room, name)
        own = str(getattr(thing, "__module__", "")).startswith("kit")
        if own and (inspect.isclass(thing) or inspect.isfunction(thing)) and inspect.getdoc(thing):
            found.append(name)
    return found


def _results(thing: object) -> list[type]:
    """The kit's classes that a function returns."""
    try:
        returned = typing.get_type_hints(thing).get("return")
    except (NameError, TypeError):  # a name that is imported for type checkers only
        returned = _by_name(thing)
    parts = typing.get_args(returned) or (returned,)
    return [p for p in parts if inspect.isclass(p) and p.__module__.startswith("kit")]


def _by_name(thing: object) -> object:
    """The class that an annotation names, from the function's own file."""
    name = getattr(thing, "__annotations__", {}).get("return", "")
    module = importlib.import_module(thing.__module__)
    return getattr(module, name, None) if isinstance(name, str) else name


def _heading(title: str, mark: str) -> str:
    return f"{title}\n{mark * len(title)}"


def as_rst(lines: list[str]) -> None:
    """Change a docstring in place: drawings made of spaces stay as they are drawn."""
    paragraphs = re.split(r"\n[ \t]*\n", "\n".join(lines))
    for i, paragraph in enumerate(paragraphs):
        if COLUMNS.search(paragraph) and not paragraph.lstrip().startswith(">>>"):
            paragraphs[i] = "::\n\n" + "\n".join(f"    {line}" for line in paragraph.splitlines())
    lines[:] = "\n\n".join(paragraphs).splitlines()
    lines.append("")
