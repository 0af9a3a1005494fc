"""Every lesson: its form, its recording, run as it is, run as an experiment, run with solutions."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from papermill import execute_notebook
from written import WITHOUT_DRAFTS

from kit.cli.main import main
from kit.core.errors import LessonFailed
from kit.core.results import records_in
from kit.course.claims import ledger
from kit.course.earlier_lessons import STAMP
from kit.course.exercises import EXERCISES, NO_ANSWER
from kit.experiments import declared, lessons, run
from kit.experiments.recording import cells_hash

LESSONS = lessons()
IDS = [path.name[:2] for path in LESSONS]
NOWHERE = "http://127.0.0.1:9"  # a lesson that asks the network for anything fails
LESSON_BYTES = int(1.5 * 2**30)
OTHER_PARAMETERS = {  # none of them a default
    "00": {"steps": 60, "budget_s": 0.2, "seed": 7},
    "01": {"model_name": "mlp", "steps": 90, "batch_size": 48, "lr": 0.002, "seed": 3},
    "02": {"model_name": "cnn", "batch_size": 8, "largest_batch": 128, "budget_s": 0.05},
    "03": {"size": 256, "budget_s": 0.1, "seed": 5},
    "04": {"model_name": "mlp", "steps": 40, "largest_batch": 48, "target_ms": 20.0}
    | {"percentile": 75, "budget_s": 0.05, "seed": 3},
    "05": {"device": "cpu", "largest_width": 512, "batch_size": 8, "budget_s": 0.05, "seed": 4},
    "06": {"steps": 80, "few_steps": 30, "trainings": 3, "seed": 3},
    "07": {"image_steps": 20, "sequence_steps": 20, "trainings": 3, "wrong_share": 0.3}
    | {"scale": 16.0, "seed": 4},
    "08": {"target_loss": 3.9, "seeds": 2, "budget_s": 0.2, "writing_s": 0.5, "seed": 3},
    "09": {"workload": "fraud", "pruned_share": 0.4, "zero_share": 0.9, "seeds": 2, "epochs": 0.5}
    | {"budget_s": 0.05, "seed": 3},
    "10": {"steps": 20, "new_tokens": 20, "readers": 2, "budget_s": 0.05, "seed": 3},
    "11": {"width": 1536, "steps": 20, "target_ms": 60.0, "percentile": 75, "think_s": 10.0}
    | {"budget_s": 0.5, "seed": 3},
    "12": {"calls": 800, "deadline_ms": 5.0, "share": 0.8, "translations": 60, "seed": 3},
    "13": {"model_name": "cnn", "steps": 60, "trainings": 2, "turn": 35.0, "labels": 60}
    | {"training_price": 5.0, "seed": 3},
    "14": {"steps": 30, "new_tokens": 8, "answers_per_day": 5e6, "price_per_hour": 2.5, "seeds": 2}
    | {"budget_s": 0.05, "seed": 3},
    "15": {"most_labels": 17, "trainings": 2, "tuning_steps": 5, "longest": 16, "budget_s": 0.05}
    | {"seed": 1},
}
# What the run with other parameters makes shorter where no parameter can; the run with the defaults
# runs it as it is. Lesson -> text, which stands there once, -> what takes its place.
SHORTER = {
    "08": {"(1e-3, 2e-3, 4e-3)": "(2e-3, 4e-3)", "(3e-3, 1e-2, 3e-2)": "(1e-2, 3e-2)"},
    "10": {
        "range(10)": "range(3)",
        "p, max_new_tokens=48": "p, max_new_tokens=16",
        "queries=120": "queries=48",
    },
    "11": {"12 * budget_s": "3 * budget_s"},
    "12": {
        "(0, 10, 20, 40, 60, 70, 75, 80, 100)": "(0, 40, 80, 100)",
        "periods=250": "periods=100",
        "calls=200": "calls=100",
        "windows, calls=2_000": "windows, calls=700",
        "states, calls=2_000": "states, calls=700",
    },
    "13": {"week / 51, policies": "week / 51, policies, periods=14", "periods=26": "periods=6"},
    "14": {"target_loss=2.8": "target_loss=3.2", "1.0)  # of all cores": "0.2)  # of all cores"},
}
NOT_IN_A_LESSON = r"\bsimply\b|\bjust\b|\bobviously\b|%timeit|time\.time\(|filterwarnings|pip install|^!(?!\[)|https?://"

lesson = pytest.mark.parametrize("path", LESSONS, ids=IDS)


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def records(notebook, kind):
    found = (record for out in outputs(notebook) for record in records_in(out))
    return [record for record in found if record["kind"] == kind]


def claims_of(number):
    return sorted(id for id, claim in ledger().items() if number in claim.lessons)


@pytest.fixture
def bounded_kernels(_warm_process, monkeypatch):
    """Kernels that find no network, and that get no more memory than a lesson may take."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    if _warm_process:
        monkeypatch.setenv("JUPYTER_PATH", _warm_process(LESSON_BYTES))


