"""The benchmarks run, small: their figures belong to `benchmarks/results/`, not here."""

import importlib
import sys
from pathlib import Path

import pytest

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
