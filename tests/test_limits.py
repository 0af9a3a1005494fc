"""Limits: the roofline from made-up peaks, and peaks of this machine that are plausible."""

import math

import pytest

from kit.errors import BadValue, UnknownName
from kit.limits import Peaks, layer_point, peaks

MADE_UP = Peaks({"float32": 1e11, "bfloat16": 4e11}, 4e10, {"float16": 1e9}, "cpu", 1)


def test_the_ridge_is_where_both_limits_meet():
    assert MADE_UP.ridge() == 2.5
    assert MADE_UP.ridge("bfloat16") == 10


@pytest.mark.parametrize(
    ("flops", "moved", "limit"),
    [
        (1e6, 4e6, 1e10),  # a quarter of a FLOP per byte: the memory's rate times that
        (2.5e6, 1e6, 1e11),  # at the ridge
        (1e9, 1e6, 1e11),  # beyond it the processor is the limit
    ],
)
def test_the_limit_is_the_lower_of_memory_and_processor(flops, moved, limit):
    assert MADE_UP.limit(flops, moved) == pytest.approx(limit)


def test_the_share_of_the_peak():
    assert MADE_UP.share(5e10, 1.0) == 0.5
    assert MADE_UP.share(5e10, 1.0, "bfloat16") == 0.125
    assert MADE_UP.share(1e11, 1.0) == 1


def test_more_than_the_peak_is_an_error_that_says_what_to_check():
    with pytest.raises(
        BadValue, match=r"200 % of this machine's peak: check the count, the timing"
    ):
        MADE_UP.share(2e11, 1.0)


@pytest.mark.parametrize("asking", [MADE_UP.ridge, lambda d: MADE_UP.limit(1, 1, d)])
def test_a_dtype_that_was_not_measured_is_unknown(asking):
    with pytest.raises(UnknownName, match="no measured dtype is called 'float16'"):
        asking("float16")


def test_the_table_says_what_to_avoid():
    shown = str(MADE_UP.table())
    assert "matmul, float16: avoid it here" in shown and "2.50 FLOP/byte" in shown


def test_points_are_placed_by_their_work_and_time():
    picture = MADE_UP.plot({"layer": (2e9, 1e9, 0.1)})
    assert "layer at 2 FLOP/byte does 20.0 GFLOP/s" in picture.caption.replace("2.00", "2")
    (line,) = [each for each in picture.figure.axes[0].get_lines() if each.get_label() == "layer"]
    assert (line.get_xdata()[0], line.get_ydata()[0]) == pytest.approx((2, 2e10))


def test_this_machine_has_peaks():
    here = peaks(budget_s=0.05)
    assert 1e8 < here.matmul_flops_per_s["float32"] < 1e15
    assert 1e8 < here.bandwidth_bytes_per_s < 1e14
    assert {*here.matmul_flops_per_s, *here.emulated} == {"float32", "bfloat16", "float16"}
    assert (here.device, here.threads) == ("cpu", 1)


@pytest.mark.parametrize("budget_s", [0, -1, math.nan])
def test_no_budget_no_peaks(budget_s):
    with pytest.raises(BadValue, match="budget_s"):
        peaks(budget_s=budget_s)


def test_a_layer_is_a_point_counted_by_hand():
    flops, moved, seconds = layer_point(64, 8, budget_s=0.01)
    assert flops == 2 * 8 * 64 * 64
    assert moved == 4 * (64 * 64 + 2 * 8 * 64)
    assert 0 < seconds < 1
