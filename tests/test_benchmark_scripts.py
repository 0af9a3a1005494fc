"""Each benchmark goes on where it ended, and its result names the commit that made it."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
HELPERS = {"keeping", "loops", "peers", "other_stopwatches", "serving_servers"}
SCRIPTS = sorted({path.stem for path in FOLDER.glob("*.py")} - HELPERS)
# Why a run that ended early begins again: it is short, or its parts belong to one moment.
SHORT = {
    "class_board": "a minute, and the board is killed in its middle",
    "collect_speed": "half a minute",
    "eight_workloads": "measures nothing: it prints recorded runs",
    "grading": "a minute",
    "kv_cache": "two minutes, whose pairs stand beside peaks of the same moment",
    "lifetime_quality": "a minute of simulation",
}
# Scripts of which nobody has looked yet whether they go on.
NOT_YET = {
    *("binder_memory", "continuous_batching", "grading", "inference_ladder", "serving"),
    *("serving_flood", "torture"),
}


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Imports a script, with constants of tiny size; what it keeps goes to an empty folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["script"])
    before = set(sys.modules)

    def script(name, **constants):
        module = importlib.import_module(name)
        for each in (sys.modules["keeping"], module):
            monkeypatch.setattr(each, "RESULTS", tmp_path, raising=False)
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        return module

    yield script
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


# --- What each script must do --------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_goes_on_where_it_ended_or_is_short(name):
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    resumes = any(
        word in source for word in ("Parts(", "keep_parts(", "keep_of_gpu(", "read_back()")
    )
    assert resumes or name in SHORT or name in NOT_YET


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_keeps_its_figures_with_their_commit(name):
    page = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(page)}
    keeps = names & {"keep", "keep_parts", "keep_of_gpu"}
    assert keeps or name == "eight_workloads" or name in NOT_YET


def test_a_result_of_a_script_that_changed_since_is_marked(load, tmp_path):
    keeping = load("keeping")
    keeping.keep("import_time", import_ratio=1.0)
    assert "| import_time |" in keeping.origins() and "| the same |" in keeping.origins()
    path = tmp_path / "import_time.json"
    path.write_text(path.read_text().replace('"script": "', '"script": "0'), encoding="utf-8")
    assert "**changed**" in keeping.origins()
