"""Sweeps on a Dask cluster: a real scheduler, real workers, one of which is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from test_execution import notebook
from test_plans import MINE

import kit
from kit.cli.main import main
from kit.experiments import collect

pytest.importorskip("distributed", reason="needs the extra `cluster`")

# Workers compute in a temporary folder, so a run is given the place to tell that it runs.
BEGIN = """
import json, os, time
from pathlib import Path
log = Path(%r)

def tell(what):
    with log.open("a") as lines:
        lines.write(json.dumps([what, n, os.getpid(), os.getppid()]) + "\\n")

tell("begin")
"""
WORK = "time.sleep(0.3)\nif n == 5: raise ValueError('by hand')"
END = "tell('end')\nf'in {Path.cwd()}'"


WITHOUT_KIT = """
import sys
sys.modules["kit"] = None  # as where it is not installed
from distributed.cli.dask_worker import main
main()
"""


class Cluster:
    """A scheduler and workers on this machine, in processes of their own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("-m", "distributed.cli.dask_scheduler", "--port", "0")
        wait_until(self.file.exists)
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, *words: str) -> subprocess.Popen:
        place = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file))
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            command = [sys.executable, *words, *place]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def worker(self, *program: str) -> subprocess.Popen:
        program = program or ("-m", "distributed.cli.dask_worker")
        folder = str(self.folder / f"worker-{len(self.processes)}")
        how = ("--nthreads", "1", "--no-nanny", "--local-directory", folder)
        return self.start(*program, *how)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def wait_until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def wait_for_workers(cluster, count: int) -> None:
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.worker(), made.worker()
        wait_for_workers(made, 2)
        yield made
    finally:
        made.end()


@pytest.fixture
def source(tmp_path):
    return notebook(tmp_path / "short.ipynb", BEGIN % str(tmp_path / "log.jsonl"), WORK, END)


def sweep(source, address: str, grid: str, *more: str):
    path = source.parent / "grid.yaml"
    path.write_text(grid)
    words = ["sweep", str(source), str(path), "--out", str(source.parent / "out")]
    return CliRunner().invoke(main, [*words, "--scheduler", address, *more])


def told(source) -> list[tuple[str, int, int, int]]:
    """What happened, which run, its kernel, and the worker that started it."""
    log = source.parent / "log.jsonl"
    return (
        [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    )


def begun(source) -> list[int]:
    return [n for what, n, *_ in told(source) if what == "begin"]


# --- Runs ----------------------------------------------------------------------------------------


def test_ctrl_c_ends_what_runs_on_the_workers(cluster, source):
    """The client as a process of its own, since a signal goes to a whole process."""
    (source.parent / "grid.yaml").write_text("grid: {n: [1, 2, 3]}")
    slow = nbformat.read(source, as_version=4)
    slow.cells[-2].source = "time.sleep(60)"
    nbformat.write(slow, source)
    words = ["sweep", str(source), str(source.parent / "grid.yaml"), "--out"]
    more = [str(source.parent / "out"), "--scheduler", cluster.address]
    command = [sys.executable, "-m", "kit", *words, *more]
    client = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: begun(source))
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=60)
    assert client.returncode == 130
    assert errors.splitlines()[-1] == "Stopped. Finished runs are kept; the same command continues."
    wait_until(lambda: not psutil.pid_exists(told(source)[0][2]))
    time.sleep(1)  # the other worker had a run that waited for its turn
    assert len(begun(source)) == 1


def test_a_lost_workers_run_is_run_again_and_nothing_is_lost_or_doubled(cluster, source):
    def kill_the_worker_of_the_third_run():
        wait_until(lambda: len(begun(source)) == 3)
        killed.append(told(source)[-1])
        os.kill(killed[0][-1], signal.SIGKILL)

    killed: list[tuple[str, int, int, int]] = []
    killer = threading.Thread(target=kill_the_worker_of_the_third_run)
    killer.start()
    answer = sweep(source, cluster.address, "grid: {n: [1, 2, 3, 4, 6, 7]}")
    killer.join()
    assert answer.exit_code == 0, answer.output
    rows = collect(source.parent / "out")
    assert sorted(rows["parameter.n"]) == [1, 2, 3, 4, 6, 7]
    assert set(rows["status"]) == {"done"} and set(rows["notebook"]) == {"short.ipynb"}
    ((_, lost, *_),) = killed
    assert sorted(begun(source)) == sorted([1, 2, 3, 4, 6, 7, lost])
    assert len({worker for *_, worker in told(source)}) == 2  # both had work

    # Two workers on one machine: one run after the other, the killed one without an end.
    whole = [(what, kernel) for what, _, kernel, _ in told(source) if kernel != killed[0][2]]
    assert whole[::2] == [("begin", kernel) for _, kernel in whole[::2]]
    assert whole[1::2] == [("end", kernel) for _, kernel in whole[::2]]


