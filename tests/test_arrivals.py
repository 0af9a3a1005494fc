"""When requests arrive: the numbers that each kind promises."""

import numpy as np
import pytest

from kit.core.errors import BadValue, UnknownName
from kit.loadgen.arrivals import (
    BURST,
    KINDS,
    MOST_ARRIVALS,
    bursts,
    constant,
    phases,
    poisson,
    trace,
    within,
)


def test_gaps_of_poisson_arrivals_are_exponential():
    gaps = np.diff(poisson(50.0, 20_000, seed=1))
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert np.std(gaps) == pytest.approx(1 / 50, rel=0.05)  # as large as the mean
    assert np.mean(gaps > 2 / 50) == pytest.approx(np.exp(-2), rel=0.1)


def test_counts_of_poisson_arrivals_vary_as_much_as_their_mean():
    times = within("poisson", 100.0, 200.0, seed=2)
    counts = np.histogram(times, np.arange(201))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.3)


def test_a_burst_arrives_at_one_moment_and_the_mean_rate_stays():
    times = bursts(100.0, 10_000, seed=3)
    moments, sizes = np.unique(times, return_counts=True)
    assert set(sizes) == {BURST}
    assert len(times) / times[-1] == pytest.approx(100, rel=0.1)
    assert np.std(np.diff(moments)) == pytest.approx(BURST / 100, rel=0.15)


def test_constant_arrivals_have_equal_gaps():
    assert constant(4.0, 5).tolist() == [0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_arrivals_are_in_order_within_their_time_and_as_many_as_the_rate_says(kind):
    times = within(kind, 200.0, 50.0, seed=4)
    assert (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] < 50
    assert len(times) == 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_at_another_rate_is_the_same_pattern_stretched(kind):
    slow, fast = within(kind, 10.0, 20.0, seed=5), within(kind, 20.0, 10.0, seed=5)
    assert np.allclose(slow, 2 * fast)


@pytest.mark.parametrize("kind", ["poisson", "bursts"])
def test_a_seed_decides(kind):
    once, again, other = (within(kind, 50.0, 2.0, seed) for seed in (6, 6, 7))
    assert once.tolist() == again.tolist() != other.tolist()


def test_a_trace_begins_at_its_first_moment_and_a_rate_stretches_it():
    assert trace([5, 6, 8]).tolist() == [0, 1, 3]
    stretched = trace([5, 6, 8], rate=4.0)
    assert stretched.tolist() == [0, pytest.approx(1 / 6), 0.5]
    assert (len(stretched) - 1) / stretched[-1] == pytest.approx(4)


@pytest.mark.parametrize("given", [[], [2.0, 1.0], [[1.0]], [0.0, float("nan")], ["a"], None])
def test_what_is_no_trace_is_refused(given):
    with pytest.raises(BadValue, match="needs"):
        trace(given)


def test_moments_that_are_all_the_same_cannot_be_stretched():
    assert trace([3.0, 3.0]).tolist() == [0, 0]
    with pytest.raises(BadValue, match="Leave out rate"):
        trace([3.0, 3.0], rate=1.0)


def test_phases_follow_each_other_and_a_rate_of_zero_is_a_pause():
    times = phases([(500, 2), (0, 1), (2_000, 1)], seed=1)
    assert np.histogram(times, [0, 2, 3, 4])[0].tolist() == [1_000, 0, 2_000]
    with pytest.raises(BadValue, match="at least one"):
        phases([])
    with pytest.raises(BadValue, match="rate=-1"):
        phases([(-1, 2)])


def test_gaps_of_a_known_number_of_arrivals_are_exponential_too():
    gaps = np.diff(within("poisson", 50.0, 400.0, seed=1))
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.05)
    assert np.mean(gaps > 2 / 50) == pytest.approx(np.exp(-2), rel=0.1)


def test_an_unknown_kind_and_too_many_arrivals_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'poisson'"):
        within("poison", 1.0, 1.0, 0)
    with pytest.raises(BadValue, match=r"Lower rate or duration_s"):
        within("constant", 2.0 * MOST_ARRIVALS, 1.0, 0)
