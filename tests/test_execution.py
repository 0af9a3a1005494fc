"""Execution: small notebooks that are really run, that fail, and whose kernel dies."""

import json
import os
import shutil

import nbformat
import pytest
from click.testing import CliRunner
from written import written

from kit.course.claims import ledger
from kit.errors import LessonFailed, UnknownName
from kit.runs import collect, find_notebook, lessons, run
from kit.runs.command_line import main
from kit.runs.pages import course
from kit.runs.recording import STAMP, cells_hash, is_current, record

PARAMETERS = "n: int = 2  # 1..9; a number"
WORKING = """
import torch, kit
from IPython.display import display
torch.set_num_threads(1)
display(kit.verdict("01", weights_moved=1.0, loss_ratio=0.1 * n))
display(kit.guess("How many?", 1, 10))
history = kit.train(kit.models.MLP(), kit.workloads.vision(), steps=n)
history
"""
FAILING = "raise ValueError(f'by hand, {n}')"


def notebook(path, *cells: str):
    """A notebook with a title, the parameter n, and these cells."""
    code = [nbformat.v4.new_code_cell(cell.strip()) for cell in (PARAMETERS, *cells)]
    code[0].metadata["tags"] = ["parameters"]
    return written(path, [nbformat.v4.new_markdown_cell(f"# The {path.stem}"), *code])


def outputs(path) -> list[dict]:
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def shown(path, kind: str) -> str:
    return "".join(output.get("data", {}).get(kind, "") for output in outputs(path))


# --- Finding -------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path):
    for name in ("01-second.ipynb", "00-first.ipynb", "notes.ipynb"):
        notebook(tmp_path / name)
    return tmp_path


def test_lessons_come_in_their_order(shelf):
    assert [path.name for path in lessons(shelf)] == ["00-first.ipynb", "01-second.ipynb"]


def test_a_notebook_is_found_by_number_or_path(shelf):
    assert find_notebook("01", shelf) == shelf / "01-second.ipynb"
    assert find_notebook(str(shelf / "notes.ipynb"), shelf) == shelf / "notes.ipynb"


def test_an_experiment_is_found_by_its_name(shelf):
    path = notebook(shelf / "experiments" / "what-if.ipynb")
    assert find_notebook("what-if", shelf) == path


@pytest.mark.parametrize("name", ["7", "03", "first"])
def test_an_unknown_notebook_lists_those_there_are(shelf, name):
    with pytest.raises(UnknownName, match=r"no notebook is called .* 00, 01, 00-first"):
        find_notebook(name, shelf)


@pytest.mark.parametrize("name", ["00", "00-first.ipynb"])
def test_each_name_that_is_listed_is_found(shelf, name):
    assert find_notebook(name, shelf) == shelf / "00-first.ipynb"


