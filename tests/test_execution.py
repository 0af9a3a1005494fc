"""Execution: small notebooks that are really run, that fail, and whose kernel dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from written import written

from kit.cli.main import main
from kit.core.errors import BadValue, LessonFailed, UnknownName
from kit.course.claims import ledger
from kit.course.earlier_lessons import STAMP
from kit.experiments import collect, execution, find_notebook, lessons, run
from kit.experiments.course_pages import course
from kit.experiments.outputs import _PathShortener
from kit.experiments.recording import cells_hash, record_lesson

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
    with pytest.raises(UnknownName, match=r"no notebook is called .* 00-first, 01-second\."):
        find_notebook(name, shelf)


@pytest.mark.parametrize("name", ["0", "00", "00-first", "00-first.ipynb"])
def test_a_lesson_is_found_by_number_and_by_name(shelf, name):
    assert find_notebook(name, shelf) == shelf / "00-first.ipynb"


def test_an_own_notebook_is_found_without_its_ending(shelf, monkeypatch):
    monkeypatch.chdir(shelf)
    assert find_notebook("notes", shelf / "none") == Path("notes.ipynb")
    assert find_notebook(str(shelf / "notes")) == shelf / "notes.ipynb"


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(shelf, monkeypatch):
    monkeypatch.chdir(shelf)
    for name, near in [("00-frist", "00-first"), ("note.ipynb", "notes.ipynb")]:
        with pytest.raises(UnknownName, match=f"did you mean '{near}'"):
            find_notebook(name, shelf)


def test_a_folder_is_no_notebook(shelf):
    with pytest.raises(BadValue, match="is a folder; give the path or the name"):
        find_notebook(str(shelf), shelf)


# --- Running -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A small lesson, run by the command line with a parameter."""
    folder = tmp_path_factory.mktemp("executed")
    source = notebook(folder / "lesson.ipynb", WORKING)
    out = folder / "runs" / "lesson.ipynb"
    told = CliRunner().invoke(main, ["run", str(source), "-p", "n", "3", "--out", str(out)])
    assert told.exit_code == 0, told.output
    result, where = told.stdout.splitlines()
    assert result == "lesson: claim 01: holds here"
    assert where == f"Executed notebook: {out}"
    assert told.stderr == ""
    return out


def test_the_parameter_reaches_the_notebook(executed):
    assert "3 steps in" in shown(executed, "text/plain")


def test_no_kernel_warns_over_the_result(tmp_path, capfd):
    """That it would speak in plain text to whoever listens on this computer."""
    source = notebook(tmp_path / "a.ipynb", "import sys; print('I am here', file=sys.__stderr__)")
    for write in (lambda: run(source, tmp_path / "run.ipynb"), lambda: record_lesson(source)):
        write()
        said = capfd.readouterr().err  # the kernel's, too
        assert "I am here" in said and "WARNING" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such sockets")
def test_no_kernel_needs_a_port(tmp_path):
    """Of several that start at once, two chose the same free one, and one of them failed."""
    source = notebook(
        tmp_path / "a.ipynb",
        "from ipykernel.connect import get_connection_info",
        "get_connection_info(unpack=True)['transport']",
    )
    assert "ipc" in shown(run(source, tmp_path / "run.ipynb"), "text/plain")


def test_no_kernel_complains_when_it_is_ended(tmp_path, capfd, monkeypatch):
    """It was interrupted first, and in one of some runs it logged that as an error."""
    from jupyter_client.manager import AsyncKernelManager

    interrupted = []

    async def interrupt(self):
        interrupted.append(self)

    monkeypatch.setattr(AsyncKernelManager, "_async_interrupt_kernel", interrupt)
    run(notebook(tmp_path / "a.ipynb", "n"), tmp_path / "run.ipynb")
    assert not interrupted and "ERROR" not in capfd.readouterr().err


def test_a_clock_that_jumps_ends_no_start_of_a_kernel(tmp_path, monkeypatch):
    years = SimpleNamespace(time=lambda: 1e10 + 3e7 * next(asked))
    asked = count()
    monkeypatch.setattr("jupyter_client.client.time", years)
    assert run(notebook(tmp_path / "a.ipynb", "n"), tmp_path / "run.ipynb").exists()


def test_a_kernel_that_does_not_start_in_time_is_a_failed_lesson(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "START_S", 0)
    with pytest.raises(LessonFailed, match="did not start within 0 s"):
        run(notebook(tmp_path / "a.ipynb", "n"), tmp_path / "run.ipynb")


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


