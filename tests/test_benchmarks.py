"""The benchmarks run, small: their figures belong to `benchmarks/results/`, not here."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kit

pytestmark = pytest.mark.alone
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def quality(monkeypatch):
    """The benchmark of the stopwatch, with few and short trials."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("measurement_quality")
    for name in ("TRIALS", "POWER_TRIALS", "SPREAD_TRIALS"):
        monkeypatch.setattr(module, name, 2)
    yield module
    for name in ("measurement_quality", "other_stopwatches", "keeping"):
        sys.modules.pop(name, None)


def test_a_slowdown_put_in_by_hand_is_that_much_more_work(quality):
    found = quality.power("half", 40, 60, budget_s=0.2)
    assert set(found) == {"found_half_share", "found_half_ratio", "found_half_longest_trial_s"}
    assert 1.1 < found["found_half_ratio"].value < 2.5


def test_trials_are_counted(quality):
    found = quality.false_alarms(budget_s=0.1)
    assert found["false_alarm_share"].value in (0, 0.5, 1)
    assert 0.1 < found["false_alarm_longest_trial_s"] < 60
    assert quality.spread(budget_s=0.1)["spread_autorange"] >= 0


@pytest.mark.parametrize("name", ["time_time", "timeit_magic", "blocked_autorange"])
def test_each_stopwatch_of_others_tells_seconds(quality, name):
    seconds = getattr(quality.other, name)(quality.matmuls(40))
    assert 1e-6 < seconds < 1


def test_loadgen_tells_the_same_call(quality):
    pytest.importorskip("mlperf_loadgen", reason="needs benchmarks/requirements.txt")
    told = quality.other.loadgen(quality.matmuls(400), seconds=0.5)
    assert told["queries_per_s"] * told["mean_s"] == pytest.approx(1, rel=0.5)


@pytest.fixture
def overhead(monkeypatch):
    """The benchmark of the training loops, with few and short fits."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("loop_overhead")
    monkeypatch.setattr(module, "SHORT", 40)  # one epoch and a bit
    monkeypatch.setattr(module, "LONG", 80)
    yield module
    for name in ("loop_overhead", "loops", "peers", "keeping"):
        sys.modules.pop(name, None)


def only(overhead, monkeypatch, *names):
    """Leave the benchmark these loops, and the bare one to hold them against."""
    for name, feed in list(overhead.LOOPS):
        if name not in ("bare loop", *names):
            monkeypatch.delitem(overhead.LOOPS, (name, feed))


def test_kits_loop_and_the_tutorials_end_with_the_weights_of_the_bare_one(overhead, monkeypatch):
    only(overhead, monkeypatch, "kit.train", "tutorial loop")
    differs, refused = overhead.admitted(80)
    assert not refused
    assert differs[overhead.KIT] == differs["bare loop", "loader"] == 0  # to the last digit
    assert differs[overhead.TUTORIAL] < 1e-6  # another form of AdamW: within rounding


def test_the_loops_of_others_end_with_them_too(overhead, monkeypatch):
    installed = [name for name, (_, it) in overhead.PEERS.items() if overhead.version_of(it)]
    if not installed:
        pytest.skip("no other framework is here: benchmarks/requirements-loops.txt")
    only(overhead, monkeypatch, *installed)
    differs, refused = overhead.admitted(40)
    assert not refused
    assert set(differs.values()) == {0}


def test_a_loop_that_learns_something_else_is_not_timed(overhead, monkeypatch):
    only(overhead, monkeypatch)

    def half(model, feed, work):
        overhead.LOOPS[overhead.BARE](model, feed.batches[::2], work)

    monkeypatch.setitem(overhead.LOOPS, ("half the steps", "ready"), half)
    differs, refused = overhead.admitted(40)
    assert ("half the steps", "ready") not in differs
    assert "from those of the bare loop" in refused["half the steps", "ready"]


def test_a_framework_that_is_not_installed_is_named(overhead, monkeypatch):
    only(overhead, monkeypatch, "skorch")
    monkeypatch.setitem(overhead.PEERS, "skorch", (None, "no-such-distribution"))
    _, refused = overhead.admitted(1)
    assert refused["skorch", "ready"] == "not installed: no-such-distribution"


def test_what_a_fit_does_once_is_no_part_of_its_steps(overhead):
    fits = [[1.0 + 40 * 0.002, 1.0 + 80 * 0.002], [40 * 0.001, 80 * 0.001]]  # it; the bare loop
    told = overhead.figures(np.array([fits] * 6))
    assert told["step_s"]["value"] == pytest.approx(0.002)
    assert told["to_bare"]["value"] == pytest.approx(2)
    assert told["setup_s"]["value"] == pytest.approx(1)
    assert told["whole_fit_to_bare"]["value"] == pytest.approx(1.16 / 0.08)


def test_a_quick_run_keeps_a_row_for_each_loop(overhead, monkeypatch, tmp_path):
    only(overhead, monkeypatch, "kit.train", "tutorial loop")
    for module in (overhead, sys.modules["keeping"]):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    overhead.keep("loop_overhead", **overhead.measure(2))
    kept = json.loads((tmp_path / "loop_overhead.json").read_text(encoding="utf-8"))
    assert [(row["loop"], row["feed"]) for row in kept["loops"]] == list(overhead.LOOPS)
    for row in kept["loops"]:
        assert repr(kit.statistics.Estimate(**row["to_bare"])) in overhead.markdown()


@pytest.fixture
def drift_quality(monkeypatch):
    """The benchmark of the drift detectors."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("drift_quality")
    for name in ("drift_quality", "keeping"):
        sys.modules.pop(name, None)


def test_detectors_of_drift_are_counted_beside_others(drift_quality, monkeypatch):
    monkeypatch.setattr(drift_quality, "DEGREES", {"rotation": (30,)})
    figures = drift_quality.plain(drift_quality.measured(trials=4))
    strong = figures["power_share"]["rotation"]["30"]
    assert strong["outputs"]["value"] == strong["classifier"]["value"] == 1
    assert strong["accuracy"]["value"] < 0.7
    assert all(0 <= share["value"] <= 1 for share in figures["false_alarm_share"].values())
    table = drift_quality.tables(json.loads(json.dumps(figures)))
    assert "KS, uncorrected" in table and "| 30 |" in table


def test_the_two_parts_of_a_trial_share_no_digit(drift_quality):
    pool = kit.data.Split(torch.arange(600).reshape(600, 1), torch.arange(600))
    then, now = drift_quality.drawn(pool, trial=1)
    assert (len(then.inputs), len(now.inputs)) == (300, 100)
    assert not set(then.targets.tolist()) & set(now.targets.tolist())
