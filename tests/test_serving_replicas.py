"""Replicas: two workers on one socket; one of them killed, the parent killed, both stopped."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress

import psutil
import pytest
import torch

import kit
from kit.serving import forking, serve
from kit.serving.packing import pack
from kit.serving.settings import Settings

PATIENCE_S = 120.0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="replicas share a socket on POSIX only")


def until(what, patience_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < ends, "waited too long"
        time.sleep(0.05)


def infer(port: int) -> int:
    """The status of one request on a connection of its own."""
    part = {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("POST", "/v2/models/model/infer", json.dumps({"inputs": [part]}))
        reply = connection.getresponse()
        reply.read()
        return reply.status


def workers(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid).children()
        return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]
    return []


def connections(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return sum(each.status == "ESTABLISHED" for each in process.net_connections())
    return 0


@pytest.fixture(scope="module")
def two():
    """Two replicas; the last test stops them."""
    with serve(kit.models.MLP(), workers=2) as running:
        yield running


def test_both_replicas_take_connections(two):
    import socket

    both = workers(two.process.pid)
    assert len(both) == 2
    fewest = []
    while max(fewest, default=0) < 4 and len(fewest) < 3:  # other programs may hold one of them up
        open_ones = [socket.create_connection(("127.0.0.1", two.port)) for _ in range(24)]
        try:
            until(lambda: sum(map(connections, both)) == 24)
            fewest.append(min(map(connections, both)))
        finally:
            for each in open_ones:
                each.close()
        until(lambda: not any(map(connections, both)))
    # Without a rest after each, the first to wake has nearly all of them.
    assert max(fewest) >= 4, fewest


@pytest.mark.skipif(not forking.FORKS, reason="processes are forked on Linux only")
def test_replicas_are_copies_of_one_process_without_threads(two):
    both, supervisor = workers(two.process.pid), psutil.Process(two.process.pid)
    template = supervisor.parent()
    assert template.pid == forking._fork_servers["1"].process.pid
    assert (template.num_threads(), supervisor.num_threads()) == (1, 1)  # or a copy could hang
    for each in both:
        memory = each.memory_full_info()
        assert memory.uss < 0.5 * memory.rss  # what PyTorch's import made is there once


def test_a_server_works_where_processes_cannot_be_copied(monkeypatch):
    monkeypatch.setattr("kit.serving.server.FORKS", False)
    with serve(kit.models.MLP(), workers=2) as started:
        assert infer(started.port) == 200
        started.change(max_batch=1)
        both = workers(started.process.pid)
        assert len(both) == 2 and psutil.Process(started.process.pid).ppid() == os.getpid()
        assert started.stop() == 0 and not any(each.is_running() for each in both)


def test_metrics_are_the_sum_of_all_replicas(two):
    before = two.metrics().get("kit_requests_total{code=200}", 0)
    assert [infer(two.port) for _ in range(20)] == [200] * 20
    seen = {two.metrics()["kit_requests_total{code=200}"] for _ in range(10)}
    assert seen == {before + 20}  # whichever of them answers


def test_a_killed_replica_starts_again_and_the_other_one_goes_on(two):
    counted = two.metrics()["kit_requests_total{code=200}"]
    first, other = workers(two.process.pid)
    first.kill()
    until(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
    statuses = []
    until(lambda: statuses.append(infer(two.port)) or len(workers(two.process.pid)) == 2)
    assert set(statuses) == {200}
    assert other.is_running()
    assert two.metrics()["kit_requests_total{code=200}"] == counted + len(statuses)
    assert "ended with code -9" in two.log()


def test_sigterm_stops_all_of_them(two):
    all_of_them = workers(two.process.pid)
    assert two.stop() == 0
    assert not [each for each in all_of_them if each.is_running()]


@pytest.mark.skipif(not forking.FORKS, reason="processes are forked on Linux only")
def test_a_fork_server_that_was_killed_is_started_again():
    with serve(kit.models.MLP()) as first:
        fork_server = forking._fork_servers["1"]
        fork_server.process.kill()
        fork_server.process.wait()
        until(lambda: first.process.poll() is not None)  # a server whose parent has gone stops
    with serve(kit.models.MLP()) as second:
        assert infer(second.port) == 200


PARENT = """
import sys, time
from pathlib import Path
from kit.serving.server import Server
from kit.serving.settings import Settings

folder = Path(sys.argv[1])
server = Server(Settings.read(folder), folder)
print(server.process.pid, server.port, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("count", [1, 2])
def test_no_process_is_left_when_the_parent_is_killed(count, tmp_path):
    torch.manual_seed(0)
    pack(kit.models.MLP(), None, tmp_path)
    Settings(workers=count).write(tmp_path)
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    left: list[psutil.Process] = []
    try:
        pid, port = map(int, parent.stdout.readline().split())
        left = [psutil.Process(pid), *workers(pid)]
        assert len(left) == (1 if count == 1 else 3)
        assert infer(port) == 200
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
        _, alive = psutil.wait_procs(left, 30)
        assert not alive
        assert not tmp_path.exists()  # the folder holds the token
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
