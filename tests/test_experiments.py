"""The experiments: parameters, runs by plain papermill, and the runs that come with the kit."""

import json
import subprocess
import sys

import nbformat
import pytest
from click.testing import CliRunner
from papermill import PapermillExecutionError, execute_notebook
from papermill.cli import papermill as papermill_command
from written import WITHOUT_DRAFTS

from kit.core.errors import BadValue
from kit.core.files import NOTEBOOKS
from kit.core.results import RECORD
from kit.course.sentences import unmarked_sentences
from kit.experiments import class_results, collect, declared, experiment_folder, recording
from kit.experiments.class_comparison import SAME, spread
from kit.experiments.recording import RECORDED_RUNS, record_runs
from kit.techniques import TECHNIQUES
from kit.workloads import WORKLOADS

FOLDER = NOTEBOOKS / "experiments"
EXPERIMENTS = sorted(FOLDER.glob("*.ipynb"))
IDS = [path.stem for path in EXPERIMENTS]
HERE = FOLDER / "train-versus-infer.ipynb"
KEPT = sorted(RECORDED_RUNS.rglob("train-versus-infer*.ipynb"))

pytestmark = pytest.mark.usefixtures("warm_kernels")
experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=IDS)


def code(path) -> list[str]:
    """The code cells of a notebook, without what papermill put in."""
    cells = nbformat.read(path, as_version=4).cells
    own = [c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]
    return [cell.source for cell in own if cell.cell_type == "code"]


def papermill(path, executed, **parameters):
    """Run it as papermill alone does: nothing of the kit checks the parameters before."""
    execute_notebook(path, executed, parameters, cwd=executed.parent, **WITHOUT_DRAFTS)
    return nbformat.read(executed, as_version=4)


def records(notebook, kind):
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    found = [out.get("data", {}).get(RECORD, {}) for out in outputs]
    return [record for record in found if record.get("kind") == kind]


# --- Form ----------------------------------------------------------------------------------------


def test_these_experiments_are_there():
    ladders = ["generate-ladder", "inference-ladder", "training-ladder"]
    reports = ["class-results", "sweep-report"]
    alone = [
        "drift-and-retrain",
        "data-or-model",
        "fraud-in-real-time",
        "lifetime",
        "pretrained-after-drift",
        "serving-load",
    ]
    own = ["train-versus-infer", "your-own-model"]
    assert sorted(IDS) == sorted([*ladders, *reports, *alone, *own])


@experiment
def test_parameters_say_what_they_mean_and_may_be(path):
    assert declared(path)
    for parameter in declared(path).values():
        assert parameter.meaning, parameter
        assert parameter.choices or parameter.low is not None or parameter.type in (str, bool)
        assert parameter.value(parameter.default) == parameter.default


@experiment
def test_the_choice_of_workloads_is_the_shelf(path):
    if "workload" in declared(path):
        assert declared(path)["workload"].choices == tuple(WORKLOADS)


def test_the_choice_of_techniques_is_the_shelf():
    ready = tuple(name for name, each in TECHNIQUES.items() if each.tolerance is not None)
    for path in (HERE, FOLDER / "serving-load.ipynb"):
        assert declared(path)["technique"].choices == ready


@experiment
def test_papermill_shows_the_parameters_too(path):
    told = CliRunner().invoke(papermill_command, ["--help-notebook", str(path)]).output
    for parameter in declared(path).values():
        assert parameter.name in told and parameter.meaning[:20] in told


