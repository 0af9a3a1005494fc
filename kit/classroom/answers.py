"""Find the answers in a notebook: by the exercise's id in the code, and by what the code needs.

An answer is the second argument of `kit.check("02-account", …)`, wherever that call stands. Its
code is the cell with the call and those cells before it that make the names it needs. A cell that
the lesson has, too, is not the student's: its names come from the grader's own run of the lesson.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kit.classroom.cells import Cell

HOOK = "__answer__"  # what a call of kit.check becomes
TRIES = 5  # calls for one exercise that are looked at, the last ones
ALWAYS = {*dir(builtins), "__name__", "display", HOOK}


@dataclass(frozen=True)
class Code:
    """What has to run for one answer: the student's cells, then the cell with the call."""

    cells: tuple[tuple[int, ast.Module], ...]  # (index in the notebook, code)
    from_lesson: frozenset[str]  # names that the lesson's own cells make
    untouched: bool  # the call still has the lesson's empty answer
    problem: str = ""  # a cell that makes a needed name is not Python


def ids_in(cells: Iterable[Cell], lesson: str) -> list[str]:
    """The ids of a lesson's exercises in these cells, in their order."""
    found = (_id(call) for cell in cells if cell.tree for call in _calls(cell.tree))
    return list(dict.fromkeys(id for id in found if id and id.startswith(f"{lesson}-")))


def find_code(id: str, cells: Sequence[Cell], lesson: Sequence[Cell]) -> list[Code]:
    """The code of each answer to an exercise, the last one first.

    Parameters
    ----------
    cells
        Of the student's notebook.
    lesson
        Of the lesson as it is handed out.
    """
    own = {cell.key for cell in lesson}
    empty = {cell.key for cell in lesson if cell.tree and id in map(_id, _calls(cell.tree))}
    makes = {name for cell in lesson if cell.tree for name in bound(cell.tree)}
    asked = [c for c in cells if c.tree and id in map(_id, _calls(c.tree))]
    found = []
    for cell in reversed(asked[-TRIES:]):
        assert cell.tree is not None
        tree = ast.fix_missing_locations(_Hooked(id).visit(ast.parse(ast.unparse(cell.tree))))
        chosen, missing, problem = _needed(cell.index, tree, cells, own, makes)
        code = (*((each.index, each.tree) for each in chosen if each.tree), (cell.index, tree))
        found.append(Code(code, frozenset(missing), cell.key in empty, problem))
    return found


def hooked(id: str, cell: Cell) -> ast.Module:
    """The cell with each call for that exercise replaced, its named values included."""
    assert cell.tree is not None
    return ast.fix_missing_locations(_Hooked(id, True).visit(ast.parse(ast.unparse(cell.tree))))


def asks(id: str, cell: Cell) -> bool:
    """Whether the cell has a call for that exercise."""
    return cell.tree is not None and id in map(_id, _calls(cell.tree))


def lesson_code(names: frozenset[str], lesson: Sequence[Cell]) -> list[Cell]:
    """The cells of a lesson, in order, that make these names."""
    chosen: list[Cell] = []
    needed, modules = set(names), _imported(lesson)
    for cell in reversed(lesson):
        needed = _step_back(cell, needed, chosen, modules)
    return chosen[::-1]


# --- What a cell makes and needs -----------------------------------------------------------------


