"""Recordings: notebooks that really run, what of them is recorded, and how it is shown."""

import json
import re
from functools import partial
from types import SimpleNamespace

import nbformat
import pytest
from click.testing import CliRunner
from written import written

from kit import devices
from kit.cli.main import main
from kit.core.errors import BadValue
from kit.core.results import RECORD
from kit.course import recordings
from kit.course.recordings import recordings as lesson_recordings
from kit.course.recordings import save_recording
from kit.experiments import find_notebook, recording, run
from kit.experiments.recording import TAG, record_measurements, tagged_cells

PARAMETERS = """
n: int = 3  # 1..9; values
batch_size: int = 4  # 1..99; examples
"""
SET_UP = "import torch, kit\ntorch.set_num_threads(1)"
SWEEP = """
kit.sweep(
    lambda width: lambda: sum(range(width)), [10, 100, 1000][:n], varied="width",
    items=lambda width: batch_size, budget_s=0.2,
)
"""
COMPARISON = """
a = torch.rand(64, 64)
kit.compare({"one": lambda: a @ a, "two": lambda: a @ a}, budget_s=0.2)
"""
NOT_HERE = 'kit.plots.Note("Not measured here.")'
LESSON = {"untagged": SWEEP, f"{TAG}over-width": SWEEP, f"{TAG}in-turns": COMPARISON}


def notebook(path, cells):
    """A notebook with two parameters and these cells, by tag."""
    all_cells = {"parameters": PARAMETERS, "set-up": SET_UP, **cells}
    new = nbformat.v4.new_code_cell
    made = [new(source.strip(), metadata={"tags": [tag]}) for tag, source in all_cells.items()]
    return written(path, made)


@pytest.fixture(scope="module")
def executed(warm_kernels, tmp_path_factory):
    """A lesson that was run, with one parameter given."""
    folder = tmp_path_factory.mktemp("lesson")
    path = notebook(folder / "77-how-far.ipynb", LESSON)
    return run(path, folder / "run.ipynb", {"n": 2})


