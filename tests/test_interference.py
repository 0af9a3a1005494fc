"""Surroundings: what else the machine did, from made-up counters and from those of this machine."""

import os
import sys
import time
from dataclasses import fields, replace

import psutil
import pytest
import torch

from kit import devices
from kit.devices import Reading, Surroundings, between, interference

CPU = torch.device("cpu")
QUIET = Surroundings(2.0, 2, 0.0, 0.0, 0.0, 0.0, 0, 3e9, 3e9)
UNTOLD = Surroundings(2.0, 2, None, None, None, None, None, None, None)
START = Reading(100.0, 10.0, 500.0, 20.0, 5.0, 7, 3e9, 0.5)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(interference, "cores_allowed", lambda: 1.5)


# --- Doubts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"busy_elsewhere": 1.5}, "other programs kept 1.5 of 2 cores busy meanwhile"),
        ({"stolen_share": 0.03}, "the host of this virtual machine took 3% of the time"),
        ({"throttled_share": 0.5}, "the container's quota was used up 50% of the time"),
        ({"cooled": 4}, "the processor slowed down to cool, 4 times"),
        ({"clock_hz_after": 2.4e9}, "the clock fell from 3.0 to 2.4 GHz"),
        ({"busy_elsewhere": None, "load": 2.6}, "this machine was busy before (load 2.6)"),
        ({"runs_at_once": 4}, "4 runs at once on this machine, as asked"),
        (
            {"busy_here": 2.0},
            "this process kept 2.0 cores busy, more than its 1 thread: other threads of it "
            "computed as well",
        ),
    ],
)
def test_each_disturbance_is_told_alone(changes, doubt):
    assert replace(QUIET, **changes).doubts(threads=1) == (doubt,)


def test_more_threads_than_cores_are_told():
    (doubt,) = replace(QUIET, busy_elsewhere=0.0).doubts(threads=3)
    assert doubt == "3 threads wait for each other on 2 cores"


def test_all_disturbances_are_told_together():
    worst = Surroundings(2.0, 2, 9.0, 2.0, 0.5, 0.5, 1, 3e9, 1e9)
    assert len(worst.doubts(threads=2)) == 5


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ({}, 2),
        ({"busy_here": 2.0}, 2),
        ({"busy_here": 1.25}, 1),  # Python's own threads
        ({"busy_elsewhere": 0.75}, 1),  # two cores have room for both
        ({"busy_elsewhere": 0.25}, 2),  # the system itself
        ({"busy_elsewhere": 0.2, "load": 9.0}, 2),  # what was seen goes before what was before
        ({"busy_elsewhere": None, "load": 2.5}, 1),
        ({"busy_elsewhere": None, "load": None}, 2),
        ({"stolen_share": 0.02}, 1),
        ({"throttled_share": 0.01}, 1),
        ({"clock_hz_after": 2.7e9}, 1),
        ({"clock_hz_after": 4e9}, 1),
        ({"clock_hz_after": None}, 1),
        ({"clock_hz_before": None}, 1),
        ({"clock_hz_before": 0.0}, 1),
    ],
)
def test_what_cannot_disturb_is_not_told(changes, threads):
    assert replace(QUIET, **changes).doubts(threads) == ()


def test_where_the_system_tells_nothing_nothing_is_doubted():
    assert UNTOLD.doubts(threads=2) == ()


@pytest.mark.parametrize(("threads", "doubted"), [(1, False), (2, True)])
def test_the_same_neighbour_disturbs_whoever_needs_all_cores(threads, doubted):
    assert bool(replace(QUIET, busy_elsewhere=0.5).doubts(threads)) == doubted


# --- Between two readings ------------------------------------------------------------------------


def later(wall_s: float, **more: float) -> Reading:
    """A reading after START, with counters that have gone on by so much."""
    on = {name: getattr(START, name) + by for name, by in more.items()}
    return replace(START, wall_s=START.wall_s + wall_s, **on)


@pytest.mark.parametrize(
    ("busy_s", "own_s", "elsewhere"),
    [
        (4.0, 4.0, 0.0),
        (6.0, 4.0, 0.5),
        (3.9, 4.0, 0.0),  # the counters tick coarsely
        (99.0, 0.0, 2.0),  # more than all cores there are not
    ],
)
def test_what_others_did_is_what_this_process_did_not(busy_s, own_s, elsewhere):
    found = between(START, later(4.0, busy_s=busy_s, own_s=own_s))
    assert found.busy_elsewhere == elsewhere
    assert found.busy_here == own_s / 4.0
    assert (found.cores, found.cores_present, found.load) == (1.5, 2, 0.5)


def test_shares_are_of_the_time():
    found = between(START, later(4.0, stolen_s=2.0, throttled_s=1.0, cooled=3))
    assert found.stolen_share == 0.25  # of the time of two cores
    assert found.throttled_share == 0.25
    assert found.cooled == 3
    assert between(START, later(1.0, throttled_s=9.0)).throttled_share == 1.0  # several threads


