"""Each benchmark runs to its end at tiny size, goes on where it ended, and names its commit.

Most run here. `ELSEWHERE` says which test runs the others. The figures are thrown away.
"""

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kit
from kit.measurement import Peaks

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
HELPERS = {"keeping", "loops", "peers", "peers_generation", "other_stopwatches", "serving_servers"}
SCRIPTS = sorted({path.stem for path in FOLDER.glob("*.py")} - HELPERS)
# Why a run that ended early begins again: it is short, or its parts belong to one moment.
SHORT = {
    "before_and_after": "measures nothing: it prints kept results",
    "binder_memory": "each lesson is kept as it ends, and the others are named to go on",
    "class_board": "a minute, and the board is killed in its middle",
    "collect_speed": "half a minute",
    "eight_workloads": "measures nothing: it prints recorded runs",
    "grading": "four minutes, whose second run reads what the first one kept",
    "kv_cache": "two minutes, whose pairs stand beside peaks of the same moment",
    "lifetime_quality": "a minute of simulation",
    "longer_runs": "measures nothing: it prints recorded runs",
}
# The test of another file that runs a script from end to end; and scripts that no test runs whole.
ELSEWHERE = {
    "eight_workloads": ("test_readme", "test_the_tables_of_results_are_the_measured_ones"),
    "longer_runs": ("test_readme", "test_the_tables_of_results_are_the_measured_ones"),
    "gpu_decode": ("test_inference_benchmarks", "test_the_script_for_a_gpu_runs_small_on_the_cpu"),
    "gpu_training": ("test_gpu_training", "test_the_script_for_a_gpu_runs_small_on_the_cpu"),
    "time_to_loss": ("test_time_to_loss", "test_it_runs_to_its_end_and_goes_on_where_it_was"),
}
# Made up: to measure them takes seconds.
PEAKS = Peaks({"float32": 1e13}, 1e12, {}, "cpu", 1, cache_bytes_per_s=2e12)


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
    assert resumes or name in SHORT


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_keeps_its_figures_with_their_commit(name):
    page = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(page)}
    keeps = names & {"keep", "keep_parts", "keep_of_gpu"}
    assert keeps or SHORT.get(name, "").startswith("measures nothing")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_to_its_end_in_a_test(name):
    file, test = ELSEWHERE.get(name, (Path(__file__).stem, f"test_{name}"))
    assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")


def test_a_result_of_a_script_that_changed_since_is_marked(load, tmp_path):
    keeping = load("keeping")
    keeping.keep("import_time", import_ratio=1.0)
    assert "| import_time |" in keeping.origins() and "| the same |" in keeping.origins()
    path = tmp_path / "import_time.json"
    path.write_text(path.read_text().replace('"script": "', '"script": "0'), encoding="utf-8")
    assert "**changed**" in keeping.origins()


def test_a_result_that_counts_as_the_same_was_made_by_that_script(load):
    """By the script in the commit that it names: no stamp became valid by itself."""
    keeping, looked = load("keeping"), 0
    for path in sorted((FOLDER / "results").glob("*.json")):
        record, script = json.loads(path.read_text("utf-8")), keeping.script_of(path.stem)
        if record["script"] != keeping.fingerprint(script.read_text(encoding="utf-8")):
            continue
        ask = ["git", "-C", str(FOLDER), "show", f"{record['commit']}:./{script.name}"]
        then = subprocess.run(ask, capture_output=True, encoding="utf-8", check=False)
        if then.returncode == 0:  # not with a "+", and not where the history is cut off
            assert keeping.fingerprint(then.stdout) == record["script"], path.name
            looked += 1
    if not looked:
        pytest.skip("the history of this checkout is cut off")