@pytest.fixture
def file(executed, tmp_path):
    return record_measurements(executed, "77", tmp_path / "recordings")


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`kit record … --measurements`, which records into a folder of this test."""
    folder = tmp_path / "recordings"
    monkeypatch.setattr(
        recording, "record_measurements", partial(record_measurements, folder=folder)
    )

    def typed(path, *options):
        monkeypatch.setattr("kit.cli.run.RUNS", tmp_path / "runs")
        return CliRunner().invoke(main, ["record", str(path), "--measurements", *options])

    return SimpleNamespace(run=typed, folder=folder, runs=tmp_path / "runs")


def recorded_elsewhere(folder, accelerator="Fast One", date="2026-01-02", **parameters):
    """A recording of another machine, made by hand."""
    machine = {**devices.machine().to_dict(), "accelerator": accelerator}
    sweep = {
        "kind": "Sweep",
        "values": [32, 64],
        "measurements": [{"median_s": {"value": s}, "times_s": [s] * 9} for s in (0.1, 0.2)],
    }
    return save_recording("77", machine, date, {"over-width": sweep}, parameters, folder)


# --- Keeping -------------------------------------------------------------------------------------


def test_the_tags_say_what_may_be_kept(executed):
    assert list(tagged_cells(executed)) == ["over-width", "in-turns"]


def test_what_the_tagged_cells_measured_is_kept_and_nothing_else(file):
    raw = json.loads(file.read_text(encoding="utf-8"))
    assert {name: record["kind"] for name, record in raw["records"].items()} == {
        "over-width": "Sweep",
        "in-turns": "Comparison",
    }
    assert raw["lesson"] == "77"


def test_a_recording_is_small_and_holds_no_raw_times(file, executed):
    assert file.stat().st_size < recordings.MOST_BYTES
    assert file.stat().st_size < executed.stat().st_size
    text = file.read_text(encoding="utf-8")
    assert '"times_s"' in executed.read_text(encoding="utf-8")
    assert not any(f'"{raw}"' in text for raw in recordings.RAW)
    assert '"median_s"' in text and '"ratio"' in text


def test_a_recording_knows_its_machine_and_its_parameters(file):
    raw = json.loads(file.read_text(encoding="utf-8"))
    here = devices.machine()
    assert raw["machine"]["cpu"] == here.cpu and raw["machine"]["torch"] == here.torch
    assert raw["parameters"] == {"n": 2, "batch_size": 4}  # the given one, and the default
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", raw["date"])


def test_a_notebook_that_papermill_never_saw_has_its_defaults(tmp_path):
    """As when it was run by hand, in JupyterLab."""
    path = notebook(tmp_path / "77-by-hand.ipynb", {f"{TAG}one": SWEEP})
    made = nbformat.read(path, as_version=4)
    data = {RECORD: {"kind": "Sweep", "values": [1]}, "text/plain": ""}
    made.cells[-1].outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(made, path)
    raw = json.loads(record_measurements(path, "77", tmp_path).read_text(encoding="utf-8"))
    assert raw["parameters"] == {"n": 3, "batch_size": 4}


def test_a_newer_recording_of_a_machine_takes_the_old_ones_place(tmp_path):
    first = recorded_elsewhere(tmp_path, date="2026-01-02")
    second = recorded_elsewhere(tmp_path, date="2026-03-04")
    assert first == second == tmp_path / "77-fast-one.json"
    assert [each.date for each in lesson_recordings("77", tmp_path).recordings] == ["2026-03-04"]
    assert not list(tmp_path.glob("*.part"))


def test_another_machine_and_another_lesson_have_files_of_their_own(tmp_path):
    recorded_elsewhere(tmp_path, "Fast One")
    recorded_elsewhere(tmp_path, "Other (TM) One")
    save_recording("78", devices.machine().to_dict(), "2026-01-02", {}, {}, tmp_path)
    assert len(lesson_recordings("77", tmp_path).recordings) == 2
    assert len(lesson_recordings("78", tmp_path).recordings) == 1


def test_one_that_is_too_large_is_refused_and_the_old_one_stays(tmp_path):
    path = recorded_elsewhere(tmp_path)
    before = path.read_bytes()
    machine = json.loads(before)["machine"]
    with pytest.raises(BadValue, match=r"lesson 77 would take .* may take at most 50.0 kB"):
        save_recording(
            "77", machine, "2026-05-06", {"big": {"values": list(range(20_000))}}, {}, tmp_path
        )
    assert path.read_bytes() == before


# --- kit record --measurements -------------------------------------------------------------------


def test_record_keeps_what_was_measured_and_says_where(command, tmp_path):
    path = notebook(tmp_path / "77-how-far.ipynb", LESSON)
    done = command.run(path, "-p", "batch_size", "8")
    assert done.exit_code == 0, done.output
    executed, stored = done.output.splitlines()
    (out,) = command.runs.iterdir()
    assert executed == f"Executed notebook: {out}"
    assert stored.startswith(f"Recording: {command.folder}")
    there = lesson_recordings("77", command.folder)
    assert there.recordings[0].parameters == {"n": 3, "batch_size": 8}
    assert [values for values, _ in there.curves("over-width").values()] == [[10, 100, 1000]]


def test_record_refuses_a_notebook_without_a_tagged_cell_before_it_runs(command, tmp_path):
    path = notebook(tmp_path / "77-untagged.ipynb", {"untagged": SWEEP})
    done = command.run(path)
    assert done.exit_code == 2
    assert done.output == (
        "Error: --measurements: 77-untagged.ipynb has no cell tagged record:…; tag one of them.\n"
    )
    assert not command.runs.exists() and not command.folder.exists()


def test_record_refuses_where_nothing_was_measured_and_keeps_the_notebook(command, tmp_path):
    path = notebook(tmp_path / "77-not-here.ipynb", {f"{TAG}over-width": NOT_HERE})
    done = command.run(path)
    assert done.exit_code == 1
    error = done.output.splitlines()[-1]
    assert error.startswith("Error: nothing to record: the cells tagged record:… of 77-not-here")
    assert devices.machine().cpu in error and "on a machine with an accelerator" in error
    assert len(list(command.runs.iterdir())) == 1 and not command.folder.exists()


def test_record_keeps_the_cell_that_measured_and_leaves_the_one_that_did_not(command, tmp_path):
    cells = {f"{TAG}over-width": SWEEP, f"{TAG}not-here": NOT_HERE}
    done = command.run(notebook(tmp_path / "77-half.ipynb", cells))
    assert done.exit_code == 0, done.output
    assert list(lesson_recordings("77", command.folder).recordings[0].records) == ["over-width"]


def test_a_lesson_that_fails_is_not_recorded(command, tmp_path):
    cells = {f"{TAG}over-width": SWEEP, "failing": "raise ValueError('by hand')"}
    done = command.run(notebook(tmp_path / "77-failing.ipynb", cells))
    assert done.exit_code == 1 and "by hand" in done.output
    assert not command.folder.exists()


# --- Showing -------------------------------------------------------------------------------------


def test_an_empty_folder_says_that_nothing_was_measured_elsewhere(tmp_path):
    for folder in (tmp_path, tmp_path / "no-such"):
        nothing = lesson_recordings("77", folder)
        told = "Lesson 77: no recording from another machine yet."
        assert repr(nothing) == told and told in nothing._repr_html_()
        assert nothing.curves("over-width") == {}
        assert nothing.to_dict() == {"lesson": "77", "recordings": []}


def test_a_recording_is_shown_with_its_machine_and_its_day(tmp_path):
    recorded_elsewhere(tmp_path)
    there = lesson_recordings("77", tmp_path)
    assert repr(there) == "Fast One, recorded on 2026-01-02"
    table = repr(there.table())
    for part in ("Fast One", devices.machine().cpu, "2026-01-02", "over-width", "not here"):
        assert part in table


def test_a_machine_without_an_accelerator_is_named_by_its_processor(tmp_path):
    recorded_elsewhere(tmp_path, accelerator=None)
    assert (
        repr(lesson_recordings("77", tmp_path))
        == f"{devices.machine().cpu}, recorded on 2026-01-02"
    )


def test_its_curves_are_values_and_medians_under_its_label(tmp_path):
    recorded_elsewhere(tmp_path)
    curves = lesson_recordings("77", tmp_path).curves("over-width")
    assert curves == {"Fast One, recorded on 2026-01-02": ([32, 64], [0.1, 0.2])}
    assert lesson_recordings("77", tmp_path).curves("over-height") == {}


def test_only_what_was_measured_with_the_same_parameters_is_laid_over(tmp_path):
    recorded_elsewhere(tmp_path, "Fast One", batch_size=4)
    recorded_elsewhere(tmp_path, "Other One", batch_size=8)
    recorded_elsewhere(tmp_path, "Old One")  # it does not say
    there = lesson_recordings("77", tmp_path)
    assert list(there.curves("over-width", batch_size=4)) == ["Fast One, recorded on 2026-01-02"]
    assert len(there.curves("over-width")) == 3


def test_a_recorded_curve_is_the_one_that_was_measured(file, executed):
    there = lesson_recordings("77", file.parent)
    ((values, seconds),) = there.curves("over-width", n=2, batch_size=4).values()
    assert values == [10, 100] and 0 < seconds[0] < seconds[1] < 1


def test_a_notebook_shows_a_recording_as_one(tmp_path):
    """In a kernel: the table, and a curve in a picture under its label."""
    recorded_elsewhere(tmp_path / "recordings")
    ask = f'there = kit.course.recordings.recordings("77", Path({str(tmp_path / "recordings")!r}))'
    cells = {
        "asked": f"from pathlib import Path\nimport kit.course.recordings\n{ask}\nthere",
        "drawn": 'curves = there.curves("over-width")\n'
        'kit.plots.lines(curves, "width", "time", caption="; ".join(curves))',
    }
    path = notebook(tmp_path / "77-shown.ipynb", cells)
    shown = nbformat.read(run(path, tmp_path / "run.ipynb"), as_version=4).cells
    table, picture = (cell.outputs[0].data["text/html"] for cell in shown[-2:])
    assert "Fast One" in table and "not here" in table
    assert 'alt="Fast One, recorded on 2026-01-02"' in picture


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"lesson": "77"}'])
def test_a_damaged_recording_is_named(text, tmp_path):
    (tmp_path / "77-damaged.json").write_text(text)
    with pytest.raises(BadValue, match=r"77-damaged.json is not a recording .* record again"):
        lesson_recordings("77", tmp_path)


@pytest.mark.parametrize("number", [5, "5", "five", "05-when", ""])
def test_a_lesson_is_asked_for_by_its_number(number):
    with pytest.raises(BadValue, match="two digits in quotes, such as '05'"):
        lesson_recordings(number)
    with pytest.raises(LookupError, match=r"no lesson is called '99'.* There are: 00, 01"):
        lesson_recordings("99")


# --- The course ----------------------------------------------------------------------------------


def test_the_recordings_of_the_course_are_whole_and_small():
    for path in recordings.FOLDER.glob("*.json"):
        assert path.stat().st_size < recordings.MOST_BYTES
        lesson = path.name[:2]
        names = set(tagged_cells(find_notebook(lesson)))
        for each in lesson_recordings(lesson).recordings:
            assert set(each.records) <= names and each.label


def test_lesson_05_has_one_cell_to_record_and_it_measures_the_accelerator_only():
    cells = tagged_cells(find_notebook("05"))
    assert list(cells) == ["step-over-width"]
    assert 'if device.type != "cpu" else None' in cells["step-over-width"].source
