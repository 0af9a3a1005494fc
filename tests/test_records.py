"""Records: what executed notebooks tell of themselves, however they ended; files of any kind."""

import importlib
import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import psutil
import pytest
from written import written

import kit
from kit.core.errors import BadValue, LessonFailed
from kit.core.results import RECORD
from kit.experiments import collect, lessons, run
from kit.experiments.records import RUN_COLUMNS, ExecutedRun, executed_runs, ordered

PARAMETERS = """
n: int = 2  # 1..9 tries; of nothing
word: str = "none"  # free; to be kept
"""
SCORE = """
import torch, kit
torch.set_num_threads(1)
work = kit.workloads.vision()
kit.evaluate(work.model("mlp"), work)
"""
VERDICT = 'kit.verdict("01", weights_moved=1.0, loss_ratio=0.1 * n)'
FAILING = "if n == 9:\n    raise ValueError('by hand:\\n  n is 9')"
MACHINE = "kit.machine()"


def notebook(path, *cells: str):
    """A notebook with the parameters and these cells, not executed."""
    code = [nbformat.v4.new_code_cell(cell.strip()) for cell in (PARAMETERS, *cells)]
    code[0].metadata["tags"] = ["parameters"]
    return written(path, code)


@pytest.fixture(scope="module")
def folder(warm_kernels, tmp_path_factory):
    """A notebook that was run three times: as it is, with other parameters, and to a failure."""
    folder = tmp_path_factory.mktemp("runs")
    source = notebook(folder / "source.ipynb", SCORE, MACHINE, VERDICT, FAILING)
    run(source, folder / "a.ipynb")
    run(source, folder / "deeper" / "b.ipynb", {"n": 3, "word": "given"})
    with pytest.raises(LessonFailed):
        run(source, folder / "c.ipynb", {"n": 9})
    return folder


@pytest.fixture
def runs(folder):
    return {run.name: run for run in executed_runs(folder)}


# --- One executed notebook -----------------------------------------------------------------------


def test_each_executed_notebook_is_one_run(runs):
    assert list(runs) == ["a", "c", "deeper/b"]  # the source was not executed
    assert {run.notebook for run in runs.values()} == {"source.ipynb"}


def test_the_parameters_are_the_defaults_and_what_was_given(runs):
    assert runs["a"].parameters == {"n": 2, "word": "none"}
    assert runs["deeper/b"].parameters == {"n": 3, "word": "given"}
    assert runs["c"].parameters == {"n": 9, "word": "none"}
    assert all(run.units == {"n": "tries"} for run in runs.values())


def test_a_run_says_how_it_ended_and_how_long_it_took(runs):
    assert [run.status for run in runs.values()] == ["done", "failed", "done"]
    assert [run.error for run in runs.values()] == ["", "ValueError: by hand: n is 9", ""]
    assert all(0.1 < run.seconds < 300 for run in runs.values())
    began = [datetime.fromisoformat(f"{run.date}+00:00") for run in runs.values()]
    assert all(-5 < (datetime.now(UTC) - date).total_seconds() < 1_800 for date in began)


def test_the_main_record_is_neither_machine_nor_verdict(runs):
    assert {run.main["kind"] for run in runs.values()} == {"Score"}
    assert ExecutedRun("a", "b.ipynb", "done").main == {}


# --- A folder as a table -------------------------------------------------------------------------


def test_a_folder_is_a_row_per_run(folder):
    table = collect(folder)
    assert list(table["run"]) == ["a", "c", "deeper/b"]
    assert list(table["parameter.n"]) == [2, 9, 3]
    assert list(table.columns[:6]) == list(RUN_COLUMNS)
    assert set(table["machine.cpu"]) == {kit.machine().cpu}
    assert (table["mean_share.low"] < table["mean_share.value"]).all()
    assert set(table["mean_share.unit"]) == {"%"}
    assert set(table["kind"]) == {"Score"}


