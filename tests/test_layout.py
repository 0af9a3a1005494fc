"""The rooms of the kit: who may import whom, what the front door offers, what no room may do."""

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import statistics
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import LONGEST, SLOW

import kit

PACKAGE = Path(kit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> the rooms that it may import; a new room needs a line here, and a reason.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "plots": {"core"},  # it receives labels and numbers, never a result
    "devices": {"core", "plots"},
    "data": {"core"},
    "models": {"core"},  # no devices: the caller moves tensors
    "workloads": {"core", "data", "models"},
    "inference": {"core", "plots", "devices", "data", "models"},
    "training": {"core", "plots", "devices", "data", "models", "inference", "checkpoints"},
    "checkpoints": {"core", "devices", "data", "models"},
    # A model in a small process; PyTorch runs there beside the other runtimes, from a checkpoint.
    "deployment": {"core", "plots", "devices", "inference", "checkpoints"},
    # It opens an exported model as the small process does.
    "techniques": {"core", "plots", "devices", "data", "models", "inference", "deployment"},
    "measurement": {"core", "plots", "devices"},
    "loadgen": {"core", "plots", "measurement"},
    "costs": {
        *("core", "plots", "devices", "data", "models", "workloads"),
        *("inference", "training", "techniques", "measurement"),
    },
}
MAY_IMPORT["serving"] = {
    *("core", "plots", "devices", "data", "models", "workloads"),
    *("inference", "checkpoints", "techniques", "measurement", "loadgen", "monitoring"),
}
MAY_IMPORT["monitoring"] = {  # its repairs train, and its scores are those of inference
    *("core", "plots", "devices", "data", "models", "workloads"),
    *("inference", "training", "techniques", "measurement"),
}
MAY_IMPORT["ladders"] = MAY_IMPORT["costs"] | {"costs"}
LIBRARY = set(MAY_IMPORT)
MAY_IMPORT["course"] = LIBRARY
MAY_IMPORT["experiments"] = LIBRARY | {"course", "kit"}  # but see the widgets, below
MAY_IMPORT["classroom"] = {*MAY_IMPORT["experiments"], "experiments"}
MAY_IMPORT["cli"] = {*MAY_IMPORT["classroom"], "classroom"}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["kit"] = {*LIBRARY, "course", "experiments"}  # the front door

# What a room must not reach, by any way round.
NEVER_REACHES = {
    "inference": {"training"},  # a deployed model needs none of the training code
    "deployment": {"training", "techniques", "workloads"},
    "training": {"measurement"},
    "measurement": {"models", "training", "inference", "workloads"},
    "checkpoints": {"training"},
    "plots": {"devices"},
    "models": {"devices"},
    "data": {"devices"},
    "techniques": {"training", "measurement", "workloads"},
}


def dotted(path: Path) -> str:
    """`kit/data/digits.py` -> `kit.data.digits`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "kit"


def imported(path: Path) -> set[str]:
    """The kit's modules that a file imports, also those imported inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are written out in full"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & set(MODULES)) or {node.module}
    return {name for name in found if name.split(".")[0] == "kit"}


MODULES = [dotted(path) for path in FILES]


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        own = room_of(dotted(path))
        found.setdefault(own, set()).update(map(room_of, imported(path)))
    return {room: others - {room} for room, others in found.items()}


def reach(arrows: dict[str, set[str]], room: str) -> set[str]:
    seen, ahead = set(), [room]
    while ahead:
        new = arrows[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


# --- Rooms ---------------------------------------------------------------------------------------


def test_every_room_is_in_the_table(arrows):
    assert set(arrows) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room, arrows):
    assert arrows[room] <= MAY_IMPORT[room]


def test_no_room_imports_itself_by_a_detour(arrows):
    rooms = {room: others - {"kit"} for room, others in arrows.items() if room != "kit"}
    order = list(
        TopologicalSorter(rooms).static_order()
    )  # the front door imports nothing by itself
    assert order.index("inference") < order.index("training") < order.index("cli")


@pytest.mark.parametrize("room", NEVER_REACHES)
def test_a_room_never_reaches(room, arrows):
    assert not reach(arrows, room) & NEVER_REACHES[room]


def test_experiments_need_no_widgets():
    modules = set().union(*(imported(p) for p in FILES if room_of(dotted(p)) == "experiments"))
    assert modules  # the files were found
    assert not modules & {
        f"kit.course{name}"
        for name in (
            *("", ".panels", ".drawing_panel", ".ordering_panel"),
            *(".chat_panel", ".traffic_panel", ".pole_panel"),
        )
    }


# `kit.workloads.fraud` is the workload and the file that makes it: one thing has one name there.
SHARED = {f"kit.workloads.{name}" for name in kit.workloads.WORKLOADS}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("kit", "kit.__main__")])
def test_no_name_hides_a_module(module):
    """A package that lends a function of the name of its file would hide the file."""
    importlib.import_module(module)
    package, _, name = module.rpartition(".")
    assert inspect.ismodule(getattr(sys.modules[package], name)) == (module not in SHARED)


# --- The front door ------------------------------------------------------------------------------


def test_the_front_door_lists_its_names_in_order():
    assert kit.__all__ == sorted(set(kit.__all__))
    assert dir(kit) == kit.__all__
    assert {"train", "predict", "models", "errors"} <= set(kit.__all__)