def test_a_kernel_that_dies_is_a_failed_lesson_and_leaves_no_result(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it, IPython leaves stderr as it is
    speak = "import os, signal, time\nos.write(2, b'RuntimeError: no seat left\\nthe end\\n')"
    die = "time.sleep(0.5)\nos.kill(os.getpid(), signal.SIGABRT)"
    source = notebook(tmp_path / "lesson.ipynb", f"{speak}\n{die}")
    how = r" \(SIGABRT\)" if sys.platform != "win32" else ""
    told = rf"cell 2 raised DeadKernelError: .*died{how}: RuntimeError: no seat left\. The"
    with pytest.raises(LessonFailed, match=told):
        run(source, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, the limit may not be kept")
def test_a_kernel_that_finds_no_memory_to_start_says_so_in_one_line(tmp_path, capfd, monkeypatch):
    """Its traceback would hide the line that says what to do."""
    start = f"ulimit -d 20000; exec {sys.executable} -m ipykernel_launcher -f {{connection_file}}"
    spec = {"argv": ["sh", "-c", start], "language": "python", "display_name": "starving"}
    place = tmp_path / "kernels" / "python3"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(
        LessonFailed, match=r"(?i)cell 1 raised RuntimeError: .*died.*(error|sig|memory).*\. The"
    ):
        run(notebook(tmp_path / "lesson.ipynb", "1"), tmp_path / "out.ipynb")
    assert not capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
def test_a_kernel_that_cannot_look_for_its_parent_ends_with_it(tmp_path):
    """It is suspended, so it cannot see that nobody is there any more."""
    cell = "import os, signal\nopen('pid', 'w').write(f'{os.getpid()} ')\n"
    source = notebook(tmp_path / "a.ipynb", cell + "os.kill(os.getpid(), signal.SIGSTOP)")
    words = ["run", str(source), "--out", str(tmp_path / "run.ipynb")]
    process = subprocess.Popen([sys.executable, "-m", "kit", *words])
    told, end = tmp_path / "pid", time.monotonic() + 120
    while not (told.exists() and told.read_text().endswith(" ")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    kernel = psutil.Process(int(told.read_text()))
    process.kill()
    process.wait()
    try:
        kernel.wait(timeout=10)
    finally:
        with suppress(psutil.NoSuchProcess):
            kernel.kill()


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
    from kit.experiments.course_pages import write_page

    page = write_page(notebook(tmp_path / "a.ipynb", "1")).read_text()
    assert not [line for line in page.splitlines() if 'src="http' in line or 'href="http' in line]


# --- Time ----------------------------------------------------------------------------------------


def test_a_cell_may_take_its_time_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "LONG_S", 0.3)
    source, said = notebook(tmp_path / "a.ipynb", "import time; time.sleep(1.5)"), []
    run(source, tmp_path / "run.ipynb", say=said.append)
    assert said and all(line.startswith("a: cell 2 of 2 has run for ") for line in said)


def test_by_default_no_limit_ends_a_cell(tmp_path, monkeypatch):
    """600 s were the limit, for notebooks that may be asked to train for a day."""
    from papermill.clientwrap import PapermillNotebookClient as Client

    limits = []
    execute = Client.execute
    monkeypatch.setattr(
        Client, "execute", lambda self, **kw: limits.append(self.timeout) or execute(self, **kw)
    )
    source = notebook(tmp_path / "00-a.ipynb", "n")
    run(source, tmp_path / "run.ipynb")
    course(tmp_path / "course", [source], bar=False)
    record_lesson(source)
    assert limits == [None] * 3


@pytest.mark.parametrize("word", ["run", "record"])
def test_a_limit_that_was_asked_for_ends_a_cell_and_keeps_what_ran_before(tmp_path, word):
    source = notebook(tmp_path / "a.ipynb", "'before'", "import time; time.sleep(60)")
    out = ["--out", str(tmp_path / "run.ipynb")] if word == "run" else []
    told = command(word, str(source), "--cell-limit", "1", *out)
    assert told.exit_code == 1
    error = "cell 3 raised CellTimeoutError: took longer than the limit of 1 s"
    assert error in told.stderr and "Traceback" not in told.stderr
    if word == "run":
        assert "before" in shown(tmp_path / "run.failed.ipynb", "text/plain")
        assert collect(tmp_path)["status"].tolist() == ["failed"]


def test_a_clock_that_is_set_back_does_not_make_a_run_unreadable(tmp_path, monkeypatch):
    """Papermill takes the time of day, so the run would have taken minus a day."""
    from papermill.engines import NotebookExecutionManager

    days = iter(range(99, 0, -1))
    then = lambda self: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=next(days))  # noqa: E731
    monkeypatch.setattr(NotebookExecutionManager, "now", then)
    run(notebook(tmp_path / "a.ipynb", "n"), tmp_path / "out" / "a.ipynb")
    (row,) = collect(tmp_path / "out").to_dict("records")
    assert row["status"] == "done" and 0 < row["seconds"] < 300


def test_an_output_that_is_lost_is_an_error_of_its_cell(tmp_path, monkeypatch):
    """It was a traceback that ended a sweep: after a pause of the computer, outputs were late."""
    from nbclient.exceptions import CellTimeoutError
    from papermill.clientwrap import PapermillNotebookClient as Client

    def execute(self, **kw):
        raise CellTimeoutError("Timeout waiting for IOPub output")

    monkeypatch.setattr(Client, "execute", execute)
    for limit in ([], ["--cell-limit", "9"]):
        source = notebook(tmp_path / "a.ipynb", "1")
        told = command("run", str(source), *limit, "--out", str(tmp_path / "run.ipynb"))
        assert told.exit_code == 1 and "its last output did not arrive" in told.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no polite kill")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_keeps_the_cells_that_ran(tmp_path, kind):
    source = notebook(
        tmp_path / "a.ipynb", "'before'", "open('begun', 'w')\nimport time; time.sleep(60)"
    )
    words = ["run", str(source), "--out", str(tmp_path / "run.ipynb")]
    process = subprocess.Popen(
        [sys.executable, "-m", "kit", *words], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = tmp_path / "run.failed.ipynb"
    assert errors.splitlines() == [
        f"The notebook up to there is in {kept}.",
        "Stopped. Finished work is kept.",
    ]
    assert "before" in shown(kept, "text/plain")
    assert collect(tmp_path)["error"].tolist() == ["KeyboardInterrupt: stopped by hand"]


# --- Where it is written -------------------------------------------------------------------------

BLOCKED = {
    "a folder": ("run.ipynb/x", "run.ipynb", "is a folder"),
    "below a file": ("file", "file/run.ipynb", "cannot be written"),
    "no device for it": (None, "/proc/nowhere/run.ipynb", "cannot be written"),
    "too long a name": (None, "x" * 250 + ".ipynb", "cannot be written"),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_a_place_that_cannot_be_written_is_found_before_the_run(tmp_path, case):
    """By what not even root may do."""
    made, out, told = BLOCKED[case]
    if out.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("this system has no such folder")
    if made:
        (tmp_path / made).parent.mkdir(exist_ok=True)
        (tmp_path / made).touch()
    source = notebook(tmp_path / "a.ipynb", "open('ran', 'w')")
    answer = command("run", str(source), "--out", str(tmp_path / out))
    assert answer.exit_code == 2 and told in answer.stderr, answer.output
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_a_place_without_room_is_found_before_the_run_and_nothing_is_left(tmp_path):
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
from kit.cli.main import main
main(sys.argv[1:])
"""
    pytest.importorskip("resource")
    source = notebook(tmp_path / "a.ipynb", "open('ran', 'w')")
    words = ["run", str(source), "--out", str(tmp_path / "out" / "run.ipynb")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "with 4.00 MB of free space" in done.stderr, done.stderr
    assert not (tmp_path / "ran").exists() and not os.listdir(tmp_path / "out")


def test_what_cannot_be_written_after_the_run_is_kept_elsewhere(tmp_path, monkeypatch):
    """The place is lost while the notebook runs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    spoil = "import shutil; shutil.rmtree('out'); open('out', 'w').close(); 'worth keeping'"
    source = notebook(tmp_path / "a.ipynb", spoil)
    answer = command("run", str(source), "--out", str(tmp_path / "out" / "run.ipynb"))
    assert answer.exit_code == 1 and len(answer.stderr.splitlines()) == 1, answer.output
    (kept,) = (tmp_path / "here").glob("kit-saved-*/run.ipynb")
    assert f"The results are saved in {kept}." in answer.stderr
    assert "worth keeping" in shown(kept, "text/plain")


def test_a_history_that_cannot_be_written_is_found_before_the_training(tmp_path, monkeypatch):
    from kit import training

    monkeypatch.setattr(training, "train", pytest.fail)
    (tmp_path / "file").touch()
    for option in ("--history", "--checkpoint"):
        path = tmp_path / "file" / "x"
        answer = command("train", "control", "--steps", "1", option, str(path))
        assert answer.exit_code == 2 and f"{path} cannot be written" in answer.stderr


# --- Whose computer it was -----------------------------------------------------------------------

TELLING = """
import os
from pathlib import Path
import kit
print(Path.home(), Path.home() / "x", Path.cwd())
{"own": str(Path.home() / "data"), "kit": kit.__file__}
"""


def test_an_executed_notebook_does_not_say_whose_home_it_ran_in(tmp_path, monkeypatch):
    home = tmp_path / "home" / "ada-lovelace"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home)
    source = notebook(home / "mine" / "a.ipynb", TELLING, "open(Path.home() / 'gone')")
    code = nbformat.read(source, as_version=4)
    code.cells[1].source += "\nwhere: str = 'x'  # ; a file"
    nbformat.write(code, source)
    with pytest.raises(LessonFailed) as failed:
        run(source, home / "out.ipynb", {"where": str(home / "secret.txt")})
    text = (home / "out.failed.ipynb").read_text()
    assert "ada-lovelace" not in text and str(execution.NOTEBOOKS.parent) not in text
    assert "secret.txt" in text and "kit/__init__.py" in text
    assert nbformat.read(home / "out.failed.ipynb", 4).metadata.papermill.input_path == "a.ipynb"
    assert "gone" in str(failed.value)


def test_paths_that_only_begin_alike_stay_and_so_do_pictures(tmp_path):
    shorter = _PathShortener([tmp_path / "kit"])
    here = str(tmp_path / "kit")
    for given, short in [
        (f"{here}/a.py", "a.py"),
        (f"\x1b[32m{here}/a.py", "\x1b[32ma.py"),
        (f"in {here}.", "in kit."),
        (f"{here}-2/a.py", f"{here}-2/a.py"),
        (f"{here}.txt", f"{here}.txt"),
        ({"image/png": here, "n": [1, here]}, {"image/png": here, "n": [1, "kit"]}),
    ]:
        assert shorter(given) == short


def test_a_folder_that_is_typed_is_looked_for_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    source = notebook(
        tmp_path / "own" / "a.ipynb",
        "from kit.experiments import experiment_folder\nlist(experiment_folder('runs').iterdir())",
    )
    (tmp_path / "runs" / "the-one").touch()
    run(source, tmp_path / "run.ipynb")
    assert "the-one" in shown(tmp_path / "run.ipynb", "text/plain")


# --- Recording -----------------------------------------------------------------------------------


def is_current(path):
    stored = nbformat.read(path, as_version=4)
    return stored.metadata.get(STAMP, {}).get("cells_sha256") == cells_hash(stored)


def test_a_recording_is_stamped_and_grows_old_with_its_cells(tmp_path):
    path = notebook(tmp_path / "lesson.ipynb", "n + 1")
    assert not is_current(path)
    record_lesson(path)
    assert is_current(path)
    assert shown(path, "text/plain") == "3"
    assert {"machine", "date", "cells_sha256"} == set(
        nbformat.read(path, as_version=4).metadata[STAMP]
    )

    changed = nbformat.read(path, as_version=4)
    changed.cells[2].source = "n + 2"
    nbformat.write(changed, path)
    assert not is_current(path)


def test_only_a_recording_makes_the_plausible_guess(tmp_path):
    path = notebook(
        tmp_path / "lesson.ipynb", "import kit\nkit.guess('?', 1, 9, plausible=9).value"
    )
    run(path, tmp_path / "run.ipynb")
    assert shown(tmp_path / "run.ipynb", "text/plain") == ""
    record_lesson(path)
    assert float(shown(path, "text/plain")) == pytest.approx(9)


def test_prose_does_not_make_a_recording_old(tmp_path):
    one = nbformat.read(notebook(tmp_path / "a.ipynb", "n + 1"), as_version=4)
    before = cells_hash(one)
    one.cells[0].source = "# Another title"
    assert cells_hash(one) == before


def test_a_recording_that_fails_leaves_the_lesson_as_it_was(tmp_path):
    path = notebook(tmp_path / "lesson.ipynb", FAILING)
    before = path.read_text()
    with pytest.raises(LessonFailed, match="by hand"):
        record_lesson(path)
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
    assert answer.exit_code == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("Error: ") and told in line


@pytest.mark.parametrize("content", ["no notebook at all", json.dumps({"cells": 3})])
def test_a_file_that_is_no_notebook_is_one_line_too(tmp_path, content):
    (tmp_path / "a.ipynb").write_text(content)
    answer = command("run", str(tmp_path / "a.ipynb"))
    assert answer.exit_code == 2
    assert isinstance(answer.exception, SystemExit), repr(answer.exception)
    assert "a.ipynb" in answer.stderr


def test_a_report_takes_one_notebook(executed, tmp_path):
    told = command("report", str(executed))
    assert told.exit_code == 0, told.output
    assert "1 of " in told.stdout and "decided by lesson.ipynb;" in told.stdout
    assert told.stdout.splitlines()[-1] == "lesson: claim 01: holds here"
    assert os.listdir(executed.parent) == ["lesson.ipynb"]


def test_a_report_lists_every_claim(executed, tmp_path):
    shutil.copy(executed, tmp_path / "a.ipynb")
    told = command("report", str(tmp_path))
    assert told.exit_code == 0
    assert all(claim.claim in told.stdout for claim in ledger().values())