def test_a_kind_is_a_row_per_record_with_its_run(folder):
    table = collect(folder, "Verdict")
    assert list(table["run"]) == ["a", "c", "deeper/b"]
    assert list(table["measured.loss_ratio"]) == pytest.approx([0.2, 0.9, 0.3])
    assert list(table["parameter.word"]) == ["none", "none", "given"]
    assert list(table["status"]) == ["done", "failed", "done"]
    assert set(table["machine.torch"]) == set(collect(folder, "Machine")["torch"])


@pytest.mark.parametrize("kind", [None, "Verdict"])
def test_collecting_nothing_gives_an_empty_table(tmp_path, kind):
    assert len(collect(tmp_path, kind)) == 0


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadValue, match="nowhere: no such folder"):
        collect(tmp_path / "nowhere")


def test_columns_go_from_the_run_to_the_machine():
    rows = [{"run": 1, "machine.cpu": 1, "a.b": 1, "kind": 1}, {"run": 1, "parameter.n": 1}]
    assert ordered(rows) == ["run", "parameter.n", "kind", "a.b", "machine.cpu"]


# --- Records of any shape ------------------------------------------------------------------------


def shown(path, *records, tags=()):
    """An executed notebook with those records as its outputs."""
    cells = [
        nbformat.v4.new_code_cell(
            "…",
            outputs=[nbformat.v4.new_output("display_data", data={RECORD: record})],
            metadata={"tags": list(tags)},
        )
        for record in records
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_nested_values_become_columns_and_lists_stay(tmp_path):
    half = {"latency": {"value": 2.0, "low": 1.0, "high": 3.0, "unit": "s"}, "doubts": ["a", "b"]}
    shown(tmp_path / "a.ipynb", {"kind": "Halves", "inference": half, "times_s": [1.0, 3.0]})
    (row,) = collect(tmp_path, "Halves").to_dict("records")
    assert [row[f"inference.latency.{end}"] for end in ("value", "low", "high")] == [2.0, 1.0, 3.0]
    assert row["inference.doubts"] == ["a", "b"] and row["times_s"] == [1.0, 3.0]
    (row,) = collect(tmp_path).to_dict("records")
    assert row["inference.doubts"] == "a; b" and "times_s" not in row
    names = [name for name in collect(tmp_path) if "latency" in name]
    assert [name.rpartition(".")[2] for name in names] == ["value", "low", "high", "unit"]


def test_a_value_named_like_a_column_of_the_run_keeps_its_kind_before_it(tmp_path):
    shown(tmp_path / "a.ipynb", {"kind": "Odd", "status": "fine", "run": 7})
    for table in (collect(tmp_path), collect(tmp_path, "Odd")):
        (row,) = table.to_dict("records")
        assert (row["run"], row["status"]) == ("a", "done")
        assert (row["Odd.run"], row["Odd.status"]) == (7, "fine")


def test_the_two_bills_are_one_tidy_row(tmp_path, vision):
    model = vision.model("mlp")
    inputs, _ = vision.example(1)
    history = kit.train(model, vision, steps=5, batch_size=32, live=False)
    bill = kit.step_cost(model, vision, batch_size=32, budget_s=0.05)
    latency = kit.measure(lambda: kit.predict(model, inputs), budget_s=0.05)
    both = kit.run_cost(history, kit.evaluate(model, vision), vision.target, bill, latency)
    shown(tmp_path / "a.ipynb", both._repr_mimebundle_()[RECORD])
    (row,) = collect(tmp_path, "RunCost").to_dict("records")
    assert row["training.steps"] == 5 and row["workload"] == "vision"
    assert row["inference.one_example_s.value"] == latency.median_s
    assert row["ratio.step_time.low"] == bill.time_ratio.low
    assert collect(tmp_path)["score_share.value"].item() == both.score.mean.value


# --- Files of any kind ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"no notebook at all", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 200_000, "not a notebook"),
        (b"[]", "not a notebook"),
        (b"3", "not a notebook"),
        (b'{"cells": 3, "metadata": {}}', "not a notebook"),
        (b'{"worksheets": []}', "not a notebook"),
        (b'{"cells": [3], "metadata": {}}', "not a notebook"),
        (b'{"cells": [{"outputs": 3}], "metadata": {}}', "not a notebook"),
    ],
)
def test_a_file_that_is_no_notebook_is_a_row_with_its_reason(tmp_path, content, told):
    (tmp_path / "a.ipynb").write_bytes(content)
    (row,) = collect(tmp_path).to_dict("records")
    assert (row["run"], row["status"]) == ("a", "unreadable")
    assert row["error"].startswith(told)
    assert len(collect(tmp_path, "Verdict")) == 0