@pytest.mark.parametrize("name", kit.__all__)
def test_each_name_is_there_and_says_what_it_is(name):
    thing = getattr(kit, name)
    assert inspect.getdoc(thing)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(AttributeError, match=r"no 'trian'; did you mean 'train'.*\btraffic\b"):
        kit.trian  # noqa: B018


@pytest.mark.parametrize("name", kit.__all__)
def test_public_functions_have_types_on_everything(name):
    thing = getattr(kit, name)
    if not inspect.isfunction(thing):
        assert inspect.ismodule(thing) or inspect.isclass(thing)
        return
    signature = inspect.signature(thing)
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


# A full collection of PyTorch's objects takes a tenth of a second, and falls to whichever import
# comes next: it is held, so that the kit's own modules are what is timed.
IMPORTING = """
import gc, json, sys, time
t0 = time.perf_counter()
import torch
t1 = time.perf_counter()
gc.freeze()
import kit
for name in ("device", "workloads", "count", "predict", "generate", "train", "save", "measure",
             "compare", "techniques", "fastest"):
    getattr(kit, name)
t2 = time.perf_counter()
print(json.dumps({"torch_s": t1 - t0, "kit_s": t2 - t1, "modules": sorted(sys.modules)}))
"""
HEAVY = [
    "matplotlib",
    "sklearn",
    "scipy",
    "pandas",
    "statsmodels",
    "pyarrow",
    "gymnasium",
    "num2words",
    "espeakng_loader",
    "ipywidgets",
    "anywidget",
    "papermill",
    "river",
    "IPython",
    "nbformat",
    "onnx",
    "onnxruntime",
    "openvino",
    "executorch",
    "torchao",
    "torch_pruning",
]


@pytest.fixture(scope="module")
def imports() -> list[dict]:
    """What importing the kit after torch took and brought, three times."""
    command = [sys.executable, "-c", IMPORTING]
    runs = (subprocess.run(command, capture_output=True, check=True) for _ in range(3))
    return [json.loads(run.stdout) for run in runs]


@pytest.mark.alone
def test_importing_the_kit_adds_little_to_importing_torch(imports):
    shares = [run["kit_s"] / run["torch_s"] for run in imports]
    assert (
        statistics.median(shares) < 0.25
    )  # all names; aimed at is 0.05; a busy machine must not decide


def test_importing_the_kit_alone_needs_no_torch():
    """The command line checks a notebook's parameters without importing PyTorch."""
    modules = "sys, kit, kit.cli.main, kit.experiments.course_pages"
    told = f"import {modules}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_command_that_reads_notebooks_builds_no_grammar_of_web_addresses():
    """jsonschema would: 1.5 s, twice as long as all else that such a command does first."""
    told = "import kit.cli.main, nbformat, sys; print(*({'jsonschema', 'lark'} & {*sys.modules}))"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["jsonschema"]


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_the_kit_leaves_for_later(heavy, imports):
    assert "kit.training" in imports[0]["modules"]
    assert heavy not in imports[0]["modules"]


def test_the_files_that_are_left_out_of_make_quick_are_there():
    named = [Path(__file__).parent / f"test_{name}.py" for name in (*SLOW, *LONGEST)]
    assert not [path.name for path in named if not path.exists()]


# --- Examples and habits -------------------------------------------------------------------------

WITH_EXAMPLES = [dotted(p) for p in FILES if ">>> " in p.read_text(encoding="utf-8")]


def test_the_examples_were_found():
    walked = {info.name for info in pkgutil.walk_packages(kit.__path__, "kit.")}
    assert set(WITH_EXAMPLES) <= walked
    assert len(WITH_EXAMPLES) >= 10


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_in_the_docstrings_are_true(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def called(path: Path) -> set[str]:
    """The names of all calls in a file, as written: `print`, `matplotlib.use` …"""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


# Rooms whose docstring says what each file is for; the others draw a tree of results or techniques.
LISTED = (
    "classroom",
    "core",
    "costs",
    "course",
    "deployment",
    "experiments",
    "inference",
    "ladders",
    "measurement",
    "monitoring",
    "training",
)


@pytest.mark.parametrize("room", LISTED)
def test_a_room_lists_its_files(room):
    listed = set()
    for line in importlib.import_module(f"kit.{room}").__doc__.splitlines():
        if names := re.match(r"[├└─ ]*(\w+(?:, \w+)*)  ", line):
            listed |= set(names[1].split(", "))
    files = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert files <= listed


FORBIDDEN = re.compile(r"print|plt\..*|matplotlib\.use|(warnings\.)?(filterwarnings|simplefilter)")


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_libraries_raise_and_never_print_or_choose_how_things_are_shown(path):
    assert not [name for name in called(path) if FORBIDDEN.fullmatch(name)]
    assert not re.search(r"^\s*(from|import) .*pyplot", path.read_text("utf-8"), re.MULTILINE)


def test_the_habits_are_looked_for_in_the_right_place(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("print(1)\nmatplotlib.use('agg')\nwarnings.filterwarnings('ignore')\n")
    assert all(FORBIDDEN.fullmatch(name) for name in called(bad))
    assert len(called(bad)) == 3
