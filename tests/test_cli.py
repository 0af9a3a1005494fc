"""The command line: one file per command; and what others call: workflows, templates, citation."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from click.testing import CliRunner
from traitlets.config import Configurable
from written import written

import kit
from kit.cli import lab
from kit.cli.main import main
from kit.core.errors import KitError

ROOT = Path(__file__).parents[1]
COMMANDS = main.list_commands(None)
GITHUB = ROOT / ".github"
YAML = [*sorted(GITHUB.rglob("*.yml")), ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml"]


# --- Commands ------------------------------------------------------------------------------------


def test_every_file_is_a_command_and_nothing_else_is():
    files = {path.stem for path in Path(lab.__file__).parent.glob("*.py")} - {"__init__", "main"}
    own = {name.removesuffix("_") for name in files}  # `class` cannot be the name of a module
    assert set(COMMANDS) == own >= {"run", "train", "sweep", "lab", "doctor", "class"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_its_options(name):
    command = main.get_command(None, name)
    assert re.match(r"[A-Z][^.]*\.", command.help)
    for option in command.params:
        if option.param_type_name == "option":
            assert option.help and option.help.endswith("."), option.name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_an_unknown_command_is_one_line_with_exit_code_2():
    answer = CliRunner().invoke(main, ["trian"])
    assert answer.exit_code == 2 and "'trian'; did you mean 'train'? There are:" in answer.stderr


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")],
)
def test_too_little_memory_is_one_line(error, monkeypatch):
    def find(_):
        raise error

    monkeypatch.setattr("kit.experiments.execution.find_notebook", find)
    answer = CliRunner().invoke(main, ["run", "01"])
    assert answer.exit_code == 1
    assert answer.stderr == "Error: run stopped: memory ran out. Finished work is kept.\n"


def test_the_help_needs_no_torch():
    code = (
        "import sys; from click.testing import CliRunner; from kit.cli.main import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# --- kit lab -------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for name in ("00-a.ipynb", "solutions/00.py", "_template.ipynb", ".cache/x.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    return folder


def test_a_newer_kit_replaces_only_what_the_reader_has_not_changed(source, tmp_path):
    mine = tmp_path / "mine"
    assert lab.copy_lessons(source, mine) == []
    assert not (mine / "_template.ipynb").exists() and not (mine / ".cache").exists()
    (mine / "00-a.ipynb").write_text("my answers")
    (source / "00-a.ipynb").write_text("new")
    (source / "solutions/00.py").write_text("new")
    assert lab.copy_lessons(source, mine) == ["00-a.ipynb"]
    assert (mine / "00-a.ipynb").read_text() == "my answers"
    assert (mine / "solutions/00.py").read_text() == "new"


def test_files_of_which_nothing_is_known_stay(source, tmp_path):
    mine = tmp_path / "mine"
    (mine / "solutions").mkdir(parents=True)
    (mine / "solutions/00.py").write_text("mine")
    (mine / lab.COPIED).write_text('{"solutions/00')
    assert lab.copy_lessons(source, mine) == ["solutions/00.py"]
    assert (mine / "solutions/00.py").read_text() == "mine"


def panel(**html):
    data = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/plain": "p",
        **html,
    }
    output = nbformat.v4.new_output("display_data", data=data)
    return nbformat.v4.new_code_cell("panel", outputs=[output])


@pytest.mark.parametrize("kernel_of", ["", "mine/a.ipynb", "mine/b.ipynb"])
def test_a_panel_without_a_kernel_becomes_its_picture_and_says_what_to_do(kernel_of, tmp_path):
    """JupyterLab would show "Error displaying widget: model not found" instead."""
    contents = pytest.importorskip("kit.cli.jupyterlab.contents")

    async def list_sessions():
        return [{"path": kernel_of}] if kernel_of else []

    server = Configurable()
    server.session_manager = SimpleNamespace(list_sessions=list_sessions)
    cells = [panel(**{"text/html": "<p>picture</p>"}), panel(), nbformat.v4.new_markdown_cell("a")]
    path = written(tmp_path / "mine" / "a.ipynb", cells)
    files = contents.LessonContents(root_dir=str(tmp_path), parent=server)
    model = asyncio.run(files.get("mine/a.ipynb", type="notebook"))
    first, second = (cell.outputs[0].data for cell in model["content"].cells[:2])
    alive = kernel_of == "mine/a.ipynb"
    back = "" if alive else contents.BACK
    assert (contents.VIEW in first, first["text/html"]) == (alive, f"<p>picture</p>{back}")
    assert contents.VIEW in second  # it has nothing else to show
    assert contents.VIEW in path.read_text()  # the file stays as it is
    # Else JupyterLab writes it, and shows a lesson that was only opened as changed.
    said = model["content"].metadata.get("language_info", {})
    assert said.get("version") == sys.version.split()[0] and said["file_extension"] == ".py"
    assert "content" in asyncio.run(files.get("mine", content=False))
    assert f"=kit.cli.jupyterlab.contents.{type(files).__name__}" in " ".join(
        lab.lab_command(tmp_path, tmp_path)
    )


def test_a_notebook_is_trusted_as_it_came_and_no_other(tmp_path, monkeypatch):
    """Else JupyterLab takes from the stored outputs what lets a keyboard scroll their tables."""
    contents = pytest.importorskip("kit.cli.jupyterlab.contents")
    checkout = tmp_path / "checkout"

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", checkout, *who, *words], check=True, capture_output=True)

    for folder in ("checkout/notebooks", "mine"):
        written(tmp_path / folder / "00-a.ipynb", [panel(**{"text/html": "<p>picture</p>"})])
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    monkeypatch.setattr(contents, "NOTEBOOKS", checkout / "notebooks")

    def trusted(place):
        files = contents.LessonContents(root_dir=str(tmp_path))
        files.notary.data_dir = str(tmp_path)
        cell = asyncio.run(files.get(place, type="notebook"))["content"].cells[0]
        return cell.metadata.trusted

    own, copy = tmp_path / "checkout/notebooks/00-a.ipynb", tmp_path / "mine/00-a.ipynb"
    run, asked = subprocess.run, []
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (asked.append(a), run(*a, **k))[1])
    copy.write_bytes(own.read_bytes())
    stranger = written(own.with_name("01-b.ipynb"), [panel(**{"text/html": "<p>other</p>"})])
    assert trusted("checkout/notebooks/00-a.ipynb") and trusted("mine/00-a.ipynb")
    assert trusted("checkout/notebooks/00-a.ipynb") and len(asked) == 1  # git, once per file
    assert not trusted(stranger.relative_to(tmp_path).as_posix())
    for file in (copy, own):
        file.write_text(file.read_text().replace("picture", "another"))
        assert not trusted(file.relative_to(tmp_path).as_posix())


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ([], ["notebooks/00-train-it-then-use-it.ipynb"]),  # the checkout's own
        (["mine", "--no-browser"], ["tree/00-train-it-then-use-it.ipynb", "--no-browser"]),
        (["--port", "8889"], ["--port", "8889"]),
    ],
)
def test_jupyterlab_opens_at_the_first_lesson_with_the_readers_options(
    words, end, tmp_path, monkeypatch
):
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "_open", started.append)
    answer = CliRunner().invoke(main, ["lab", *words])
    assert answer.exit_code == 0, answer.output
    text = " ".join(started[0])
    assert all(each in text for each in end) and "--ServerApp.ip=127.0.0.1" in text
    assert (tmp_path / "mine").exists() == ("mine" in words)


def test_a_missing_jupyterlab_goes_into_the_python_that_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError) as told:
        lab._open([])
    python = Path(".venv/bin/python")
    assert f"Run: {python} -m pip install jupyterlab. Then repeat." in str(told.value)


# --- Workflows, templates, citation --------------------------------------------------------------


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_it_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def test_workflows_call_only_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = []
    for path in (GITHUB / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            called += [step["run"] for step in job["steps"] if "run" in step]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    called += [hook["entry"] for hook in hooks]
    assert len(called) >= 5
    for line in called:
        assert re.fullmatch(r"make ([a-z]+)( PYTHON=python)?", line).group(1) in targets


@pytest.mark.parametrize("name", ["bug", "number"])
def test_reports_of_problems_attach_the_doctor(name):
    assert "kit doctor --json" in (GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml").read_text("utf-8")


def test_the_citation_is_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == kit.__version__
