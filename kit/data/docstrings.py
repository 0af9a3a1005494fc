"""Docstrings of Python's standard library: to which module does each of these texts belong?

Shapes: N texts.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kit.core.checks import check_whole
from kit.core.errors import BadValue

# The modules, each with a description: of the ten with most docstrings that every Python from 3.11
# has, with `turtle`, whose subject is far from the others. The descriptions were written before any
# model had answered, and none has the name of its module.
MODULES = {
    "asyncio": "asynchronous programming: coroutines, tasks, event loops and futures",
    "decimal": "numbers with exact arithmetic: rounding, precision and contexts",
    "email": "electronic messages: headers, addresses, parts, encodings and parsing",
    "http": "the protocol of the web: requests, responses, servers, clients and cookies",
    "importlib": "importing: how modules are found, loaded and executed",
    "logging": "what a program reports: records, levels, handlers and formatters",
    "multiprocessing": "several processes: pools, queues, shared memory and locks",
    "turtle": "drawing on a screen with a pen that moves",
    "unittest": "testing a program: test cases, assertions, mock objects and runners",
    "xml": "documents made of elements: parsing, trees, nodes and attributes",
}
FILES = {"decimal": "_pydecimal"}  # the module's own file only imports its contents
LEAST_WORDS = 8  # a shorter text says too little
ALIKE = 0.5  # of two texts that share more than this of their words, the first stays
NAME = "[MASK]"
# What a block of a program consists of; functions and classes are in no other place.
STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
NAMES = rf"(?i)[\w.]*(?:{'|'.join(MODULES)})(?:\.?\w)*"  # compiled at the first use
TEST, VALIDATION = 30, 8  # texts of each module that no training sees


@dataclass(frozen=True)
class Texts:
    """Texts, and for each the index of its class."""

    texts: tuple[str, ...]
    labels: np.ndarray  # (N,) int64

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, per_class: int, seed: int) -> np.ndarray:
        """The indices of this many texts of each class, drawn at random: (C × per_class,)."""
        counts = np.bincount(self.labels)
        check_whole("per_class", per_class, high=int(counts.min()))
        random = np.random.default_rng(seed)
        each = [np.flatnonzero(self.labels == c) for c in range(len(counts))]
        return np.concatenate([random.permutation(i)[:per_class] for i in each])

    def first(self, per_class: int) -> Texts:
        """The first texts of each class."""
        each = [np.flatnonzero(self.labels == c)[:per_class] for c in range(self.labels.max() + 1)]
        chosen = np.concatenate(each)
        return Texts(tuple(self.texts[i] for i in chosen), self.labels[chosen])


@dataclass(frozen=True)
class Docstrings:
    """The texts in three splits, the names of their classes and a description of each class."""

    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...] = tuple(MODULES)
    descriptions: tuple[str, ...] = tuple(MODULES.values())
    origin: str = "docstrings in the running Python's standard library, by its authors"
    licence: str = "PSF-2.0"

    @property
    def chance(self) -> float:
        """The share that guessing gets right: all classes are equally frequent in the test."""
        return 1 / len(self.classes)

    def __repr__(self) -> str:
        sizes = f"train {len(self.train):,}, validation {len(self.validation):,}"
        return (
            f"Docstrings: {sizes}, test {len(self.test):,}; {len(self.classes)} modules: "
            f"{', '.join(self.classes)}; {self.origin}"
        )


@cache
def read_docstrings() -> Docstrings:
    """What the functions and classes of ten modules say about themselves, and whose words they are.

    The files are parsed, not imported. Of each docstring stays the text before its first example,
    on one line. Each word with the name of one of the modules becomes `[MASK]`: `http.client`,
    `HTTPServer`, `Decimal`. Other names of classes stay, so a text may still betray its module.

    Modules copy from themselves and from one another. Of texts that share more than half of their
    words, only the first stays, so no test text has a near copy in training. Of each module, 30
    texts are for the test and 8 for validation, drawn by the texts themselves: the same in each
    run. The texts depend on the version of Python.

    Raises
    ------
    BadValue
        This Python has too few docstrings: its files were shipped without source or without
        documentation.

    Notes
    -----
    © Python Software Foundation, PSF License Version 2.

    Explained in lesson 15.
    """
    found = [(text, i) for i, name in enumerate(MODULES) for text in _docstrings(name)]
    stay = _distinct([text for text, _ in found])
    labels = np.array([i for (_, i), one in zip(found, stay, strict=True) if one], dtype=np.int64)
    texts = [text for (text, _), one in zip(found, stay, strict=True) if one]
    counts = np.bincount(labels, minlength=len(MODULES))
    if counts.min() <= TEST + VALIDATION:
        few = list(MODULES)[int(counts.argmin())]
        raise BadValue(
            f"{few} has {counts.min()} distinct docstrings in {_library()}; needs more than "
            f"{TEST + VALIDATION}. Use a Python that is shipped with its source files."
        )
    order = np.random.default_rng(0).permutation(len(texts))
    rank = np.empty(len(texts), dtype=np.int64)  # of each text among those of its module
    for c in range(len(MODULES)):
        of_class = order[labels[order] == c]
        rank[of_class] = np.arange(len(of_class))
    splits = (rank >= TEST + VALIDATION, (rank >= TEST) & (rank < TEST + VALIDATION), rank < TEST)
    parts = [order[chosen[order]] for chosen in splits]
    train, validation, test = (Texts(tuple(texts[i] for i in p), labels[p]) for p in parts)
    return Docstrings(train, validation, test)


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _docstrings(module: str) -> Iterator[str]:
    """The texts of a module, masked, each once."""
    name = FILES.get(module, module)
    file, folder = _library() / f"{name}.py", _library() / name
    files = [file] if file.is_file() else sorted(folder.rglob("*.py"))
    texts: dict[str, None] = {}
    for path in files:
        for node in _statements(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                texts[masked(ast.get_docstring(node) or "")] = None
    yield from (text for text in texts if len(text.split()) >= LEAST_WORDS)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The statements in the order of `ast.walk`, which would look at each expression, too."""
    todo: deque[ast.AST] = deque([tree])
    while todo:
        yield (node := todo.popleft())
        for name in node._fields:
            if isinstance(block := getattr(node, name), list):
                todo.extend(part for part in block if isinstance(part, STATEMENTS))


def masked(docstring: str) -> str:
    """The text before the first example, on one line, without the names of the modules.

    >>> masked("Return an HTTPResponse.    >>> http.client.get()")
    'Return an [MASK].'
    """
    return re.sub(NAMES, NAME, " ".join(docstring.split(">>>")[0].split()))


def _distinct(texts: list[str]) -> np.ndarray:
    """Which texts (N,) share at most `ALIKE` of their words with each earlier one that stays."""
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    index = {word: i for i, word in enumerate(sorted(set().union(*words)))}
    has = np.zeros((len(texts), len(index)), dtype=np.float32)
    for i, each in enumerate(words):
        has[i, [index[word] for word in each]] = 1
    shared, sizes = has @ has.T, has.sum(1)
    alike = shared > ALIKE * (sizes[:, None] + sizes - shared)  # Jaccard's index
    stay = np.ones(len(texts), dtype=bool)
    for i in range(len(texts)):
        stay[i] = not (alike[i, :i] & stay[:i]).any()
    return stay