def test_a_run_that_fails_there_is_a_row_here(cluster, source):
    answer = sweep(source, cluster.address, "grid: {n: [5, 8]}")
    assert answer.exit_code == 1
    assert answer.stdout.endswith("out: 1 run done, 1 failed\n")
    rows = collect(source.parent / "out").set_index("parameter.n")
    assert rows["status"].to_dict() == {5: "failed", 8: "done"}
    assert rows["error"][5] == "ValueError: by hand"
    again = sweep(source, cluster.address, "grid: {n: [5, 8]}")
    assert "0 to run" in again.stdout and sorted(begun(source)) == [5, 8]


def test_a_run_works_in_a_folder_that_is_gone_afterwards(cluster, source):
    assert sweep(source, cluster.address, "list: [{n: 1}]").exit_code == 0
    (path,) = (source.parent / "out").glob("*.ipynb")
    text = nbformat.read(path, as_version=4).cells[-1].outputs[0]["data"]["text/plain"]
    folder = Path(tempfile.gettempdir(), text.strip("'").removeprefix("in "))  # kept by name only
    assert folder.name.startswith("tmp") and not folder.exists()


# --- What is refused -----------------------------------------------------------------------------


def refused(source, address: str) -> str:
    """The one line that it says, before any run has begun."""
    answer = sweep(source, address, "grid: {n: [1]}")
    assert answer.exit_code in (1, 2), answer.output  # 2: the address is none
    (line,) = answer.stderr.splitlines()
    assert not begun(source) and not (source.parent / "out").exists()
    return line


def test_workers_with_another_kit_are_refused(cluster, source, monkeypatch):
    monkeypatch.setattr(kit, "__version__", "0.0.7")
    assert "1 of 1 workers cannot run this sweep: tcp://" in (
        line := refused(source, cluster.address)
    )
    assert "; this is kit 0.0.7. Install the same version on all of them." in line


def test_workers_without_the_kit_are_refused(cluster, source):
    bare = cluster.worker("-c", WITHOUT_KIT)
    wait_for_workers(cluster, 2)
    line = refused(source, cluster.address)
    assert "1 of 2 workers cannot run this sweep" in line and "has no kit: " in line
    bare.kill()
    bare.wait()


def test_a_workload_file_that_the_workers_lack_is_refused_and_one_that_they_have_is_run(
    cluster, source, monkeypatch
):
    made = nbformat.read(source, as_version=4)
    made.cells[1].source += '\nworkload: str = "vision"  # vision | language; what is learnt'
    made.cells[-1].source = "import kit\ntell(kit.workloads.get(workload).name)"
    nbformat.write(made, source)
    (source.parent / "mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(source.parent)  # where the workers are not
    answer = sweep(source, cluster.address, "list: [{n: 1, workload: 'mine.py:work'}]")
    assert answer.exit_code == 1 and not begun(source)
    assert "workload='mine.py:work': tcp://" in answer.stderr
    assert "Each worker needs the same file: copy it there" in answer.stderr
    there = source.parent / "mine.py"
    answer = sweep(source, cluster.address, f"list: [{{n: 1, workload: '{there}:work'}}]")
    assert answer.exit_code == 0, answer.output
    assert told(source)[-1][0].startswith("mine.py:work@")


def test_where_nobody_listens_is_one_line_and_quick(source):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    began = time.monotonic()
    line = refused(source, f"tcp://127.0.0.1:{free}")
    assert f"--scheduler tcp://127.0.0.1:{free}: no program listens there (" in line
    assert time.monotonic() - began < 20  # mostly imports


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_answers_otherwise_than_a_scheduler_is_one_line_within_a_time_limit(source, says):
    """A port that takes the connection and stays silent was waited for without end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def answer():
            while True:
                try:
                    held.append(server.accept()[0])
                    held[-1].sendall(says)
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        port, began = server.getsockname()[1], time.monotonic()
        line = refused(source, f"tcp://127.0.0.1:{port}")
        for each in held:
            each.close()
    assert "a program listens there, but no Dask scheduler answered within 5 s" in line
    assert time.monotonic() - began < 60  # mostly imports


@pytest.mark.parametrize("address", ["somewhere", "http://127.0.0.1:80", "tcp://127.0.0.1:port"])
def test_what_is_no_address_is_one_line(source, address):
    assert f"--scheduler {address}: give an address of the form tcp://HOST:PORT." in refused(
        source, address
    )


def test_without_dask_it_says_how_to_get_it(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refused(source, "tcp://127.0.0.1:8786")
    assert "--scheduler needs distributed, which is not installed" in line and "[cluster]" in line


# Last, since it ends the cluster.
def test_a_lost_scheduler_is_one_line_and_what_is_done_stays(cluster, source):
    def kill_the_scheduler():
        wait_until(lambda: len(begun(source)) == 2)
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill_the_scheduler)
    killer.start()
    answer = sweep(source, cluster.address, "grid: {n: [1, 2, 3]}")
    killer.join()
    assert answer.exit_code == 1
    lost = "Error: the scheduler was lost; the same command continues with the runs left."
    assert lost in answer.stderr.splitlines()
    assert len(list((source.parent / "out").glob("*.ipynb"))) == 1
