"""`kit release`: what students get, for any front end; nbgrader's own programs on its format."""

import ast
import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from kit.classroom.answers import find_code, ids_in
from kit.classroom.cells import code_cells, python_only, read_notebook
from kit.classroom.handout import read_handout
from kit.classroom.nbgrader_source import solutions
from kit.cli.main import main
from kit.experiments import lessons

PATIENCE_S = 280.0
numbers = pytest.mark.parametrize("number", [path.name[:2] for path in lessons()])
RELEASE = ["--course", 'ML "101"', "--due", "Friday, 23:59", "--zip"]
LINKS = ["--repository", "https://github.com/you/ml", "--hub", "https://hub.example/"]


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("release") / "class"
    all_of_them = [path.name[:2] for path in lessons()]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        words = ["release", *all_of_them, "--out", "class", *RELEASE, *LINKS]
        answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    return out


def notebook(folder: Path, number: str) -> Path:
    (path,) = folder.glob(f"{number}-*.ipynb")
    return path


def original(number: str) -> Path:
    return next(path for path in lessons() if path.name[:2] == number)


# --- The student's version -----------------------------------------------------------------------


@numbers
def test_a_student_gets_no_output_and_no_solution(number, released):
    path = notebook(released, number)
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "kit_recording" not in made.metadata
    text = path.read_text(encoding="utf-8")
    for solution in solutions(number).values():
        assert json.dumps(solution.split("\nkit.check")[0])[1:-1] not in text


@numbers
def test_exercises_are_marked_in_text_and_code(number, released):
    cells = read_notebook(notebook(released, number))["cells"]
    ids = ids_in(code_cells({"cells": cells}), number)
    assert ids == ids_in(code_cells(read_notebook(original(number))), number)
    text = "\n".join(cell["source"] for cell in cells)
    for i, id in enumerate(ids, 1):
        heading = f"### Exercise {i} of {len(ids)}: `{id}`\n"
        assert heading in text and f"# Your answer to {id}." in text
        after = text.split(heading)[1].split(f"# Your answer to {id}")[0]
        assert len(after) > 80 and "Not measured here" not in after  # the question is below it


@numbers
def test_the_grader_knows_it_again_without_metadata(number, released):
    """All that grading reads is left when a front end drops each piece of metadata."""
    lesson = code_cells(read_notebook(original(number)))
    bare = [
        {"cell_type": cell["cell_type"], "source": cell["source"].splitlines(keepends=True)}
        for cell in read_notebook(notebook(released, number))["cells"]
    ]
    cells = code_cells({"cells": bare})
    for id in ids_in(lesson, number):
        (code,) = find_code(id, cells, lesson)
        assert code.untouched and not code.problem
        assert len(code.cells) == 1  # all other cells are the lesson's
    handout = read_handout(cells)
    assert handout.pop("kit") and handout == {
        "course": 'ML "101"',
        "lesson": number,
        "due": "Friday, 23:59",
        "student": "",
    }


@numbers
def test_every_link_of_a_hand_out_leads_somewhere(number, released, tmp_path):
    alone = tmp_path / "alone"
    answer = CliRunner().invoke(main, ["release", number, "--out", str(alone)])
    assert answer.exit_code == 0, answer.output
    text = "\n".join(cell["source"] for cell in read_notebook(notebook(alone, number))["cells"])
    targets = re.findall(r"\]\(([^)\s#]*[./][^)\s#]*)", text)
    assert targets
    missing = [t for t in targets if "://" not in t and not (alone / t).exists()]
    assert not missing


def test_the_zip_and_the_links(released):
    with zipfile.ZipFile(released.with_name("class.zip")) as packed:
        names = packed.namelist()
    assert f"class/{original('02').name}" in names and "class/pictures/02-step.svg" in names
    assert not [name for name in names if "solutions" in name]
    page = (released / "links.md").read_text()
    name = original("02").name
    assert f"(https://mybinder.org/v2/gh/you/ml/main?urlpath=lab/tree/class/{name})" in page
    assert "git-pull?repo=https%3A%2F%2Fgithub.com%2Fyou%2Fml&branch=main&urlpath=lab" in page
    assert f"%2Fml%2Fclass%2F{name})" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["99"], "no notebook is called '99'"),
        (["02", "--repository", "you/ml"], "begins with https://"),
        (["02", "--nbgrader", "--zip"], "leave out --zip"),
    ],
)
def test_a_wrong_command_is_one_line(words, said, tmp_path):
    answer = CliRunner().invoke(main, ["release", *words, "--out", str(tmp_path / "out")])
    assert answer.exit_code == 2 and said in answer.stderr
    assert not (tmp_path / "out").exists()


# --- Finding answers -----------------------------------------------------------------------------


def cells_of(*sources):
    return code_cells({"cells": [{"cell_type": "code", "source": each} for each in sources]})


def needed(*sources, lesson=("import kit",)):
    (code,) = find_code("02-account", cells_of(*sources), cells_of(*lesson))
    return [index for index, _ in code.cells], code.from_lesson


CHECK = 'kit.check("02-account", answer)'


def test_only_cells_that_an_answer_needs_run():
    assert needed("a = 1", "b = a", "while 1: pass", f"answer = a\n{CHECK}")[0] == [0, 3]
    assert needed("answer = {}", "answer['a'] = 1", "x = len(answer)", CHECK)[0] == [0, 1, 3]
    reordered = (f"answer = f()\n{CHECK}", "def f(): return g()", "def g(): return 1")
    assert needed(*reordered)[0] == [1, 2, 0]
    assert needed("answer = 1", f"answer = 2\n{CHECK}")[0] == [1]
    assert needed("n = 1", "n += 1", f"answer = n\n{CHECK}")[0] == [0, 1, 2]


