"""The doctor: its findings here, and its exit code in copies of the project that lack something."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

import kit
from kit import devices
from kit.cli.doctor import EXTRAS, Finding, _to_add, examine
from kit.cli.main import main
from kit.experiments import execution

RUN = [sys.executable, "-c", "from kit.cli.main import main; main(['doctor'])"]


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The project with its package and one small lesson, nothing else."""
    root = tmp_path_factory.mktemp("copy")
    package = Path(kit.__file__).parent
    shutil.copytree(package, root / "kit", ignore=shutil.ignore_patterns("__pycache__"))
    cell = nbformat.v4.new_code_cell(
        "n: int = 1  # 1..2; a number", metadata={"tags": ["parameters"]}
    )
    lesson = nbformat.v4.new_notebook(cells=[cell])
    lesson.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    (root / "notebooks").mkdir()
    nbformat.write(lesson, root / "notebooks" / "00-small.ipynb")
    return root


def examined(root: Path) -> subprocess.CompletedProcess:
    return subprocess.run(RUN, cwd=root, capture_output=True, text=True)


def line(told: subprocess.CompletedProcess, name: str) -> str:
    (found,) = [each for each in told.stdout.splitlines() if each[4:].split()[0] == name]
    return found


def test_it_has_ten_findings_of_one_line_each(findings):
    assert len(findings) == 10
    assert all("\n" not in str(finding) for finding in findings.values())


def test_what_is_not_well_says_what_to_do(findings):
    assert all(finding.todo for finding in findings.values() if not finding.ok)


def test_python_data_and_kit_are_well_where_tests_run(findings):
    assert all(findings[name].ok for name in ("Python", "data", "kit"))
    assert "train 1,197" in findings["data"].found
    assert kit.__version__ in findings["kit"].found


def test_the_extras_are_those_of_the_project(findings):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    named = re.findall(r"\w+", findings["extras"].found)
    extras = set(project["project"]["optional-dependencies"])
    # The package for a TPU is named only where there is one.
    assert extras == set(EXTRAS)
    assert extras - {"tpu"} == set(named) - {"installed", "missing", "none", "tpu"}


def test_the_command_that_adds_extras_works_where_it_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    installed = '.venv/bin/python -m pip install "train-infer-kit[edge,speech]"'
    assert _to_add(["edge", "speech"], tmp_path) == f"to add them: {installed}"
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    command = '.venv/bin/python -m pip install -c constraints.txt -e ".[edge]"'
    assert _to_add(["edge"], tmp_path) == f"to add them: {command}"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _to_add(["edge"], tmp_path) == f"to add them, in the folder of the checkout: {command}"


@pytest.mark.parametrize(
    ("finding", "mark"),
    [
        (Finding("a", "b"), "ok "),
        (Finding("a", "b", ok=False, todo="c"), "-- "),
        (Finding("a", "b", ok=False, todo="c", blocks=True), "NO "),
    ],
)
def test_the_mark_says_how_bad_it_is(finding, mark):
    assert str(finding).startswith(mark)
    assert str(finding).endswith("b" if finding.ok else "b  → c")


def test_where_all_is_there_the_exit_code_is_zero(copy, findings):
    if findings["JupyterLab"].blocks or findings["kernel"].blocks:
        pytest.skip("this environment has no JupyterLab")
    told = examined(copy)
    assert told.returncode == 0, told.stdout + told.stderr
    assert line(told, "lessons").startswith("ok ") and "1 with 1 parameters" in told.stdout


def test_without_lessons_or_packages_the_exit_code_says_so(copy, tmp_path):
    """A copy without notebooks/, and the metadata of an installation that was not finished."""
    shutil.copytree(copy / "kit", tmp_path / "kit")
    about = tmp_path / "train_infer_kit-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: train-infer-kit\nVersion: 0.1.0\n"
        "Requires-Dist: torch>=2\nRequires-Dist: was-never-installed>=1\n"
    )
    told = examined(tmp_path)
    assert told.returncode == 1
    assert line(told, "lessons").startswith("NO ") and "notebooks are missing" in line(
        told, "lessons"
    )
    assert line(told, "kit").startswith("NO ") and "missing was-never-installed" in line(
        told, "kit"
    )


def test_a_lesson_that_cannot_be_read_blocks(tmp_path, monkeypatch):
    broken = tmp_path / "01-broken.ipynb"
    broken.write_text("{")
    monkeypatch.setattr(execution, "lessons", lambda: [broken])
    found = {finding.name: finding for finding in examine()}["lessons"]
    assert found.blocks and "restore the notebooks" in found.todo


def test_too_little_memory_for_a_lesson_blocks(monkeypatch):
    monkeypatch.setattr(devices, "memory_allowed", lambda: 1_000_000_000)
    found = {finding.name: finding for finding in examine()}["memory"]
    assert found.blocks and found.found == "1.00 GB allowed"
    assert "a lesson needs" in found.todo


def test_json_holds_all_findings_and_not_the_name_of_the_home(findings):
    answer = CliRunner().invoke(main, ["doctor", "--json"])
    told = json.loads(answer.stdout)
    assert [each["name"] for each in told] == list(findings)
    assert {"name", "found", "ok", "todo", "blocks"} == set(told[0])
    assert str(Path.home()) not in answer.stdout or Path.home() == Path("/")