@pytest.mark.parametrize(("told", "runs"), [("3", 3), ("1", 1), ("many", 1), (None, 1)])
def test_a_sweep_tells_how_many_runs_go_at_once(told, runs, monkeypatch):
    monkeypatch.delenv("KIT_PARALLEL", raising=False)
    if told is not None:
        monkeypatch.setenv("KIT_PARALLEL", told)
    assert between(START, later(1.0)).runs_at_once == runs


def test_in_a_moment_the_ticking_counters_say_nothing():
    found = between(START, later(0.4, busy_s=0.8, stolen_s=0.4, throttled_s=0.1))
    assert found.busy_elsewhere is found.busy_here is found.stolen_share is None
    assert found.throttled_share == pytest.approx(0.25)  # this one is exact


def test_between_a_reading_and_itself_is_nothing():
    assert between(START, START).doubts(threads=1) == ()


@pytest.mark.parametrize("which", ["before", "after"])
def test_what_one_reading_does_not_tell_is_unknown(which):
    silent = {"stolen_s": None, "throttled_s": None, "clock_hz": None, "load": None}
    before, after = START, later(4.0)
    pair = {"before": before, "after": after}
    pair[which] = replace(pair[which], **silent)
    found = between(**pair)
    assert found.stolen_share is None and found.throttled_share is None
    assert found.doubts(threads=1) == ()


def test_a_processor_that_does_not_count_its_coolings_did_not_cool():
    assert between(replace(START, cooled=None), replace(later(1.0), cooled=None)).cooled is None


# --- Readings ------------------------------------------------------------------------------------


def test_this_machine_can_be_read():
    before = devices.reading(CPU)
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    after = devices.reading(CPU)
    assert after.own_s - before.own_s >= 0.05
    assert after.wall_s - before.wall_s >= 0.05
    assert after.busy_s >= before.busy_s > 0
    for name in (f.name for f in fields(Reading)):
        value = getattr(after, name)
        assert value is None or (isinstance(value, (int, float)) and value >= 0)
    assert after.clock_hz is None or 1e8 < after.clock_hz < 1e10


def test_a_busy_neighbour_is_seen():
    """Counters of a machine that runs a second program for two seconds."""
    times = psutil.cpu_times()._replace(user=50.0)
    readings = []
    with pytest.MonkeyPatch.context() as patch:
        for wall_s, user_s in ((10.0, 50.0), (12.0, 52.0)):
            now = times._replace(user=user_s)
            patch.setattr(psutil, "cpu_times", lambda now=now: now)
            patch.setattr(time, "perf_counter", lambda wall_s=wall_s: wall_s)
            patch.setattr(time, "process_time", lambda: 0.0)
            readings.append(devices.reading(CPU))
    assert between(*readings).busy_elsewhere == pytest.approx(1.0)


@needs_linux
def test_the_time_of_guests_and_of_waiting_is_nobodys():
    """Linux counts a virtual machine's time twice: as its own, and among the user's."""
    scputimes = type(psutil.cpu_times())
    known = {"user": 10.0, "nice": 3.0, "system": 2.0, "idle": 99.0, "iowait": 50.0, "steal": 4.0}
    told = {name: 0.0 for name in scputimes._fields} | known | {"guest": 5.0, "guest_nice": 3.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "cpu_times", lambda: scputimes(**told))
        now = devices.reading(CPU)
    assert (now.busy_s, now.stolen_s) == (15.0, 4.0)


def test_a_clock_that_nobody_tells_is_unknown(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert devices.reading(CPU).clock_hz is None
    assert devices.reading(torch.device("meta")).clock_hz is None


def stat(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.stat").write_text(text + "\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000", 2.5),
        ("usage_usec 9", None),  # the group of all programs has no quota
        ("throttled_usec many", None),
        ("one two three", None),
        ("", None),
    ],
)
def test_throttled_time_of_cgroup_v2(tmp_path, text, seconds):
    stat(tmp_path, text)
    assert interference._throttled_s(tmp_path) == seconds


def test_throttled_time_of_cgroup_v1(tmp_path):
    stat(tmp_path / "cpu", "nr_periods 9\nnr_throttled 3\nthrottled_time 2500000000")
    assert interference._throttled_s(tmp_path) == 2.5


def test_no_control_group_no_throttled_time(tmp_path):
    assert interference._throttled_s(tmp_path) is None


def test_a_parents_quota_stops_its_children_too(tmp_path, monkeypatch):
    """The kernel counts at the group whose quota it is: often not this process's own."""
    inner = tmp_path / "inner"
    monkeypatch.setattr(interference, "cpu_groups", lambda root: [inner, tmp_path])
    stat(inner, "throttled_usec 0")
    stat(tmp_path, "throttled_usec 3000000")
    assert interference._throttled_s(tmp_path) == 3.0


def test_coolings_are_read_from_a_file(tmp_path, monkeypatch):
    file = tmp_path / "core_throttle_count"
    monkeypatch.setattr(interference, "THERMAL", str(file))
    assert devices.reading(CPU).cooled is None
    file.write_text("12\n")
    assert devices.reading(CPU).cooled == 12
