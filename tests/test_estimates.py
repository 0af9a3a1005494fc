"""Estimates: intervals with known answers, and as wide as they say."""

import numpy as np
import pytest

from kit.estimates import Estimate, bootstrap, difference, proportion


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # by hand: (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) ÷ (1 + z²/n), z = 1.96
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 1998, table I
        (15, 148, 0.0624, 0.1605),  # the same
    ],
)
def test_a_share_has_wilsons_interval(right, n, low, high):
    share = proportion(right, n)
    assert (share.value, share.unit) == (right / n, "%")
    assert (share.low, share.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_equal_samples_leave_no_doubt():
    assert bootstrap(np.full(20, 3.0), unit="s") == Estimate(3.0, 3.0, 3.0, "s")


def test_the_same_samples_always_give_the_same_interval():
    samples = np.random.default_rng(1).normal(size=50)
    assert bootstrap(samples) == bootstrap(samples)


def test_the_interval_holds_the_truth_about_nineteen_times_in_twenty():
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        estimate = bootstrap(draw.normal(10.0, 1.0, size=40), np.mean)
        hits += estimate.low <= 10.0 <= estimate.high
    assert 180 <= hits <= 198  # 190 expected; a bootstrap of 40 is a little too sure


def test_four_times_the_samples_halve_the_interval():
    draw = np.random.default_rng(0)
    few, many = (bootstrap(draw.normal(size=n), np.mean) for n in (250, 1_000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(2, rel=0.15)


def test_rows_stay_together():
    """A ratio of things observed together: bootstrapping them apart would lose the pairing."""
    below = np.random.default_rng(0).uniform(1, 100, size=30)
    rows = np.stack([3 * below, below], axis=1)

    def ratio(samples, axis):
        total = samples.sum(axis=axis)
        return total[..., 0] / total[..., 1]

    estimate = bootstrap(rows, ratio, "×")
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3, 3, 3))


def test_an_estimate_shows_its_interval_and_keeps_its_unit():
    estimate = Estimate(0.001, 0.0009, 0.0011, "s")
    assert repr(estimate) == "1.00 ms [900 µs to 1.10 ms]"
    assert estimate.to_dict() == {"value": 0.001, "low": 0.0009, "high": 0.0011, "unit": "s"}


def test_a_difference_of_shares_has_newcombes_interval():
    # Newcombe, Statistics in Medicine 1998, pp. 873–890, table II, method 10: 56/70 − 48/80
    gained = difference(proportion(56, 70), proportion(48, 80))
    assert gained.value == pytest.approx(0.2)
    assert (gained.low, gained.high) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )


def test_an_estimate_in_units_of_a_known_number():
    assert Estimate(6, 4, 8, "s") / 2 == Estimate(3, 2, 4)
