"""Sweeps on one machine: real kernels; sweeps that are killed, interrupted, and go on."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from test_execution import notebook, shown

from kit.cli.main import main
from kit.cli.sweep import follow
from kit.core.errors import BadValue
from kit.experiments import collect, run
from kit.experiments.machine_lock import LOCK_HELD, _is_alive, machine_lock
from kit.experiments.sweeping import Outcome, lock_folder

# A run tells in a file when it begins and ends, and whether others compute at that moment.
BEGIN = """
import json, os, psutil, time
from pathlib import Path
log = Path("log.jsonl")

def tell(what, **more):
    with log.open("a") as lines:
        lines.write(json.dumps({"what": what, "n": n, "pid": os.getpid(), **more}) + "\\n")

def computes(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

before = {json.loads(line)["pid"] for line in log.open()} if log.exists() else set()
tell("begin", beside=sum(map(computes, before)), parallel=os.environ.get("KIT_PARALLEL"))
"""
WORK = """
for _ in range(10):
    time.sleep(0.03)
"""
FAIL = "if n == 2 and not Path('mended').exists(): raise ValueError('by hand')"
END = "tell('end')"


def told(folder, what: str = "begin") -> list[dict]:
    """The lines that the runs wrote, of one kind."""
    log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line for line in lines if line["what"] == what]


def begun(folder) -> list[int]:
    return [line["n"] for line in told(folder)]


@pytest.fixture
def source(tmp_path):
    """A notebook that takes half a second, and a grid file of three runs."""
    (tmp_path / "grid.yaml").write_text("grid: {n: [1, 2, 3]}")
    return notebook(tmp_path / "short.ipynb", BEGIN, WORK, FAIL, END)


def words(source, *more: str) -> list[str]:
    grid, out = source.parent / "grid.yaml", source.parent / "out"
    return ["sweep", str(source), str(grid), "--out", str(out), *more]


def sweep(source, *more: str):
    return CliRunner().invoke(main, words(source, *more))


def files(source) -> list[str]:
    """The files of the folder, without the identities in their names."""
    names = sorted(p.name for p in (source.parent / "out").iterdir() if p.suffix == ".ipynb")
    return [name[: len("short-n=1")] + name[len("short-n=1-0123456789ab") :] for name in names]


# --- Done, failed, left --------------------------------------------------------------------------


def test_a_failed_run_is_a_row_and_the_others_go_on_and_what_is_done_is_not_repeated(source):
    first = sweep(source)
    assert first.exit_code == 1, first.output
    assert files(source) == ["short-n=1.ipynb", "short-n=2.failed.ipynb", "short-n=3.ipynb"]
    assert begun(source.parent) == [1, 2, 3]
    assert [line["beside"] for line in told(source.parent)] == [0, 0, 0]
    assert first.stdout.startswith("short.ipynb: 3 runs, 0 of them done; 3 to run.\n")
    assert "unknown, because none has run yet" in first.stdout
    assert first.stdout.endswith("out: 2 runs done, 1 failed\n")
    lines = first.stderr.splitlines()
    assert [line[:6] for line in lines] == ["1 of 3", "failed", "2 of 3", "3 of 3"]
    assert "raised ValueError: by hand" in lines[1]

    rows = collect(source.parent / "out")
    assert rows["status"].tolist() == ["done", "failed", "done"]
    assert rows["parameter.n"].tolist() == [1, 2, 3]
    assert rows["error"][1] == "ValueError: by hand"

    again = sweep(source)
    assert again.exit_code == 1  # one is failed still
    assert "2 of them done, 1 failed before (--retry runs them again); 0 to run" in again.stdout
    assert begun(source.parent) == [1, 2, 3]

    (source.parent / "mended").touch()
    mended = sweep(source, "--retry")
    assert mended.exit_code == 0, mended.output
    assert "Expected time, from past runs of this notebook: " in mended.stdout
    assert files(source) == ["short-n=1.ipynb", "short-n=2.ipynb", "short-n=3.ipynb"]
    assert begun(source.parent) == [1, 2, 3, 2]


def test_a_dry_run_shows_the_plan_and_leaves_no_trace(source):
    shown = sweep(source, "--dry-run")
    assert shown.exit_code == 0
    assert "3 to run" in shown.stdout and "\nshort-n=3-" in shown.stdout
    assert sorted(p.name for p in source.parent.iterdir()) == ["grid.yaml", "short.ipynb"]


def test_other_cells_make_other_runs_and_the_old_stay(source):
    (source.parent / "grid.yaml").write_text("list: [{n: 1}]")
    assert sweep(source).exit_code == 0
    old = files(source)
    made = nbformat.read(source, as_version=4)
    made.cells[-1].source += "\n'changed'"
    nbformat.write(made, source)
    answer = sweep(source)
    assert answer.exit_code == 0
    assert "also has 1 executed notebook with other cells or parameters" in answer.stdout
    assert files(source) == old * 2
    assert begun(source.parent) == [1, 1]


def test_a_dead_kernel_and_one_that_hangs_are_failed_rows_with_what_they_had_done(source):
    ends = "'got here'", "import os, time\nos._exit(1) if n == 1 else time.sleep(60)", "'after'"
    notebook(source, *ends)
    (source.parent / "grid.yaml").write_text("grid: {n: [1, 2]}")
    answer = sweep(source, "--cell-limit", "2")
    assert answer.exit_code == 1, answer.output
    assert files(source) == ["short-n=1.failed.ipynb", "short-n=2.failed.ipynb"]
    errors = collect(source.parent / "out")["error"]
    assert errors[0].startswith("DeadKernelError: ") and "CellTimeoutError: " in errors[1]
    for path in sorted((source.parent / "out").glob("*.ipynb")):
        assert "got here" in shown(path, "text/plain")


def test_drafts_of_a_killed_sweep_are_removed_and_what_cannot_be_read_is_run_again(source):
    (source.parent / "mended").touch()
    assert sweep(source).exit_code == 0
    out = source.parent / "out"
    (out / "short-n=1-0123456789ab.ipynb.0123.part").write_text("half a no")
    path = next(out.glob("short-n=3-*"))
    path.write_text("")
    assert sweep(source).exit_code == 0
    assert begun(source.parent) == [1, 2, 3, 3]
    assert len(list(out.glob("*.ipynb"))) == 3 and not list(out.glob("*.part"))


def test_two_sweeps_do_not_write_into_one_folder(source):
    with lock_folder(source.parent / "out"):
        answer = sweep(source)
    assert answer.exit_code == 2
    assert "out: another sweep is writing there; wait until it ends" in answer.stderr
    assert not begun(source.parent)


def test_a_folder_that_cannot_be_is_one_line(source):
    (source.parent / "out").write_text("a file")
    with (
        pytest.raises(BadValue, match="cannot be written"),
        lock_folder(source.parent / "out"),
    ):
        pass


# --- Killed --------------------------------------------------------------------------------------

# Starts sweeps in processes of their own, each in a group of its own, without importing anew.
STARTER = """
import json, os, sys
import papermill, tqdm
from kit.experiments import cluster, sweeping
import kit.cli.sweep
from kit.cli.main import main
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        errors = os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1), os.dup2(errors, 2)
        main(order["words"])
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def starter():
    if not hasattr(os, "fork"):
        pytest.skip("this system has no SIGKILL")
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.stdin.close()
    process.wait(timeout=60)