def test_a_notebook_cut_anywhere_is_a_row(folder, tmp_path):
    whole = (folder / "a.ipynb").read_bytes()
    for i in range(20):
        (tmp_path / f"{i:02}.ipynb").write_bytes(whole[: i * len(whole) // 20])
    assert list(collect(tmp_path)["status"]) == ["unreadable"] * 20


def test_a_file_that_may_not_be_opened_is_a_row(tmp_path):
    (tmp_path / "a.ipynb").symlink_to(tmp_path / "gone")
    (tmp_path / "b.ipynb").mkdir()
    assert list(collect(tmp_path)["status"]) == ["unreadable"] * 2


def test_drafts_checkpoints_and_what_was_not_executed_are_left_out(folder, tmp_path):
    shutil.copy(folder / "a.ipynb", tmp_path / "a.part.ipynb")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    shutil.copy(folder / "a.ipynb", tmp_path / ".ipynb_checkpoints" / "a-checkpoint.ipynb")
    shutil.copy(folder / "source.ipynb", tmp_path)
    assert len(collect(tmp_path)) == 0


def test_a_recorded_lesson_is_a_run_too(tmp_path):
    shutil.copy(lessons()[1], tmp_path)
    (found,) = executed_runs(tmp_path)
    assert (found.status, found.seconds, found.notebook) == ("done", None, lessons()[1].name)
    assert found.date.startswith("20") and found.parameters["model_name"] == "cnn"


def test_an_error_that_was_meant_is_none(tmp_path):
    meant = nbformat.v4.new_output("error", ename="ValueError", evalue="meant", traceback=[])
    cell = nbformat.v4.new_code_cell("…", outputs=[meant])
    path = tmp_path / "a.ipynb"
    for tags, status in ([], "failed"), (["raises-exception"], "done"):
        cell.metadata["tags"] = tags
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
        assert list(collect(tmp_path)["status"]) == [status]


def test_parameters_of_others_do_not_stop_the_reading(tmp_path):
    source = notebook(tmp_path / "source.ipynb", "1 + 1")
    text = source.read_text().replace("n: int = 2", "n = 2 * 3")
    source.write_text(text)
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(source), str(out), "-p", "n", "5"]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = executed_runs(tmp_path)
    assert (found.status, found.parameters) == ("done", {"n": 5})


def test_what_plain_papermill_left_when_it_was_killed_is_unfinished(tmp_path):
    source = notebook(tmp_path / "source.ipynb", "'before'", "import time; time.sleep(600)")
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(source), str(out)]
    mill = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (out.exists() and "'before'" in _outputs(out)):
            assert mill.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        for process in (*psutil.Process(mill.pid).children(recursive=True), mill):
            process.kill()
        mill.wait()
    (found,) = executed_runs(tmp_path)
    assert found.status == "failed" and found.error.startswith("unfinished")


def _outputs(path: Path) -> str:
    """The outputs of a notebook that is being written; nothing if it is half written."""
    try:
        cells = json.loads(path.read_text())["cells"]
    except ValueError:
        return ""
    return json.dumps([cell.get("outputs", []) for cell in cells])


# --- Many ----------------------------------------------------------------------------------------


def test_the_benchmark_reads_copies_of_a_lesson(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    told = importlib.import_module("collect_speed").read(copies=3)
    assert (told["notebooks"], told["verdicts"]) == (3, 18)
    assert min(told["collect_runs_processor_s"], told["report_s"]) > 0
    for name in ("collect_speed", "keeping"):
        sys.modules.pop(name, None)