def test_a_figure_is_worse_only_if_the_intervals_do_not_meet(load):
    script, estimate = load("before_and_after"), kit.statistics.Estimate
    before, slower = estimate(1.0, 0.9, 1.1, "s"), estimate(1.3, 1.2, 1.4, "s")
    assert script.verdict(before, slower, script.LESS) == "**worse**"
    assert script.verdict(before, slower, script.MORE) == "better"
    assert script.verdict(before, estimate(1.2, 1.0, 1.4, "s"), script.LESS) == "cannot tell"
    assert script.verdict(1.0, 2.0, script.LESS) == "no interval"


def test_results_of_other_instructions_are_not_compared(load):
    script, cores = load("before_and_after"), {"cpu": "A", "cores_allowed": 2, "cores_present": 2}
    older, old, new = (
        {"machine": cores | more}
        for more in ({}, {"instructions": ["AVX512"]}, {"instructions": ["AVX2"]})
    )
    assert script.another_machine(old, new) == "another machine (A, with AVX512)"
    assert not script.another_machine(older, new) and not script.another_machine(new, new)
    assert script.another_machine({"machine": cores | {"cpu": "B"}}, new) == "another machine (B)"


def test_before_and_after(load, monkeypatch, capsys):
    shallow = ["git", "-C", str(FOLDER), "rev-parse", "--is-shallow-repository"]
    asked = subprocess.run(shallow, capture_output=True, text=True, check=False)
    if asked.stdout.strip() != "false":
        pytest.skip("the history of this checkout is cut off")
    script = load("before_and_after")
    monkeypatch.setattr(script, "RESULTS", FOLDER / "results")
    script.main()
    assert capsys.readouterr().out.strip() in (ROOT / "docs" / "results.md").read_text("utf-8")
    results = {path.stem for path in (FOLDER / "results").glob("*.json")}
    assert results <= {*script.FIGURES, *script.WITHOUT}  # none is left out without a word


# --- The scripts, tiny; `alone` are those in which what was measured decides ---------------------


@pytest.mark.alone
def test_import_time(load, monkeypatch, tmp_path):
    made = iter([[1.0, 0.01, 0.03], [1.0, 0.01, 0.03], [2.0, 0.02, 0.06], [1.0, 0.01, 0.03]])
    script = load("import_time")
    real = script.seconds()  # one real interpreter; the others would say the same
    assert 0 < real[1] < real[2] < real[0]
    monkeypatch.setattr(script, "seconds", lambda: next(made))
    record = twice(monkeypatch, tmp_path, "import_time", lambda: script.main(2))
    assert record["import_ratio"]["value"] == pytest.approx(1.01)
    assert record["first_use_ratio"]["value"] == pytest.approx(1.03)


@pytest.mark.alone
def test_run_overhead(load, monkeypatch, tmp_path):
    script = load("run_overhead", CELLS=1, CELL_S=0.01)
    monkeypatch.setattr(script, "command", lambda *words: words)  # the kit's own start is tested
    record = twice(monkeypatch, tmp_path, "run_overhead", lambda: script.main(1))
    assert record["per_run"]["value"] > 0.9 and record["command_nbclient_beyond_s"] != 0
    assert "`kit.experiments.run` takes" in script.table()


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


def test_loop_overhead(load, monkeypatch, tmp_path):
    script = load("loop_overhead", SHORT=40, LONG=80)
    for name, feed in list(script.LOOPS):
        if name not in ("bare loop", "kit.train", "tutorial loop"):
            monkeypatch.delitem(script.LOOPS, (name, feed))
    monkeypatch.setattr(script, "live_ratio", lambda: kit.statistics.Estimate(1.0, 1.0, 1.0, "×"))
    monkeypatch.setattr(script, "quiet", lambda: None)
    record = twice(monkeypatch, tmp_path, "loop_overhead", lambda: script.main(2))
    assert {row["loop"] for row in record["loops"]} == {"bare loop", "kit.train", "tutorial loop"}
    assert record["live_curve"]["value"] == 1