class Started:
    """A sweep as a process of its own."""

    def __init__(self, starter, source):
        self.starter, self.errors = starter, source.parent / "errors.txt"
        order = {"words": words(source), "errors": str(self.errors)}
        starter.stdin.write(json.dumps(order) + "\n")
        starter.stdin.flush()
        self.pid = int(starter.stdout.readline())

    def code(self) -> int:
        """Its exit code, when it has ended; negative: the signal that killed it."""
        return int(self.starter.stdout.readline())


def wait_until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def finished(source) -> dict[str, tuple[int, int]]:
    """The finished files, and what would change if one were written again."""
    found = (source.parent / "out").glob("short*.ipynb")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_a_sweep_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing(source, starter):
    moments = random.Random(0)
    (source.parent / "grid.yaml").write_text("grid: {n: [1, 3, 4, 5, 6]}")
    # The process alone, or its whole group, at some moment after so many more runs have begun.
    for kill, more in [(os.kill, 1), (os.killpg, 2), (os.kill, 1)]:
        before, count, started = (
            finished(source),
            len(begun(source.parent)),
            Started(starter, source),
        )
        wait_until(lambda least=count + more: len(begun(source.parent)) >= least)
        time.sleep(moments.uniform(0, 0.8))
        kill(started.pid, signal.SIGKILL)
        assert started.code() == -signal.SIGKILL
        assert before.items() <= finished(source).items()
    before = finished(source)
    ended = {int(name[len("short-n=") :][0]) for name in before}
    assert 1 <= len(ended) < 5  # else nothing was tested
    count = {n: begun(source.parent).count(n) for n in ended}

    started = Started(starter, source)
    assert started.code() == 0, started.errors.read_text()
    assert files(source) == [f"short-n={n}.ipynb" for n in (1, 3, 4, 5, 6)]
    assert before.items() <= finished(source).items()
    assert {n: begun(source.parent).count(n) for n in ended} == count
    assert not any(line["beside"] for line in told(source.parent))  # no kernel was left over
    assert set(collect(source.parent / "out")["status"]) == {"done"}


def test_ctrl_c_ends_the_kernel_keeps_what_is_done_and_says_how_to_go_on(source, starter):
    (source.parent / "mended").touch()
    started = Started(starter, source)
    wait_until(lambda: len(begun(source.parent)) == 2)
    os.kill(started.pid, signal.SIGINT)
    assert started.code() == 130
    lines = started.errors.read_text().splitlines()
    assert lines[-1] == "Stopped. Finished runs are kept; the same command continues."
    assert not any("Traceback" in line for line in lines)
    assert files(source) == ["short-n=1.ipynb"]
    assert not psutil.pid_exists(told(source.parent)[-1]["pid"])
    assert begun(source.parent) == [1, 2]