@experiment
def test_it_asks_for_a_kernel_by_name_and_its_cells_are_short(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(len(source.splitlines()) <= 17 for source in code(path))


@experiment
def test_its_outputs_are_of_the_cells_that_are_there(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    stamp = notebook.metadata.get(recording.STAMP, {})
    assert stamp.get("cells_sha256") == recording.cells_hash(notebook), f"kit record {path.stem}"
    assert outputs[0]["data"][RECORD]["kind"] == "Machine"
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for out in outputs)
    assert path.stat().st_size <= 1_000_000


@experiment
def test_each_sentence_of_an_experiment_is_vouched_for(path):
    found = unmarked_sentences(nbformat.read(path, as_version=4))
    assert not found, "\n".join(["", *found])


# --- Runs ----------------------------------------------------------------------------------------

QUICK = {"workload": "control", "batch_size": 64, "seed": 3, "threads": 1, "budget_s": 0.3}


def test_an_experiment_leaves_one_record_of_both_bills(tmp_path):
    options = {**QUICK, "precision": "bf16", "technique": "half"}
    executed = papermill(HERE, tmp_path / "run.ipynb", **options)
    (bills,) = records(executed, "RunCost")
    same = ("workload", "batch_size", "seed", "precision", "technique")
    assert [bills[name] for name in same] == [options[name] for name in same]
    assert bills["training"]["steps"] > 0 and bills["inference"]["one_example_s"]["value"] > 0
    assert bills["ratio"]["step_time"]["low"] <= bills["ratio"]["step_time"]["high"]
    assert {record["claim_id"] for record in records(executed, "Verdict")} == {"11", "13", "22"}
    row = collect(tmp_path).iloc[0]
    assert row["status"] == "done" and row["training.steps"] == bills["training"]["steps"]


def test_the_life_of_any_model_leaves_one_record_with_its_assumptions(tmp_path):
    demand = {"answers_per_day": 5e6, "utilisation": 0.5, "price_per_hour": 2.0, "currency": "EUR"}
    options = {"workload": "control", "seed": 3, "threads": 1, "budget_s": 0.3, "days": 30.0}
    executed = papermill(FOLDER / "lifetime.ipynb", tmp_path / "run.ipynb", **demand, **options)
    (life,) = records(executed, "Lifetime")
    assert life["currency"] == "EUR" and set(life["bills"]) >= {"time", "energy", "money"}
    for name in ("answers_per_day", "utilisation", "price_per_hour"):
        assert life["assumptions"][name]["value"] == demand[name]
    (run,) = records(executed, "RunCost")
    seconds = life["bills"]["time"]["training"]["value"]
    assert seconds == pytest.approx(run["training"]["seconds_s"])


def test_fraud_at_random_moments_is_judged_by_the_rule_of_its_claim(tmp_path):
    quick = {"duration_s": 0.5, "rate": 100.0, "seed": 3}
    executed = papermill(FOLDER / "fraud-in-real-time.ipynb", tmp_path / "run.ipynb", **quick)
    (load,), (card,) = records(executed, "ServerResult"), records(executed, "Verdict")
    assert load["seed"] == 3 and load["queries"] > 20
    assert card["claim_id"] == "30" and card["measured"]["fraud_recall"]["value"] > 0.5
    # Fifty payments are too few for an upper end of the slowest one in a hundred.
    assert card["verdict"] == "cannot tell" and card["measured"]["alarm_precision"]["high"] < 0.5


def test_data_or_model_tests_on_each_image_once(tmp_path):
    quick = {"trainings": 2, "steps": 20, "seed": 3}
    executed = papermill(FOLDER / "data-or-model.ipynb", tmp_path / "run.ipynb", **quick)
    (card,) = records(executed, "Verdict")
    assert card["claim_id"] == "07" and "all 1,797 tested on" in card["on"]
    assert card["measured"]["wrong_labels_accuracy_drop"]["value"] > 0


@pytest.mark.timeout(600)  # it compiles, without programs of earlier runs
def test_the_training_ladder_climbs_on_a_text_of_ones_own(tmp_path):
    """A tiny GPT to a loss that it soon reaches: every rung is there, with a verdict."""
    text = tmp_path / "mine.txt"
    text.write_text("To climb a ladder, take one rung at a time. " * 200)
    tiny = {"d_model": 16, "n_layers": 1, "context": 16, "batch_size": 4, "lr": 1e-2}
    limits = {"target_loss": 3.0, "seeds": 2, "budget_s": 0.2, "threads": 1, "text": str(text)}
    ladder = FOLDER / "training-ladder.ipynb"
    executed = papermill(ladder, tmp_path / "run.ipynb", **tiny, **limits)
    rungs = records(executed, "TrainingLadder")[-1]["rungs"]
    assert len(rungs) == 13 and all(rung["verdict"] for rung in rungs)
    assert rungs[0]["name"] == "plain AdamW" and rungs[0]["seconds_to_loss"] > 0


@pytest.mark.timeout(600)
def test_the_inference_ladder_weighs_every_form_and_libraries_are_silent(tmp_path, monkeypatch):
    """Nothing that they print is seen; and OpenVINO, which reports its use, leaves no trace.

    `test_techniques` has those that are not in the ladder.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    quick = {"model": "mlp", "examples": 64, "budget_s": 0.05, "threads": 1}  # one shape: 64
    ladder = FOLDER / "inference-ladder.ipynb"
    executed = papermill(ladder, tmp_path / "run.ipynb", **quick)
    forms = {form["name"]: form for form in records(executed, "InferenceLadder")[-1]["forms"]}
    ready = {name for name, each in TECHNIQUES.items() if each.tolerance is not None}
    assert ready < set(forms) and "pruned, trained on" in forms
    for form in forms.values():
        assert form["absent"] or (form["bytes"] > 0 and set(form["time_s"]) == {"1", "64"})
    assert not forms["onnx"]["absent"] or "not installed" in forms["onnx"]["absent"]
    printed = [o for c in executed.cells for o in c.get("outputs", []) if o.output_type == "stream"]
    assert not printed and not (tmp_path / "intel").exists()


def test_the_inference_ladder_takes_a_gpt_of_any_size(tmp_path):
    """Random weights: nothing is trained, and no score is wanted."""
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 1, "context": 16, "batch_size": 2}
    ladder = FOLDER / "inference-ladder.ipynb"
    few = ladder.read_text().replace(
        "techniques.TECHNIQUES.items()", "[('half', techniques.half), ('none', techniques.none)]"
    )
    (tmp_path / "few.ipynb").write_text(few)
    executed = papermill(tmp_path / "few.ipynb", tmp_path / "run.ipynb", budget_s=0.05, **shape)
    (record,) = records(executed, "InferenceLadder")[-1:]
    assert record["model"].startswith("GPT(d_model=16")
    names = [form["name"] for form in record["forms"]]
    assert names == ["plain PyTorch", "plain PyTorch, no_grad", "half", "none"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_generate_ladder_writes_the_same_in_every_way(precision, tmp_path):
    tiny = {"d_model": 16, "n_layers": 1, "n_heads": 1, "vocab_size": 20, "context": 64}
    asked = {"prompt_tokens": 12, "new_tokens": 20, "texts": 2, "threads": 1}
    executed = papermill(
        FOLDER / "generate-ladder.ipynb",
        tmp_path / "run.ipynb",
        precision=precision,
        **tiny,
        **asked,
    )
    written = records(executed, "Generation")
    assert [w["new_tokens"] for w in written] == [[20], [20], [20], [20, 20]]
    assert written[0]["way"].startswith("without a cache")
    (counted,) = records(executed, "GenerationCount")
    assert counted["kv_bytes_per_token"] == 2 * 16 * (4 if precision == "fp32" else 2)


def test_the_generate_ladder_refuses_a_precision_that_it_does_not_have(tmp_path):
    with pytest.raises(
        PapermillExecutionError, match=r"no precision is called 'int8'.* fp32, bf16"
    ):
        papermill(FOLDER / "generate-ladder.ipynb", tmp_path / "run.ipynb", precision="int8")


LOADS = {
    "rows": {"workload": "control", "technique": "half", "replicas": 2},
    "texts": {"workload": "language", "new_tokens": 3, "max_batch": 2},
}


@pytest.mark.parametrize("name", LOADS)
def test_a_load_on_a_server_leaves_one_record(name, tmp_path):
    asked = {"rate": 20.0, "target_ms": 500.0, "percentile": 50.0, "duration_s": 0.5, "seed": 3}
    asked |= {"search": False, **LOADS[name]}
    loads = FOLDER / "serving-load.ipynb"
    executed = papermill(loads, tmp_path / "run.ipynb", **asked)
    (load,) = records(executed, "TrafficResult")
    assert load["rate_requests_per_s"] == 20 and load["seed"] == 3 and load["requests"] > 0
    assert load["target_s"] == asked["target_ms"] / 1000 and "500" not in load["statuses"]
    row = collect(tmp_path).iloc[0]
    assert row["status"] == "done" and row["requests"] == load["requests"]


@pytest.mark.parametrize("name", ["sweep-report", "class-results"])
def test_a_report_reads_what_came_with_the_kit(name, tmp_path):
    executed = papermill(FOLDER / f"{name}.ipynb", tmp_path / "run.ipynb")
    html = [
        out["data"]["text/html"]
        for cell in executed.cells
        for out in cell.get("outputs", [])
        if "text/html" in out.get("data", {})
    ]
    assert sum("<img alt=" in text for text in html) >= 3


def test_one_command_sweeps_and_one_shows_the_table(tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "grid: {workload: [vision, control, fraud]}\nfixed: {budget_s: 0.2, threads: 1}\n"
    )
    out = tmp_path / "runs"
    command = [sys.executable, "-m", "kit", "sweep", "train-versus-infer", str(grid)]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = subprocess.run(
        [sys.executable, "-m", "kit", "report", str(out)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    table = collect(out, "RunCost")
    assert sorted(table["workload"]) == ["control", "fraud", "vision"]
    assert table["ratio.step_time.low"].notna().all()
    (recall,) = collect(out, "Verdict").query("claim_id == '30'")["measured.fraud_recall.value"]
    assert 0 < recall <= 1  # fraud has a claim of its own
    executed = papermill(FOLDER / "sweep-report.ipynb", tmp_path / "report.ipynb", folder=str(out))
    (card,) = [r for r in records(executed, "Verdict") if r["claim_id"] == "28"]
    assert card["verdict"] == "cannot tell"  # three of the five kinds were not run
    told = [
        str(out.get("text", "")) + str(out.get("data", {}).get("text/plain", ""))
        for cell in executed.cells
        for out in cell.get("outputs", [])
    ]
    assert "nothing surely beats" in "".join(told) and "There is no run of" not in "".join(told)


# --- What comes with the kit ---------------------------------------------------------------------


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_run_is_of_the_cells_that_are_there(path):
    assert code(path) == code(HERE), "run the sweeps anew and keep them: see CONTRIBUTING"
    assert path.stat().st_size < 100_000


def test_each_workload_has_a_kept_run_that_reached_its_target():
    bills = collect(RECORDED_RUNS / "eight", "RunCost")
    plain = bills[(bills["technique"] == "none") & (bills["parameter.model"] == "default")]
    assert sorted(plain["workload"]) == sorted(WORKLOADS)
    assert plain["reached"].all()
    assert (plain["ratio.step_time.low"] > 0).all()
    assert (plain["target_share"] == [WORKLOADS[name]().target for name in plain["workload"]]).all()


def test_keeping_leaves_records_and_nothing_to_look_at(tmp_path):
    kept = record_runs(RECORDED_RUNS / "class", tmp_path / "kept")
    assert [path.name for path in kept] == [
        p.name for p in sorted((RECORDED_RUNS / "class").iterdir())
    ]
    for path in kept:
        outputs = [o for c in json.loads(path.read_text())["cells"] for o in c["outputs"]]
        assert outputs and all(set(o["data"]) == {"text/plain", RECORD} for o in outputs)
        nbformat.validate(nbformat.read(path, as_version=4))
        mill = json.loads(path.read_text())["metadata"]["papermill"]
        assert "/" not in mill["input_path"] + mill.get("output_path", ""), "nobody's folders"
    with pytest.raises(BadValue, match="contains no executed notebook"):
        record_runs(tmp_path, tmp_path / "nothing")


def test_keeping_that_fails_leaves_what_was_kept_before(tmp_path, monkeypatch):
    """The old ones went first, so a full disk left neither."""
    kept = record_runs(RECORDED_RUNS / "class", tmp_path / "kept")
    (tmp_path / "kept" / "old.ipynb").write_text("{}")
    held = {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(recording, "write_text", full)
        record_runs(RECORDED_RUNS / "class", tmp_path / "kept")
    assert {path: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == held
    assert record_runs(RECORDED_RUNS / "class", tmp_path / "kept") == kept
    assert sorted((tmp_path / "kept").iterdir()) == sorted(kept)


# --- A class -------------------------------------------------------------------------------------


@pytest.fixture
def submitted(tmp_path):
    """The kept records, handed in by people whose names are in files, folders and metadata."""
    for i, path in enumerate(sorted((RECORDED_RUNS / "class").glob("*.ipynb"))):
        home = tmp_path / f"Ada-Lovelace-{i}"
        home.mkdir()
        notebook = json.loads(path.read_text())
        notebook["metadata"]["papermill"]["output_path"] = "/home/ada/runs/Ada.ipynb"
        (home / f"lovelace_{i}.ipynb").write_text(json.dumps(notebook))
    return tmp_path


def test_nobodys_name_gets_through(submitted):
    ours = class_results(submitted, "vision")
    assert list(ours.index) == ["A", "B", "C", "D", "E"][: len(ours)]
    assert ours["training.step_s"].is_monotonic_increasing
    told = ours.to_json() + repr(ours.attrs)
    assert not [name for name in ("ada", "lovelace") if name in told.lower()]


def test_only_equal_work_is_compared(submitted):
    path = next(submitted.rglob("*.ipynb"))
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        for output in cell["outputs"]:
            if output["data"][RECORD]["kind"] == "RunCost":
                output["data"][RECORD]["batch_size"] = 7
    path.write_text(json.dumps(notebook))
    ours = class_results(submitted, "vision")
    assert ours.attrs["left_out"] == 1
    assert all(ours[name].nunique() == 1 for name in SAME)


def test_a_workload_that_nobody_ran_is_refused(submitted):
    with pytest.raises(BadValue, match=r"no record of 'fraud' in .* It has vision"):
        class_results(submitted, "fraud")


def test_the_spread_is_largest_over_smallest():
    ours = class_results(RECORDED_RUNS / "class", "vision")
    assert (
        spread(ours["training.step_s"])
        == ours["training.step_s"].iloc[-1] / (ours["training.step_s"].iloc[0])
    )


# --- Folders -------------------------------------------------------------------------------------


def test_a_folder_is_found_from_here_or_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert experiment_folder("mine").samefile(tmp_path / "mine")
    assert experiment_folder("notebooks").samefile(NOTEBOOKS)
    assert experiment_folder("recorded") == RECORDED_RUNS / "eight"
    with pytest.raises(BadValue, match=r"folder='gone': no such folder .* kit sweep makes one"):
        experiment_folder("gone")