def test_edge(load, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `edge` has it")
    script = load("edge", ROUNDS=6, STARTS=1, CALLS=700)  # p99 needs 662

    def one(*given):  # of the processes: the others start slowly, and `test_edge.py` starts them
        return {"onnxruntime": (kit.techniques.onnx(*given), None)}

    monkeypatch.setattr(script, "processes", one)
    record = twice(monkeypatch, tmp_path, "edge", script.main)
    assert record["onnxruntime_model_bytes"] > 100_000 and record["calls"] == 700
    assert "| ONNX Runtime |" in script.table(record)


def test_drift_quality(load, monkeypatch, tmp_path):
    pytest.importorskip("river", reason="the extra `drift` has it")
    script = load("drift_quality", DEGREES={"rotation": (30,)}, TRIALS=2)
    monkeypatch.setattr(sys, "argv", ["script", "--trials", "2"])
    script.main()
    assert kept(tmp_path, "drift_quality")["trials"] == 2


def test_gpt_step_share(load, monkeypatch, tmp_path):
    script = load("gpt_step_share", MATMULS=[(8, 8, 8)], TRIES=1)
    sizes = {(16, 1, 1): 2}
    record = twice(monkeypatch, tmp_path, "gpt_step_share", lambda: script.main(sizes, 6))
    assert [row["precision"] for row in record["steps"]] == ["fp32", "bf16"]


def test_kv_cache(load, monkeypatch, tmp_path):
    tiny = kit.models.GPTConfig(vocab_size=16, context=64, d_model=16, n_layers=1, n_heads=1)
    script = load("kv_cache", CONFIG=tiny, PROMPT=8, NEW=20)
    monkeypatch.setattr(script.kit, "peaks", lambda *_, **__: PEAKS)
    script.main(6)
    assert kept(tmp_path, "kv_cache")["new_tokens"] == 20


def test_lifetime_quality(load, monkeypatch, tmp_path):
    script = load("lifetime_quality", TRIALS=2)
    script.simulate()
    assert set(kept(tmp_path, "lifetime_quality")["held_known"]) == set(script.MACHINES)
    assert "independent times" in script.tables()


def test_collect_speed(load, tmp_path):
    script = load("collect_speed", COPIES=2)
    script.main()
    assert kept(tmp_path, "collect_speed")["notebooks"] == 2


def test_interval_quality(load, tmp_path):
    script = load("interval_quality", RUNS=2, LADDERS=2)
    script.main(["shares"])
    script.main(["verdicts"])
    assert set(kept(tmp_path, "interval_quality")["sections"]) == {"shares", "verdicts"}


@pytest.mark.alone
def test_traffic_quality(load, monkeypatch, tmp_path):
    script = load("traffic_quality", USERS=(8,), LOADS=(0.3,))
    monkeypatch.setattr(script, "client_limit", lambda *_, **__: 1.0)
    monkeypatch.setattr(script, "latency", lambda *_: {"mean_kit_to_loadgen": 1.0})
    monkeypatch.setattr(sys, "argv", ["script", "--pairs", "1", "--seconds", "0.3"])
    record = twice(monkeypatch, tmp_path, "traffic_quality", script.main)
    assert "wait_at_30_percent_to_theory" in record


def test_class_board(load, tmp_path):
    load("keeping")
    # By its path: the module of the tests that it imports has the same name.
    spec = importlib.util.spec_from_file_location("board_script", FOLDER / "class_board.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.LAPTOPS = 2
    script.percentile = lambda delays, p, _: max(delays)  # so few have none
    script.main(1.5)
    assert kept(tmp_path, "class_board")["lost"] == 0


def test_continuous_batching(load, monkeypatch, tmp_path):
    script = load("continuous_batching", PAIRS=1)
    (tiny,) = script.QUICK.values()
    monkeypatch.setattr(script, "SIZES", {"first": tiny, "second": tiny})
    linear_s = script.linear_s
    monkeypatch.setattr(script, "linear_s", lambda model, rows, _: linear_s(model, rows, 0.02))
    record = twice(monkeypatch, tmp_path, "continuous_batching", lambda: script.main(False))
    assert record["sizes"]["second"]["lengths"]["mixed"]["identical_texts"] == script.TEXTS
    assert "| second |" in script.table()


@pytest.mark.alone  # a client that is slow for a moment would decide
def test_serving_flood(load, monkeypatch, tmp_path):
    pytest.importorskip("uvicorn", reason="the extra `serve` has it")
    short = {"USERS": 2, "PEAK_S": 0.3, "BEFORE_S": 0.5, "CALM_S": 0.5, "AFTER_S": 4.2}
    script = load("serving_flood", **short)
    script.main(1, 0.5, False)
    record = kept(tmp_path, "serving_flood")
    assert record["floods"][0]["before_bytes"] > 0 and "| 1, " in script.markdown(record)


@pytest.mark.alone
def test_inference_ladder(load, monkeypatch, tmp_path):
    script = load("inference_ladder", SIX=("vision", "fraud"), BUDGET_S=0.01, FASTEST_S=0.01)
    monkeypatch.setattr(script.kit, "peaks", lambda *_, **__: PEAKS)
    monkeypatch.setattr(script, "trained", lambda model, *_: model.eval().requires_grad_(False))
    half = kit.techniques.get("half")
    monkeypatch.setattr(script, "forms", lambda ladder, _: ladder.then("half", half))
    script.main(None, most=0)
    assert not (tmp_path / "inference_ladder.json").exists()
    record = twice(monkeypatch, tmp_path, "inference_ladder", lambda: script.main(None))
    assert [len(model["forms"]) for model in record["models"]] == [3, 3]
    assert "| fraud, MLP |" in script.table()
    two = ({"value": 2.0, "low": 0.0, "high": None}, {"value": 8.0, "low": 2.0, "high": 8.0})
    found = script.mean(two)  # the interval of the first is unknown, as JSON has it
    assert (found.value, found.low, found.high) == pytest.approx((4, 0, float("inf")))


def test_generation(load, monkeypatch, tmp_path):
    pytest.importorskip("torchao", reason="the extra `edge` has it")
    tiny = kit.models.GPTConfig(16, context=64, d_model=32, n_layers=1, n_heads=2)
    script = load("generation", SIZES={"1 × 32": (tiny, 4)}, ROUNDS=6)
    monkeypatch.setattr(script.kit, "peaks", lambda *_, **__: PEAKS)
    monkeypatch.setattr(script, "trained", lambda model, *_: model.eval().requires_grad_(False))
    record = twice(monkeypatch, tmp_path, "generation", script.main)
    ways = record["sizes"]["1 × 32"]["ways"]
    assert {"kit, float32", "kit, bfloat16", "kit, 4-bit weights"} <= set(ways)
    assert 0 < ways["kit, float32"]["share_of_bound"]["value"] < 1
    assert ways["kit, 4-bit weights"]["decode_bytes"] < ways["kit, bfloat16"]["decode_bytes"]
    assert "| 1 × 32 | kit, 4-bit weights |" in script.table(record)
    assert 0 < record["sizes"]["1 × 32"]["least"]["kit, float32"]["value"] < 1
    assert "1 × 32: the share of linear layers and attention alone" in script.table(record)


def test_grading(load, monkeypatch, tmp_path):
    script = load("grading", N=1)
    script.main()
    record = kept(tmp_path, "grading")
    assert record["rows"] == 1 and record["not_as_expected"] == []
    assert record["second_run_s"] < record["first_run_s"]  # it only reads


@pytest.mark.alone
def test_serving(load, monkeypatch, tmp_path):
    pytest.importorskip("uvicorn", reason="the extra `serve` has it")
    script = load("serving")
    short = script.Plan(seconds=0.3, rounds=1, searches=0, percentile=90, flood=2)
    monkeypatch.setattr(script, "offline", lambda _: {"rows_per_s": 1e5, "one_s": 1e-3})

    def main():
        script.main(short, [script.KIT], False, "serving_kit")

    record = twice(monkeypatch, tmp_path, "serving_kit", main)
    assert not any(told["errors"] for told in record["servers"].values())
    assert record["servers"]["kit"]["flood"]["after_bytes"] > 0
    assert "| kit " in script.markdown(record) and script.visit.__name__ == "visit"


def outside(code, folder):
    """Run a script in a process of its own, which has no other children; what it wrote."""
    first = f"import sys; from pathlib import Path; sys.path[:0] = [{str(FOLDER)!r}, '{ROOT}']\n"
    first += f"import keeping; keeping.RESULTS = Path({str(folder)!r})\n"
    ran = subprocess.run([sys.executable, "-c", first + code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


TORTURE = """
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("script", Path(keeping.FOLDER) / "torture.py")
script = module_from_spec(spec)
spec.loader.exec_module(script)
wanted = [("downloads", "kill -9"), ("checkpoints", "kill -9")]
cells = [each for each in script.all_cells() if (each[0].name, each[1].name) in wanted]
script.round_of = lambda _: cells
sys.argv[1:] = ["--minutes", "0.001", "--seed", "tiny"]  # over after one trial
script.main()
print("trials:", script.json.loads((keeping.RESULTS / "torture.json").read_text())["trials"])
script.enter = lambda _: None  # it is in the namespaces that it needs
sys.exit(script.main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="torture needs Linux")
def test_torture(load, tmp_path):
    load("keeping")
    first, second = outside(TORTURE, tmp_path).split("trials: 1")
    assert "kill -9 / tiny/0: survived\n" in first and "survived before" in second
    assert kept(tmp_path, "torture")["trials"] == 2


BINDER = """
import contextlib, subprocess, types
server = "import time; held = b'x' * 30_000_000; print(flush=True); time.sleep(60)"

class Page:
    set_default_timeout = close = lambda *_: None

class Browser:
    new_page = lambda _: Page()

class Lab:
    notebook = lambda _, name: name
    end_kernels = lambda _: None

@contextlib.contextmanager
def running_lab(_):
    with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield Lab()
        process.kill()

def run_all(*_, **__):
    import time
    time.sleep(0.6)
    return [{"outputs": [{"output_type": "error"}]}, {"outputs": []}]

browser = types.ModuleType("browser")  # in place of JupyterLab and Chromium, which take a minute
browser.running_lab, browser.run_all = running_lab, run_all
browser.running_chromium = lambda: contextlib.nullcontext(Browser())
browser.open_notebook = lambda *_: None
sys.modules["browser"] = browser
import binder_memory as script
script.RESULTS = keeping.RESULTS
group = keeping.RESULTS / "group"  # in place of Linux's, for which one has to be an administrator
group.mkdir()
(group / "memory.events").write_text("oom_kill 0")

class Group(type(group)):
    def rmdir(self):
        (self / "memory.events").unlink()
        super().rmdir()

script.limit_memory = lambda process: Group(group)
script.main(NUMBERS)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_binder_memory(load, monkeypatch, tmp_path, capsys):
    pytest.importorskip("psutil")
    script = load("binder_memory")
    for number in ("00", "01"):  # the second run keeps what the first one found
        outside(BINDER.replace("NUMBERS", repr([number])), tmp_path)
    lessons = kept(tmp_path, "binder_memory")["lessons"]
    assert set(lessons) == {"00", "01"} and lessons["00"]["peak_bytes"] > 30_000_000
    assert lessons["01"]["failed_cells"] == 1 and lessons["01"]["killed"] == 0
    script.table()
    assert "in: 00, 01. Not measured yet: 02" in capsys.readouterr().out