def bound(tree: ast.Module) -> set[str]:
    """Names that the code makes.

    >>> sorted(bound(ast.parse("import a.b; c = lambda x: x; d.e = 2; f[0] = 3")))
    ['a', 'c']
    """
    made = set()
    for node in _outside_functions(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            made.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return made


def changed(tree: ast.Module) -> set[str]:
    """Names whose values the code changes: an item, an attribute, a method called by itself.

    >>> sorted(changed(ast.parse("a[0] = 1; b.c = 2; d.append(3); e = f.count(4)")))
    ['a', 'b', 'd']
    """
    found = set()
    for node in _outside_functions(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            found.add(_base(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found.add(_base(node.value.func))
    return found - {""}


def needs(tree: ast.Module) -> set[str]:
    """Names that the code reads before it makes them itself."""
    found: set[str] = set()
    made: set[str] = set()
    for statement in tree.body:
        part = ast.Module([statement], [])
        read = {n.id for n in ast.walk(part) if isinstance(n, ast.Name) and _reads(n)}
        if isinstance(statement, ast.AugAssign) and (name := _base(statement.target)):
            read.add(name)
        defines = isinstance(statement, (ast.FunctionDef, ast.ClassDef))
        local = _local(statement) | ({statement.name} if defines else set())  # type: ignore[attr-defined]
        found |= read - made - local - ALWAYS
        made |= bound(part)
    later = bound(tree)
    return {name for name in found if name not in later or name in _read_at_once(tree, later)}


def _read_at_once(tree: ast.Module, later: set[str]) -> set[str]:
    """Of the names that the code makes somewhere, those that it reads earlier, at the top level."""
    read: set[str] = set()
    made: set[str] = set()
    for statement in tree.body:
        part = ast.Module([statement], [])
        names = [n for n in _outside_functions(part) if isinstance(n, ast.Name)]
        read |= {n.id for n in names if _reads(n) and n.id in later - made}
        if isinstance(statement, ast.AugAssign) and (name := _base(statement.target)):
            read |= {name} - made
        made |= bound(part)
    return read


def _reads(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _local(statement: ast.stmt) -> set[str]:
    """Names that exist only inside the functions of a statement."""
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.Lambda, ast.comprehension)):
            inside = node.body if isinstance(node, ast.FunctionDef) else [node]
            names = (n for each in inside for n in ast.walk(each) if isinstance(n, ast.Name))
            found |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return found


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those inside functions, whose names are their own."""
    for node in ast.iter_child_nodes(tree):
        yield node
        functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
        comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        if not isinstance(node, (*functions, *comprehensions)):
            yield from _outside_functions(node)


def _base(node: ast.AST) -> str:
    """`a` of `a.b[0].c`."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


# --- Which cells have to run ---------------------------------------------------------------------


def _needed(
    place: int, tree: ast.Module, cells: Sequence[Cell], own: set[str], makes: set[str]
) -> tuple[list[Cell], set[str], str]:
    """The student's cells that the code at a place needs, the lesson's names, and a problem."""
    chosen: list[Cell] = []
    from_lesson: set[str] = set()
    needed, modules = needs(tree), _imported(cells)
    before = [cell for cell in cells if cell.index < place]
    after = [cell for cell in cells if cell.index > place]
    earlier: set[str] = set()
    while needed != earlier:  # in a reordered notebook, what a cell needs may stand after it
        earlier = set(needed)
        for cell in [*reversed(before), *reversed(after)]:
            if cell.key in own:
                names = bound(cell.tree) & needed if cell.tree else set()
                from_lesson |= names
                needed -= names
            elif cell not in chosen:
                needed = _step_back(cell, needed, chosen, modules)
    order = {cell.index: i for i, cell in enumerate([*after, *before])}
    problem = _broken(cells, needed - makes)
    return sorted(chosen, key=lambda c: order[c.index]), from_lesson | needed & makes, problem


def _step_back(cell: Cell, needed: set[str], chosen: list[Cell], modules: set[str]) -> set[str]:
    """Take the cell if it makes or changes a needed name; what is needed before it."""
    if cell.tree is None:
        return needed
    made = bound(cell.tree)
    if not (made | changed(cell.tree) - modules) & needed:
        return needed
    chosen.append(cell)
    return (needed - made) | needs(cell.tree)


def _imported(cells: Sequence[Cell]) -> set[str]:
    """Names of modules: calling a function of a module does not change it."""
    trees = [node for cell in cells if cell.tree for node in ast.walk(cell.tree)]
    imports = (node for node in trees if isinstance(node, (ast.Import, ast.ImportFrom)))
    return {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}


def _broken(cells: Sequence[Cell], unknown: set[str]) -> str:
    """The reason if a cell that cannot be read seems to make one of these names."""
    for cell in cells:
        if cell.tree is None and any(name in cell.source for name in unknown):
            return f"code cell {cell.index + 1} cannot be read: {cell.error}"
    return ""


# --- The calls -----------------------------------------------------------------------------------


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that look like `kit.check("…", …)`, in the order of the code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) + len(node.keywords) >= 2 and _id(node):
            yield node


def _id(call: ast.Call) -> str:
    """The exercise's id, if the call's first argument is a text and it is called `check`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    named = [word.value for word in call.keywords if word.arg == "id"]
    first = next(iter([*call.args[:1], *named]), None)
    if "check" not in name.lower() or not isinstance(first, ast.Constant):
        return ""
    return first.value if isinstance(first.value, str) else ""


class _Hooked(ast.NodeTransformer):
    """Replaces calls of `kit.check`: those for one exercise by the hook, all others by None."""

    def __init__(self, id: str, named_values: bool = False) -> None:
        self.id, self.named_values = id, named_values

    def visit_Call(self, call: ast.Call) -> ast.AST:
        """Replace this call, if it is one of them."""
        self.generic_visit(call)
        if not (found := _id(call)):
            return call
        if found != self.id:
            return ast.Constant(None)
        named = [w.value for w in call.keywords if w.arg == "answer"]
        answer = next(iter([*call.args[1:2], *named]), ast.Constant(None))
        values = [w for w in call.keywords if w.arg not in ("id", "answer")]
        return ast.Call(ast.Name(HOOK, ast.Load()), [answer], values if self.named_values else [])
