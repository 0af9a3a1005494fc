"""Each benchmark goes on where it ended, and names its commit; those of the kit's own cost run."""

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

import kit

pytestmark = pytest.mark.alone
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
    "longer_runs": "measures nothing: it prints recorded runs",
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
    before, threads = set(sys.modules), torch.get_num_threads()

    def script(name, **constants):
        module = importlib.import_module(name)
        for each in (sys.modules["keeping"], module):
            monkeypatch.setattr(each, "RESULTS", tmp_path, raising=False)
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        return module

    yield script
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def kept(folder, name):
    """What the script kept: with the commit, the machine and the hash of the script."""
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert {"date", "commit", "script", "machine"} <= set(record)
    source = sys.modules["keeping"].script_of(name).read_text(encoding="utf-8")
    assert record["script"] == sys.modules["keeping"].fingerprint(source)
    assert not list((folder / "unfinished").glob("*"))
    return record


def twice(monkeypatch, folder, name, main):
    """Stop the script after its first part, start it again, and return what it kept."""
    parts, measured = sys.modules["keeping"].Parts, []
    real = parts.once

    def once(self, part, measure):
        if measured and measured[-1] != "again" and "again" not in measured:
            raise KeyboardInterrupt
        return real(self, part, lambda: (measured.append(part), measure())[1])

    monkeypatch.setattr(parts, "once", once)
    with pytest.raises(KeyboardInterrupt):
        main()
    (first,), stored = measured, json.loads((folder / f"unfinished/{name}.json").read_text())
    assert list(stored["parts"]) == [first] and not (folder / f"{name}.json").exists()
    measured.append("again")
    main()
    assert first not in measured[2:]
    return kept(folder, name)


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
    assert keeps or SHORT.get(name, "").startswith("measures nothing") or name in NOT_YET


def test_a_result_of_a_script_that_changed_since_is_marked(load, tmp_path):
    keeping = load("keeping")
    keeping.keep("import_time", import_ratio=1.0)
    assert "| import_time |" in keeping.origins() and "| the same |" in keeping.origins()
    path = tmp_path / "import_time.json"
    path.write_text(path.read_text().replace('"script": "', '"script": "0'), encoding="utf-8")
    assert "**changed**" in keeping.origins()


# --- The scripts, tiny ---------------------------------------------------------------------------


def test_import_time(load, monkeypatch, tmp_path):
    made = iter([[1.0, 0.01, 0.03], [1.0, 0.01, 0.03], [2.0, 0.02, 0.06], [1.0, 0.01, 0.03]])
    script = load("import_time")
    real = script.seconds()  # one real interpreter; the others would say the same
    assert 0 < real[1] < real[2] < real[0]
    monkeypatch.setattr(script, "seconds", lambda: next(made))
    record = twice(monkeypatch, tmp_path, "import_time", lambda: script.main(2))
    assert record["import_ratio"]["value"] == pytest.approx(1.01)
    assert record["first_use_ratio"]["value"] == pytest.approx(1.03)


def test_run_overhead(load, monkeypatch, tmp_path):
    script = load("run_overhead", CELLS=1, CELL_S=0.01)
    monkeypatch.setattr(script, "command", lambda *words: words)  # the kit's own start is tested
    record = twice(monkeypatch, tmp_path, "run_overhead", lambda: script.main(1))
    assert record["kit_run_s"] > 0.01 and record["nbclient_s"] > 0.01


def test_predict_overhead(load, monkeypatch, tmp_path):
    script = load("predict_overhead", ROUNDS=6, CALLS=2)
    record = twice(monkeypatch, tmp_path, "predict_overhead", script.main)
    assert set(script.BUILT) <= set(record) and record["gpt"]["modules"] > 10
    assert "| linear | 1 |" in script.table(record)


@pytest.mark.parametrize("kind", ["goal", "loaded"])
def test_measurement_quality(load, monkeypatch, tmp_path, kind):
    tiny = dict.fromkeys(("TRIALS", "POWER_TRIALS", "SPREAD_TRIALS", "LOADGEN_PAIRS"), 2)
    script = load("measurement_quality", **tiny, GOAL_TRIALS=2, TABLE_ROUNDS=1)
    short = {"in_two_seconds": 0.1, "no_difference": 0.1, "false_alarms": 0.1, "spread": 0.1}
    for name, budget_s in short.items():
        monkeypatch.setattr(getattr(script, name), "__defaults__", (budget_s,))
    power = script.power
    monkeypatch.setattr(script, "power", lambda *given, budget_s: power(*given, budget_s=0.1))
    monkeypatch.setattr(script, "overhead", dict)
    monkeypatch.setattr(script, "loadgen", dict)
    monkeypatch.setattr(script, "tools", lambda: {"kit.measure (median)": [1.0]})
    name = f"measurement_quality_{kind}"
    record = twice(monkeypatch, tmp_path, name, lambda: script.main(kind))
    assert 0 <= record["false_alarm_share"]["value"] <= 1
    found = "found_2_percent_in_2_s_share" if kind == "goal" else "found_2_percent_share"
    assert record[found]["value"] in (0, 0.5, 1)


def test_edge(load, monkeypatch, tmp_path):
    script = load("edge", ROUNDS=6, STARTS=1, CALLS=700)  # p99 needs 662

    def one(*given):  # of the processes: the others start slowly, and `test_edge.py` starts them
        return {"onnxruntime": (kit.techniques.onnx(*given), None)}

    monkeypatch.setattr(script, "processes", one)
    record = twice(monkeypatch, tmp_path, "edge", script.main)
    assert record["onnxruntime_model_bytes"] > 100_000 and record["calls"] == 700
    assert "| ONNX Runtime |" in script.table(record)