# --- Running -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A small lesson, run by the command line with a parameter."""
    folder = tmp_path_factory.mktemp("executed")
    source = notebook(folder / "lesson.ipynb", WORKING)
    out = folder / "runs" / "lesson.ipynb"
    told = CliRunner().invoke(main, ["run", str(source), "-p", "n", "3", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert told.stdout.strip() == str(out)
    return out


def test_the_parameter_reaches_the_notebook(executed):
    assert "3 steps in" in shown(executed, "text/plain")


def test_no_kernel_warns_over_the_result(tmp_path, capfd):
    """That it would speak in plain text to whoever listens on this computer."""
    source = notebook(tmp_path / "a.ipynb", "import sys; print('I am here', file=sys.__stderr__)")
    for write in (lambda: run(source, tmp_path / "run.ipynb"), lambda: record(source)):
        write()
        said = capfd.readouterr().err  # the kernel's, too
        assert "I am here" in said and "WARNING" not in said


def test_nothing_is_left_beside_the_result(executed):
    assert os.listdir(executed.parent) == ["lesson.ipynb"]


def test_widgets_are_taken_out_and_their_pictures_stay(executed):
    assert "jupyter.widget" not in executed.read_text()
    assert "widgets" not in nbformat.read(executed, as_version=4).metadata
    assert "How many?" in shown(executed, "text/html")


def test_the_live_curve_ends_as_one_picture(executed):
    assert shown(executed, "text/html").count("<svg") == 1
    assert "step 3 of 3" in shown(executed, "text/html")


def test_an_executed_notebook_is_its_own_record(executed):
    verdicts = collect(executed.parent, "Verdict")
    assert verdicts["claim_id"].tolist() == ["01"]
    assert verdicts["verdict"].tolist() == ["holds here"]
    assert verdicts["measured.loss_ratio"].tolist() == [pytest.approx(0.3)]
    assert collect(executed.parent, "History")["losses"].map(len).tolist() == [3]


def test_a_failing_cell_is_named_and_the_notebook_up_to_there_kept(tmp_path):
    source = notebook(tmp_path / "lesson.ipynb", "'before'", FAILING, "'after'")
    out = tmp_path / "out.ipynb"
    with pytest.raises(
        LessonFailed, match=r"lesson\.ipynb: cell .* raised ValueError: by hand, 2"
    ) as told:
        run(source, out)
    kept = tmp_path / "out.failed.ipynb"
    assert str(kept) in str(told.value)
    assert not out.exists() and "before" in shown(kept, "text/plain")
    assert "after" not in shown(kept, "text/plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesson.ipynb", "out.failed.ipynb"]


def test_a_kernel_that_dies_is_a_failed_lesson_and_leaves_no_result(tmp_path):
    source = notebook(tmp_path / "lesson.ipynb", "import os\nos._exit(1)")
    with pytest.raises(LessonFailed, match=r"lesson\.ipynb"):
        run(source, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


def test_the_course_goes_on_after_a_lesson_that_fails(tmp_path):
    good = notebook(tmp_path / "00-good.ipynb", "'<b>fine</b>'")
    bad = notebook(tmp_path / "01-bad.ipynb", FAILING)
    out = tmp_path / "course"
    pages = course(out, [bad, good], bar=False)
    assert ["by hand" in page.error for page in pages] == [True, False]
    index = (out / "index.html").read_text()
    assert "failed:" in index and "The 00-good" in index and "The 01-bad" in index
    for page in pages:
        assert f'href="{page.page.name}"' in index and page.page.is_file()
    assert all(claim.id in index for claim in ledger().values())
    assert "fine" in (out / "00-good.html").read_text()


def test_a_page_asks_for_nothing_on_the_network(tmp_path):
    from kit.runs.pages import _write_page

    page = _write_page(notebook(tmp_path / "a.ipynb", "1")).read_text()
    assert not [line for line in page.splitlines() if 'src="http' in line or 'href="http' in line]


# --- Recording -----------------------------------------------------------------------------------


def test_a_recording_is_stamped_and_grows_old_with_its_cells(tmp_path):
    path = notebook(tmp_path / "lesson.ipynb", "n + 1")
    assert not is_current(path)
    record(path)
    assert is_current(path)
    assert shown(path, "text/plain") == "3"
    assert {"machine", "date", "cells_sha256"} == set(
        nbformat.read(path, as_version=4).metadata[STAMP]
    )

    changed = nbformat.read(path, as_version=4)
    changed.cells[2].source = "n + 2"
    nbformat.write(changed, path)
    assert not is_current(path)


def test_prose_does_not_make_a_recording_old(tmp_path):
    one = nbformat.read(notebook(tmp_path / "a.ipynb", "n + 1"), as_version=4)
    before = cells_hash(one)
    one.cells[0].source = "# Another title"
    assert cells_hash(one) == before


def test_a_recording_that_fails_leaves_the_lesson_as_it_was(tmp_path):
    path = notebook(tmp_path / "lesson.ipynb", FAILING)
    before = path.read_text()
    with pytest.raises(LessonFailed, match="by hand"):
        record(path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["lesson.ipynb"]


# --- The command line ----------------------------------------------------------------------------


def command(*words: str):
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize("name", ["course", "doctor", "record", "report", "run", "sweep"])
def test_each_command_has_help(name):
    assert name in command("--help").output
    assert command(name, "--help").exit_code == 0


def test_parameters_can_be_listed(tmp_path):
    told = command("run", str(notebook(tmp_path / "a.ipynb")), "--list")
    assert told.stdout == "n: int = 2 (1 to 9)  a number\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-p", "m", "1"), "no parameter of a.ipynb is called 'm'"),
        (("-p", "n", "many"), "n='many': needs a whole number"),
        (("-p", "n", "10"), "n='10': not possible"),
        (("--out", "somewhere"), "needs a name that ends in .ipynb"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(tmp_path, words, told):
    answer = command("run", str(notebook(tmp_path / "a.ipynb")), *words)
    assert answer.exit_code == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("Error: ") and told in line


@pytest.mark.parametrize("content", ["no notebook at all", json.dumps({"cells": 3})])
def test_a_file_that_is_no_notebook_is_one_line_too(tmp_path, content):
    (tmp_path / "a.ipynb").write_text(content)
    answer = command("run", str(tmp_path / "a.ipynb"))
    assert answer.exit_code == 1
    assert isinstance(answer.exception, SystemExit), repr(answer.exception)
    assert "a.ipynb" in answer.stderr


def test_a_report_lists_every_claim(executed, tmp_path):
    shutil.copy(executed, tmp_path / "a.ipynb")
    told = command("report", str(tmp_path))
    assert told.exit_code == 0
    assert all(claim.claim in told.stdout for claim in ledger().values())