def test_what_the_lesson_makes_comes_from_the_lesson():
    lesson = ("import kit", "bill = kit.count(1)", "x = bill")
    own = ("import kit  # mine", "bill = kit.count( 1 )", f"answer = bill.a\n{CHECK}")
    assert needed(*own, lesson=lesson) == ([2], {"bill"})
    changed = ("bill = kit.count(2)", f"answer = bill.a\n{CHECK}")
    assert needed(*changed, lesson=lesson) == ([0, 1], {"kit"})


@pytest.mark.parametrize(
    "call",
    [
        'kit.check("02-account", answer)',
        'check("02-account", answer)',
        'result = kit.check(id="02-account", answer=answer)',
        'assert kit.check("02-account", answer)',
        'print(kit.check("02-account", answer))',
        'if True:\n    kit.check("02-account", answer)',
    ],
)
def test_a_call_is_found_in_any_form(call):
    (code,) = find_code("02-account", cells_of(f"answer = 7\n{call}"), [])
    assert "__answer__(answer)" in ast.unparse(code.cells[-1][1])


def test_lines_for_ipython_are_left_out():
    assert python_only("x = !ls\ny = %pwd\nz = 5 % 2\n?kit") == "pass\npass\nz = 5 % 2\npass"
    assert python_only('%%writefile a.py\nkit.check("02-account", 1)') is None


# --- nbgrader ------------------------------------------------------------------------------------

# Its own Python runs this, in one process: each of a teacher's commands would take seconds.
NBGRADER = """
import copy, json, os, sys
from pathlib import Path
from nbgrader.apps import NbGraderAPI
from nbgrader.plugins import CsvExportPlugin
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

root, answer = Path.cwd(), sys.argv[1]
config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
config.CourseDirectory.root = str(root)
api = NbGraderAPI(config=config)

def done(result):
    assert result["success"], result

done(api.generate_assignment("02-mini"))
released = json.loads((root / "release/02-mini/02-mini.ipynb").read_text())
for student in ("ada", "bo"):
    mine = copy.deepcopy(released)
    for cell in mine["cells"]:
        id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if student == "ada" and id == "02-mlp-flops-answer":
            cell["source"] = answer
    path = root / "submitted" / student / "02-mini" / "02-mini.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(mine))
    done(api.autograde("02-mini", student))
    done(api.generate_feedback("02-mini", student))
CsvExportPlugin(config=config).export(api.gradebook)
"""
OWN = ("nbgrader", "sqlalchemy", "alembic", "mako", "rapidfuzz", "notebook", "notebook-shim")


@pytest.fixture(scope="module")
def nbgrader(tmp_path_factory) -> Path:
    """A Python with nbgrader, in an environment of its own that also sees that of the tests."""
    folder = tmp_path_factory.mktemp("nbgrader") / "environment"
    uv, python = [sys.executable, "-m", "uv", "--quiet"], folder / "bin" / "python"
    steps = (
        [*uv, "venv", "--python", sys.executable, str(folder)],
        [*uv, "pip", "install", "--python", str(python), "--no-deps", *OWN, "greenlet"],
    )
    for step in steps:
        made = subprocess.run(step, capture_output=True, text=True, timeout=PATIENCE_S)
        if made.returncode:
            pytest.skip(f"nbgrader cannot be installed here: {made.stderr.strip()[-200:]}")
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.fixture(scope="module")
def mini(tmp_path_factory) -> Path:
    """A small notebook with the exercises of lesson 02: nbgrader runs each hand-in as a whole."""
    v4 = nbformat.v4
    cells = [
        v4.new_code_cell("import kit"),
        v4.new_code_cell("answer = None\nkit.check('02-account', answer)"),
        v4.new_code_cell("flops = None\nkit.check('02-mlp-flops', flops)"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path_factory.mktemp("mini") / "02-mini.ipynb"
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.skipif(os.name == "nt", reason="nbgrader's environment is made for POSIX here")
def test_nbgrader_releases_grades_gives_feedback_and_exports(nbgrader, mini, tmp_path):
    answer = CliRunner().invoke(
        main, ["release", str(mini), "--nbgrader", "--out", str(tmp_path / "course")]
    )
    assert answer.exit_code == 0, answer.output
    course = tmp_path / "course"
    shared = Path(sysconfig.get_path("data"), "share", "jupyter")
    root = str(Path(__file__).parents[1])
    path = f"{nbgrader.parent}{os.pathsep}{os.environ['PATH']}"  # it starts alembic by its name
    own = {"PATH": path, "PYTHONPATH": root, "JUPYTER_PATH": str(shared), "OMP_NUM_THREADS": "1"}
    code = solutions("02")["02-mlp-flops"].split("\nkit.check")[0]
    command = [str(nbgrader), "-W", "ignore", "-c", NBGRADER, code]
    run = subprocess.run(
        command,
        cwd=course,
        env={**os.environ, **own, "JUPYTER_PREFER_ENV_PATH": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    student = (course / "release/02-mini/02-mini.ipynb").read_text()
    assert "42_500" not in student and "pairwise" not in student and "SOLUTION" not in student
    with open(course / "grades.csv") as file:
        grades = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    assert grades == {"ada": 1.0, "bo": 0.0}
    page = (course / "feedback/bo/02-mini/02-mini.html").read_text()
    assert "no answer yet" in page or "Replace None with your answer" in page