# --- Form ----------------------------------------------------------------------------------------


def test_there_are_lessons():
    assert IDS[:3] == ["00", "01", "02"]


@lesson
def test_a_lesson_has_the_parts_of_a_lesson(path):
    notebook = read(path)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    head = (
        r"# .+\?\n\n\*Reading \d+ min \(\d+ with the code\) · running \d+ s on 2 CPU cores · GPU "
    )
    assert re.match(head, text)
    for part in ("you will be able to", "## Check", "What you can now say", "Not measured here"):
        assert part in text, part
    assert "## Exercise" in text
    assert any(c.source.endswith("kit.machine()") for c in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"


@lesson
def test_a_lesson_keeps_to_the_house_style(path):
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert 12 <= len(code) <= 25
    assert max(len(cell.source.splitlines()) for cell in code) <= 8
    for cell in read(path).cells:
        assert not re.search(NOT_IN_A_LESSON, cell.source, re.MULTILINE), cell.source


@lesson
def test_exercises_have_checks_and_solutions(path):
    number = path.name[:2]
    asked = [
        re.search(r'kit\.check\("(.+?)"', cell.source)[1]
        for cell in read(path).cells
        if "exercise" in cell.metadata.get("tags", [])
    ]
    assert asked == [id for id in EXERCISES if id.startswith(number)]
    assert asked == list(solutions(number))


@lesson
def test_a_lesson_gives_each_of_its_claims_a_verdict(path):
    source = "\n".join(cell.source for cell in read(path).cells)
    asked = sorted(re.findall(r'kit\.verdict\(\s*"(\d\d)"', source))
    assert asked == claims_of(path.name[:2])  # each on its own, or in the table of kit.verdicts


@lesson
def test_parameters_are_declared_with_meaning_and_limits(path):
    for parameter in declared(path).values():
        assert parameter.meaning, parameter
        assert parameter.choices or parameter.low is not None, parameter
        assert parameter.value(parameter.default) == parameter.default


# --- Recording -----------------------------------------------------------------------------------


@lesson
def test_the_recording_is_of_the_cells_that_are_there(path):
    notebook = read(path)
    assert notebook.metadata.get(STAMP, {}).get("cells_sha256") == cells_hash(notebook), (
        f"{path.name} has cells that its outputs were not made by: run `make record`"
    )


@lesson
def test_the_recording_names_the_machine_and_is_small(path):
    notebook = read(path)
    assert path.stat().st_size <= 1_000_000
    assert len(records(notebook, "Machine")) == 1
    assert "widgets" not in notebook.metadata
    assert not any("jupyter.widget" in json.dumps(out) for out in outputs(notebook))
    assert not any(out.output_type == "error" for out in outputs(notebook))
    assert not any(out.get("name") == "stderr" for out in outputs(notebook))


@lesson
def test_pictures_in_the_recording_have_alt_text(path):
    html = " ".join(out.get("data", {}).get("text/html", "") for out in outputs(read(path)))
    images = re.findall(r"<img [^>]*>", html)
    assert images and all(re.search(r'alt="[^"]{20,}"', image) for image in images)


@lesson
def test_an_untouched_exercise_says_how_to_try_and_gives_no_hint(path):
    shown = [
        cell.outputs[0]["data"]["text/plain"]
        for cell in read(path).cells
        if "exercise" in cell.metadata.get("tags", [])
    ]
    assert shown and all(re.match(rf"\S+: no answer yet\. {NO_ANSWER}$", text) for text in shown)


# --- Runs ----------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
@lesson
@pytest.mark.usefixtures("bounded_kernels")
def test_a_lesson_runs_headless_in_little_memory_and_becomes_a_page(path, tmp_path):
    """One run with the defaults, by the command, offline and bounded: all checks read this run."""
    done = CliRunner().invoke(main, ["course", str(path), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / path.with_suffix(".html").name).read_text(encoding="utf-8")
    assert path.with_suffix(".html").name in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<figure" in page and "Traceback" not in page
    run = read(tmp_path / path.name)
    assert sorted(r["claim_id"] for r in records(run, "Verdict")) == claims_of(path.name[:2])
    assert not any("jupyter.widget" in json.dumps(out) for out in outputs(run))
    tagged_cells_say_the_same(read(path), run)


def tagged_cells_say_the_same(recording, run):
    """What nbval checks in a cell tagged `nbval-check-output`, of the run that there is."""
    pairs = zip(recording.cells, run.cells, strict=True)
    tagged = [pair for pair in pairs if "nbval-check-output" in pair[0].metadata.get("tags", [])]
    assert tagged
    for stored, ran in tagged:
        shown, again = ([out["data"] for out in cell.outputs] for cell in (stored, ran))
        assert shown and [d["text/plain"] for d in shown] == [d["text/plain"] for d in again]


def test_nbval_runs_the_checked_cells_of_a_lesson(tmp_path):
    """As a teacher may: `pytest --nbval-lax`. The other cells ran in the test above."""
    options = ["-p", "no:cacheprovider", "--nbval-lax", "-q", "-c", os.devnull]
    notebook, path = read(LESSONS[1]), tmp_path / LESSONS[1].name
    checked = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    notebook.cells = [nbformat.v4.new_code_cell("import kit"), *checked]
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(path.parent), str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def solutions(number):
    """The solution of each exercise of a lesson, by id, in their order."""
    text = (LESSONS[0].parent / "solutions" / f"{number}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %% (\S+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def with_solutions(path: Path, target: Path) -> None:
    notebook = read(path)
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = solutions(path.name[:2])[re.search(r'check\("(.+?)"', cell.source)[1]]
    for text, shorter in SHORTER.get(path.name[:2], {}).items():
        found = [cell for cell in notebook.cells if text in cell.source]
        assert len(found) == 1, f"{path.name}: {text!r} stands in {len(found)} cells: mend SHORTER"
        found[0].source = found[0].source.replace(text, shorter)
    nbformat.write(notebook, target)


@lesson
@pytest.mark.usefixtures("warm_kernels")
def test_plain_papermill_runs_it_with_other_parameters_and_solutions_are_right(path, tmp_path):
    number, solved, executed = path.name[:2], tmp_path / "solved.ipynb", tmp_path / "run.ipynb"
    with_solutions(path, solved)
    given = OTHER_PARAMETERS[number]
    assert all(declared(path)[name].default != value for name, value in given.items())
    execute_notebook(solved, executed, given, cwd=tmp_path, **WITHOUT_DRAFTS)
    notebook = read(executed)
    shown = [out["data"].get("text/plain", "") for out in outputs(notebook) if "data" in out]
    right = [text.split(":")[0] for text in shown if text.endswith(": right.")]
    assert right == list(solutions(number))
    for record in records(notebook, "History")[-1:]:
        same = [name for name in ("batch_size", "lr", "seed") if name in given]
        assert same and all(record[name] == given[name] for name in same)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's own memory")
@pytest.mark.usefixtures("bounded_kernels")
def test_a_kernel_gets_no_more_memory_than_a_lesson_may(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"x = bytes({LESSON_BYTES})")]
    )
    nbformat.write(notebook, tmp_path / "large.ipynb")
    with pytest.raises(LessonFailed, match="MemoryError"):
        run(tmp_path / "large.ipynb", tmp_path / "run.ipynb")


@pytest.mark.usefixtures("warm_kernels")
def test_the_template_runs_as_it_is(tmp_path):
    template = LESSONS[0].parent / "_template.ipynb"
    executed = read(run(template, tmp_path / "run.ipynb", {"budget_s": 0.1}))
    assert records(executed, "StepCost")


@lesson
@pytest.mark.parametrize("name, value", [("no_such_parameter", "1"), ("seed", "many")])
def test_a_wrong_parameter_is_refused_before_a_kernel_starts(path, name, value, tmp_path):
    words = ["run", str(path), "-p", name, value, "--out", str(tmp_path / "run.ipynb")]
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 2 and len(answer.stderr.splitlines()) == 1
    assert name in answer.stderr and "seed" in answer.stderr
    assert not list(tmp_path.iterdir())