def test_whoever_comes_next_ends_what_a_killed_kernel_has_started(source, starter):
    """The kernel holds the interpreter for minutes. Linux ends it, but not its child."""
    child = "import subprocess\ntell('child', child=subprocess.Popen(['sleep', '600']).pid)"
    notebook(source, BEGIN, child, "3 ** 10**8")
    started = Started(starter, source)
    wait_until(lambda: told(source.parent, "child"))
    os.kill(started.pid, signal.SIGKILL)
    assert started.code() == -signal.SIGKILL
    (line,) = told(source.parent, "child")
    time.sleep(1.5)  # after a second, others have seen that nobody is there
    assert _is_alive(line["child"])
    sockets = [*Path(tempfile.gettempdir()).glob(f"kit-{started.pid}-*")]
    with machine_lock():
        wait_until(lambda: not _is_alive(line["child"]) and not _is_alive(line["pid"]), 10)
        assert sockets and not any(folder.exists() for folder in sockets)


# --- What is shown -------------------------------------------------------------------------------


def test_where_somebody_watches_there_is_a_bar_with_the_time_left(tmp_path, monkeypatch):
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    ended = [Outcome(None, tmp_path / name, 1.0, error) for name, error in [("a", ""), ("b", "no")]]
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        follow((outcome for outcome in ended), 2)
    drawn = ""
    with suppress(OSError):  # how a terminal says that there is no more
        while more := os.read(ours, 4096):
            drawn += more.decode(errors="replace")
    os.close(ours)
    assert "2/2 [00:00<00:00" in drawn  # done of all, time taken < time left
    assert f"failed: {tmp_path / 'b'}: no" in drawn and "left:" not in drawn


# --- Several at once -----------------------------------------------------------------------------

MEASURED = """
import kit
kit.device("cpu")
kit.measure(lambda: sum(range(1000)), budget_s=0.05)
"""


def test_runs_at_once_are_at_once_and_their_records_say_so(source):
    (source.parent / "grid.yaml").write_text("grid: {n: [1, 3]}")
    notebook(source, BEGIN, WORK + "\ntime.sleep(1)", MEASURED, END)
    answer = sweep(source, "--parallel", "2")
    assert answer.exit_code == 0, answer.output
    assert {line["parallel"] for line in told(source.parent)} == {"2"}
    log = [json.loads(line)["what"] for line in (source.parent / "log.jsonl").open()]
    assert log == ["begin", "begin", "end", "end"]
    for doubts in collect(source.parent / "out", "Measurement")["doubts"]:
        assert "2 runs at once on this machine, as asked" in doubts


# --- Turns ---------------------------------------------------------------------------------------


def test_a_run_waits_for_its_turn_and_says_so_once(tmp_path):
    path, said = notebook(tmp_path / "a.ipynb", "n"), []
    waiting = threading.Thread(
        target=run, args=(path, tmp_path / "out.ipynb"), kwargs={"say": said.append}
    )
    with machine_lock():
        waiting.start()
        wait_until(lambda: said)
        time.sleep(0.3)
        assert not (tmp_path / "out.ipynb").exists()
    waiting.join(timeout=60)
    assert (tmp_path / "out.ipynb").exists()
    assert said == ["waiting for another run on this machine to end; Ctrl-C stops waiting"]


def test_a_notebook_that_starts_another_does_not_wait_for_itself(tmp_path, monkeypatch):
    with machine_lock() as told:
        assert told == {LOCK_HELD: "1"}
        monkeypatch.setenv(LOCK_HELD, "1")
        with machine_lock(pytest.fail) as told:
            assert told == {LOCK_HELD: "1"}


def test_so_many_share_a_machine_and_no_more():
    said = []
    with (
        machine_lock(parallel=2, shared=True) as told,
        machine_lock(pytest.fail, parallel=2, shared=True),
    ):
        assert told == {LOCK_HELD: "1", "KIT_PARALLEL": "2"}

        def third():
            with machine_lock(said.append, parallel=2, shared=True):
                said.append("has it")

        waiting = threading.Thread(target=third)
        waiting.start()
        wait_until(lambda: said)
        assert len(said) == 1
    waiting.join(timeout=10)
    assert said[1:] == ["has it"]


def test_where_no_lock_can_be_kept_it_is_said_and_the_run_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "file"))
    said = []
    with machine_lock(said.append):
        (line,) = said
    assert line.startswith("the machine cannot be locked")


def test_the_number_of_a_dead_holder_that_somebody_new_has_ends_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))
    innocent = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},
    )
    with machine_lock():
        (holder,) = tmp_path.glob("*.holder")
    holder.write_text(str(os.getpid()))
    with machine_lock():
        assert innocent.poll() is None
    innocent.kill()
    innocent.wait()
