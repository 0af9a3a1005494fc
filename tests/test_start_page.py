"""START.md: which lessons there are, and what a reader's saved notebooks show to be solved."""

import asyncio
import json
import re
import shutil

import pytest
from click.testing import CliRunner

from kit.cli import lab
from kit.cli.jupyterlab import start_page
from kit.cli.jupyterlab.start_page import lesson_progress, progress
from kit.cli.main import main
from kit.core.files import NOTEBOOKS
from kit.core.results import records_in

FIRST = next(NOTEBOOKS.glob("00-*.ipynb")).name


@pytest.fixture
def folder(tmp_path):
    """Two lessons of a reader who has solved nothing."""
    for name in ("00-*.ipynb", "01-*.ipynb"):
        shutil.copy(next(NOTEBOOKS.glob(name)), tmp_path)
    return tmp_path


def change(path, edit):
    """The reader's notebook after `edit`, called with each code cell."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            edit(cell)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def solve(cell):
    """What a right answer leaves below its cell."""
    for id in start_page.CHECK.findall("".join(cell["source"])):
        data = {"text/plain": [f"{id}: right."], "text/html": ["<div>✔ Right.</div>"]}
        cell["outputs"] = [{"output_type": "execute_result", "data": data, "metadata": {}}]


def test_recorded_outputs_are_not_the_readers(folder):
    for each in progress(folder):
        assert each.state == "new" and each.exercises and not each.right and not each.measured
    page = start_page.start_page(progress(folder))
    assert f"**Begin with [{progress(folder)[0].title}]({FIRST}).**" in page
    assert "0 of 2 lessons done, 0 of" in page


def test_right_answers_and_own_verdicts_count(folder):
    first, second = sorted(folder.glob("*.ipynb"))

    def measure(cell):
        for output in cell["outputs"]:
            for record in records_in(output):
                if record["kind"] == "Verdict" and record["claim_id"] == "01":
                    record["on"] = "another machine"

    change(first, solve)
    change(second, measure)
    done, begun = progress(folder)
    assert done.state == "done" and set(done.right) == set(done.exercises)
    assert begun.state == "begun" and begun.measured == 1 < begun.verdicts
    page = start_page.start_page([done, begun])
    assert f"Continue with [{begun.title}]" in page and "1 of 2 lessons done" in page
    (line,) = [each for each in page.splitlines() if f"]({second.name})" in each and "|" in each]
    assert f"| 1 of {begun.verdicts} | begun |" in line and "| 20 |" in line


@pytest.mark.parametrize("text", ["", "[]", '{"cells": [3, {"outputs": [1]}]}', "\0", '{"cells"'])
def test_a_file_that_is_not_a_notebook_is_a_line_without_progress(text, folder):
    path = folder / FIRST
    path.write_text(text)
    found = lesson_progress(path, NOTEBOOKS / FIRST)
    assert found.state == "new" and found.title == path.stem
    assert FIRST in start_page.start_page([found])


def test_the_page_is_counted_again_when_it_is_opened(folder):
    contents = pytest.importorskip("kit.cli.jupyterlab.contents")
    files = contents.LessonContents(root_dir=str(folder.parent))
    path = f"{folder.name}/{start_page.NAME}"
    start_page.write_start_page(folder)
    assert "0 of 2 lessons done" in asyncio.run(files.get(path))["content"]
    change(folder / FIRST, solve)
    assert "1 of 2 lessons done" in asyncio.run(files.get(path))["content"]


def test_lab_opens_at_the_page_once_something_is_solved(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(lab, "_open", started.append)
    mine = tmp_path / "mine"
    for edit in (None, solve):
        if edit:
            change(mine / FIRST, edit)
        answer = CliRunner().invoke(main, ["lab", str(mine)])
        assert answer.exit_code == 0, answer.output
    urls = [re.findall(r"default_url=(\S+)", " ".join(command)) for command in started]
    assert urls == [[f"/lab/tree/{FIRST}"], [f"/lab/tree/{start_page.NAME}"]]


def test_a_folder_that_cannot_be_written_to_does_not_stop_the_lab(folder, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(start_page, "atomic_write", full)
    assert start_page.write_start_page(folder) is False
