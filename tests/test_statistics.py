"""Estimates: intervals with known answers, and as wide as they say."""

import json
import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import ndtri
from scipy.stats import binom, quantile_test, t

from kit.core.correlated_samples import correlation, effective_samples, ranks
from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.statistics import (
    Estimate,
    at_least,
    at_most,
    average,
    average_of_trainings,
    bootstrap,
    difference,
    mean_of_stretches,
    median,
    paired_difference,
    percentile,
    proportion,
    quotient,
    samples_needed,
    samples_of_a_median,
    share_above,
    smallest,
)

# --- Medians and percentiles ---------------------------------------------------------------------

ENDS = [  # (n, which of the ordered samples): by hand, from the tails of n coin tosses
    (6, 1, 6),  # 1/64 on each side is allowed, 7/64 is not
    (9, 2, 8),
    (10, 2, 9),
    (30, 10, 21),
    (100, 40, 61),
    (101, 41, 61),
]


@pytest.mark.parametrize(("n", "low", "high"), ENDS)
def test_the_median_goes_from_one_sample_to_another(n, low, high):
    middle, drawn = (n + 1) / 2, np.random.default_rng(2).permutation(n) + 1
    assert median(drawn, "s") == Estimate(middle, low, high, "s")


@pytest.mark.parametrize(("n", "low", "high"), ENDS)
def test_no_narrower_interval_would_do(n, low, high):
    """The tosses put the truth between the two samples often enough, and just so."""
    below = binom(n, 0.5).cdf
    assert below(high - 1) - below(low - 1) >= 0.95
    assert below(high - 2) - below(low) < 0.95


@pytest.mark.parametrize("n", range(1, 6))
def test_fewer_than_six_samples_say_nothing_of_where_the_median_is(n):
    few, below = median(range(n), "s"), median(range(-n, 0))
    assert few == Estimate((n - 1) / 2, 0, math.inf, "s")  # no time is negative
    assert below == Estimate(-(n + 1) / 2, -math.inf, math.inf)
    assert few.interval == below.interval == "unknown"
    assert Estimate(**few.to_dict()) == few and Estimate(**below.to_dict()) == below
    assert json.loads(json.dumps(below.to_dict(), allow_nan=False))["low"] is None


def test_a_surer_interval_needs_more_samples():
    """Of several intervals that are to hold together, each must be surer."""
    assert median(range(7), confidence=0.9875).high == math.inf
    assert median([3, 0, 6, 1, 7, 2, 5, 4], confidence=0.9875) == Estimate(3.5, 0, 7)
    assert [samples_of_a_median(c) for c in (0.95, 0.975, 0.9875)] == [6, 7, 8]


def test_a_bound_is_shown_as_one():
    """Not "10 [at most 10]", and not "0 [0 to 1,000]" for a rate that was missed at once."""
    assert repr(at_most(10, "examples")) == "at most 10 examples"
    assert repr(at_least(4.9, "s")) == "at least 4.90 s"
    assert repr(Estimate(5.0, 4.9, math.inf, "s")) == "5.00 s [at least 4.90 s]"
    assert Estimate(**at_most(10).to_dict()) == at_most(10)


def test_an_interval_that_excludes_nothing_is_not_known():
    known = [at_most(3), at_least(3), Estimate(0.5, 0.1, 1.0, "%"), Estimate(2, 0, 1)]
    unknown = [Estimate(2, 0, math.inf), Estimate(0.5, 0.0, 1.0, "%"), Estimate(*[math.nan] * 3)]
    assert all(each.known for each in known) and not any(each.known for each in unknown)


def test_an_interval_with_one_end_says_so():
    assert Estimate(2.0, 1.0, math.inf, "s").interval == "at least 1.00 s"
    assert Estimate(2.0, -math.inf, 3.0, "s").interval == "at most 3.00 s"


def test_no_samples_have_no_median():
    with pytest.raises(NotEnoughSamples, match="needs at least one"):
        median([])


SKEWED = {  # a draw, and its true median and p90
    "lognormal": (lambda draw, n: draw.lognormal(0, 2, n), 1.0, math.exp(2 * 1.2815516)),
    "exponential": (lambda draw, n: draw.exponential(1, n), math.log(2), math.log(10)),
    "pareto": (lambda draw, n: 1 + draw.pareto(1, n), 2.0, 10.0),
}


DRAWS = 700  # of each kind
CHANCE = 3 * math.sqrt(0.95 * 0.05 / (DRAWS * len(SKEWED)))  # 0.01; one sample fewer costs more


def coverage(n, estimate, which):
    """The share of made-up samples of each kind whose interval holds the truth; seeded."""
    draw, found = np.random.default_rng(0), []
    for make, *truths in SKEWED.values():
        for _ in range(DRAWS):
            each = estimate(make(draw, n))
            found.append(each.low <= truths[which] <= each.high)
    return sum(found) / len(found)


@pytest.mark.parametrize("n", [6, 10, 30, 101])
def test_the_median_is_in_its_interval_nineteen_times_in_twenty(n):
    assert 0.95 - CHANCE <= coverage(n, median, which=0) <= 0.98 + CHANCE


@pytest.mark.parametrize("n", [64, 200])
def test_a_percentile_is_in_its_interval_nineteen_times_in_twenty(n):
    covered = coverage(n, lambda drawn: percentile(drawn, 90), which=1)
    assert 0.95 - CHANCE <= covered <= 0.98 + CHANCE


@pytest.mark.parametrize(
    ("p", "n"),
    [*((50, n) for n in (6, 7, 30, 31, 1_000)), (90, 64), (90, 500), (10, 64), (99, 662)],
)
def test_scipy_says_the_same(p, n):
    """An independent program for the interval that needs no distribution (Conover 1999, 3.2)."""
    drawn = np.random.default_rng(0).exponential(size=n)
    ours = percentile(drawn, p) if p != 50 else median(drawn)
    theirs = quantile_test(drawn, p=p / 100).confidence_interval(0.95)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.value == np.percentile(drawn, p)


def test_the_samples_stay_in_their_order():
    samples = np.array([3.0, 1.0, 2.0])
    median(samples)
    assert samples.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(("p", "n"), [(50, 11), (90, 64), (10, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_as_many_samples_as_mlperf_says(p, n):
    assert samples_needed(p) == n
    below = binom(n, 1 - max(p, 100 - p) / 100)
    assert below.cdf(1) <= 0.01 < binom(n - 1, 1 - max(p, 100 - p) / 100).cdf(1)
    percentile(range(n), p)
    with pytest.raises(NotEnoughSamples, match=rf"p{p} of {n - 1} samples: needs {n}"):
        percentile(range(n - 1), p)


def test_a_far_percentile_needs_a_great_many():
    assert samples_needed(99.9999) == pytest.approx(6.64e6, rel=1e-3)


@pytest.mark.parametrize("p", [0, 100, -5, 101, math.nan, math.inf, "90", None])
def test_a_percentile_lies_between_0_and_100(p):
    with pytest.raises(BadValue, match=rf"percentile {p!r}: needs a number between 0 and 100"):
        samples_needed(p)


# --- Samples that follow each other --------------------------------------------------------------


def following(draw, rho, n):
    """Normal samples of which each resembles the one before it; their median and mean are 0."""
    return lfilter([math.sqrt(1 - rho**2)], [1, -rho], draw.normal(size=n + 300))[300:]


def bursts(draw, n):
    """Every hundred samples some twenty slow ones in a row, on average."""
    lengths = draw.geometric(np.tile([1 / 20, 1 / 80], n))
    slow = np.repeat(np.tile([1.0, 0.0], n), lengths)[200 : 200 + n]
    return 1 + 0.5 * slow + draw.normal(0, 0.1, n)


def held(make, estimate, truth, runs=300, seed=0):
    """The share of runs whose interval holds the truth, and the share that have an interval."""
    draw = np.random.default_rng(seed)
    found = [estimate(make(draw)) for _ in range(runs)]
    known = [e for e in found if math.isfinite(e.high - e.low)]
    return sum(e.low <= truth <= e.high for e in found) / runs, len(known) / runs


@pytest.mark.parametrize(
    ("rho", "n", "known"),
    [(0, 30, 0.95), (0, 1_000, 0.99), (0.5, 100, 0.75), (0.5, 1_000, 0.99), (0.9, 1_000, 0.9)],
)
def test_a_median_of_samples_that_follow_each_other_is_in_its_interval(rho, n, known):
    """Taken for independent, the interval held the truth 84 % of the time at 0.5, 44 % at 0.9."""
    covered, has = held(lambda draw: following(draw, rho, n), median, 0.0)
    assert covered >= 0.93 and has >= known


@pytest.mark.parametrize("n", [30, 100, 1_000])
def test_nearly_the_same_again_and_again_has_no_narrow_interval(n):
    covered, _ = held(lambda draw: following(draw, 0.98, n), median, 0.0)
    assert covered >= 0.9


def test_bursts_widen_the_interval():
    truth = float(np.median(bursts(np.random.default_rng(1), 1_000_000)))
    covered, has = held(lambda draw: bursts(draw, 1_000), median, truth, runs=150)
    assert covered >= 0.93 and has >= 0.9


@pytest.mark.parametrize(("rho", "p", "n"), [(0.5, 90, 300), (0.9, 90, 1_000), (0.5, 99, 2_000)])
def test_a_percentile_of_samples_that_follow_each_other(rho, p, n):
    """It held the truth in 46 to 63 % of runs at 0.9."""
    make = lambda draw: following(draw, rho, n)  # noqa: E731
    covered, has = held(make, lambda drawn: percentile(drawn, p), float(ndtri(p / 100)))
    assert covered >= 0.91 and has >= 0.7


@pytest.mark.parametrize(("rho", "n"), [(0, 30), (0.5, 200), (0.9, 600)])
def test_a_bootstrap_of_samples_that_follow_each_other(rho, n, monkeypatch):
    monkeypatch.setattr("kit.core.statistics.RESAMPLES", 400)
    covered, has = held(lambda draw: following(draw, rho, n), bootstrap, 0.0, runs=150, seed=5)
    assert covered >= 0.9 and has >= 0.7


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_a_bootstrap_of_few_skewed_samples(n, spread, monkeypatch):
    """Percentiles of the draws held the mean 79 to 88 % of the time."""
    monkeypatch.setattr("kit.core.statistics.RESAMPLES", 400)
    make, mean = lambda draw: draw.lognormal(0, spread, n), math.exp(spread**2 / 2)
    assert held(make, bootstrap, mean, runs=500)[0] >= 0.9


def test_a_bootstrap_of_fewer_than_ten_is_unknown():
    assert bootstrap(np.arange(9.0)).interval == "unknown"


def test_independent_samples_have_hardly_wider_intervals():
    draw = np.random.default_rng(0)
    told = [effective_samples(draw.normal(size=100)) for _ in range(500)]
    assert told.count(100) >= 0.93 * 500 and np.mean(told) > 97


def test_a_trend_leaves_the_interval_unknown():
    assert median(np.linspace(1, 2, 100)).interval == "unknown"
    assert bootstrap(np.linspace(1, 2, 100)).interval == "unknown"


def test_rounding_errors_are_no_order():
    assert effective_samples(0.1 + 1e-16 * np.arange(100)) == 100
    assert effective_samples(np.ones(100)) == 100


def test_geyers_sum_by_hand():
    """Three and three alike: the ranks' correlations are 1/3, -1/3, -1 …: 2·(1 + 1/3) - 1."""
    r = correlation(ranks([0, 0, 0, 1, 1, 1] * 2_000))
    assert r[:4] == pytest.approx([1, 1 / 3, -1 / 3, -1], abs=2e-3)
    # The correlation of neighbours alone says (1 + 1/3) ÷ (1 - 1/3) = 2, which is more.
    assert effective_samples([0, 0, 0, 1, 1, 1] * 2_000) == pytest.approx(12_000 / 2, rel=0.01)


SHARES = {  # as of examples of which most are right in nearly all: a draw, and its mean
    "nearly all": (lambda draw, n: draw.beta(5, 0.5, n), 10 / 11),
    "all or little": (lambda draw, n: draw.beta(0.5, 0.1, n), 5 / 6),
    "one in ten wrong": (
        lambda draw, n: draw.beta(20, 2, n) * (draw.random(n) > 0.1),
        0.9 * 20 / 22,
    ),
}


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50])
@pytest.mark.parametrize("kind", SHARES)
def test_the_mean_of_skewed_shares_is_in_its_interval(kind, n):
    """Student's interval held it in 59 to 88 % of runs at ten and below."""
    make, mean = SHARES[kind]

    def of(drawn):
        return average(float(drawn.sum()), float(np.square(drawn).sum()), n, "%", limits=(0, 1))

    assert held(lambda draw: make(draw, n), of, mean, runs=1_000)[0] >= 0.93


def test_many_shares_have_students_interval():
    drawn = np.random.default_rng(0).beta(2, 2, 2_000)
    sums = float(drawn.sum()), float(np.square(drawn).sum()), 2_000
    limited, plain = average(*sums, limits=(0, 1)), average(*sums)
    assert limited.value == plain.value
    assert limited.high - limited.low == pytest.approx(plain.high - plain.low, rel=0.02)


# --- Shares, bootstraps, and how estimates are told ----------------------------------------------


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


@pytest.mark.parametrize("n", [2, 3, 10, 300])
def test_scipy_gives_a_mean_the_same_interval(n):
    drawn = np.random.default_rng(0).exponential(size=n)
    mean = average(float(drawn.sum()), float(np.square(drawn).sum()), n, "s")
    low, high = t.interval(0.95, n - 1, loc=drawn.mean(), scale=drawn.std(ddof=1) / math.sqrt(n))
    assert (mean.value, mean.unit) == (pytest.approx(drawn.mean()), "s")
    assert (mean.low, mean.high) == (pytest.approx(low), pytest.approx(high))


def test_a_mean_is_in_its_interval_nineteen_times_in_twenty():
    draw, found = np.random.default_rng(0), []
    for _ in range(2 * DRAWS):
        drawn = draw.normal(0.8, 0.1, size=10)
        mean = average(float(drawn.sum()), float(np.square(drawn).sum()), 10)
        found.append(mean.low <= 0.8 <= mean.high)
    assert sum(found) / (2 * DRAWS) == pytest.approx(0.95, abs=0.02)


def test_equal_numbers_leave_no_doubt_about_their_mean():
    """Though sums of squares do not come out even: 0.1 × 3 is not 0.3."""
    sure = average(0.1 + 0.1 + 0.1, 3 * 0.1**2, 3)
    assert (sure.value, sure.low, sure.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-8)


def test_one_number_says_nothing_of_how_far_its_mean_can_be_trusted():
    assert average(0.7, 0.49, 1, "%") == Estimate(0.7, -math.inf, math.inf, "%")


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


# --- The same examples, before and after ---------------------------------------------------------


def test_a_paired_difference_by_hand():
    """Of 100 examples 3 are lost and 1 is won: Agresti and Min's interval."""
    before, after = np.ones(100), np.ones(100)
    after[:3], before[3] = 0, 0
    found = paired_difference(after, before)
    assert found.value == pytest.approx(-0.02)
    half = 1.959964 * np.sqrt(3.5 + 1.5 - 4 / 102) / 102
    assert (found.low, found.high) == (
        pytest.approx(-2 / 102 - half),
        pytest.approx(-2 / 102 + half),
    )


def test_no_example_changed_is_no_proof_that_none_ever_will():
    same = paired_difference(np.ones(300), np.ones(300))
    assert same.value == 0 and -0.01 < same.low < 0 < same.high < 0.01


def test_a_paired_difference_of_shares_is_the_mean_gain():
    drawn = np.random.default_rng(0).random((2, 50))
    found, gain = paired_difference(*drawn), drawn[0] - drawn[1]
    assert found == average(gain.sum(), (gain**2).sum(), 50, "points", limits=(-1, 1))


def test_a_difference_of_shares_is_in_points():
    """From 25 % to 100 % are 75 points; 75 % of 25 % would be 19 %."""
    before, after = np.array([1.0, 0, 0, 0] * 75), np.ones(300)
    for found in (
        difference(proportion(300, 300), proportion(75, 300)),
        paired_difference(after, before),  # right or wrong
        paired_difference(after, before * 0.25 + 0.1875),  # shares
        paired_difference(np.stack([after] * 3), np.stack([before] * 3)),  # of trainings
    ):
        assert repr(found).startswith("75.0 points [") and found.interval.endswith(" points")


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.02), (0.05, 0.01), (0.3, 0.1)])
def test_a_paired_difference_is_in_its_interval_nineteen_times_in_twenty(lost, won):
    draw, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        kind = draw.choice(3, size=300, p=[lost, won, 1 - lost - won])
        found = paired_difference(kind != 0, kind != 1)
        hits += found.low <= won - lost <= found.high
    assert hits >= 930


@pytest.mark.parametrize(("after", "before"), [([1, 0], [1]), ([], []), ([[[1]]], [[[1]]])])
def test_examples_come_in_pairs(after, before):
    with pytest.raises(BadValue, match="two values for each example"):
        paired_difference(after, before)


# --- Several trainings, scored on the same examples ----------------------------------------------


@pytest.mark.parametrize("trainings", [3, 5])
@pytest.mark.parametrize(("of_training", "of_example"), [(0.02, 0.3), (0.02, 0.05), (0, 0.3)])
def test_the_average_of_trainings_is_in_its_interval_nineteen_times_in_twenty(
    trainings, of_training, of_example
):
    draw, hits = np.random.default_rng(2), 0
    for _ in range(600):
        each = draw.normal(0, of_training, (trainings, 1)) + draw.normal(0, of_example, 300)
        found = average_of_trainings(each + draw.normal(0, 0.2, each.shape), limits=(-1, 1))
        hits += found.low <= 0 <= found.high
    assert hits >= 545


def test_one_training_says_nothing_about_others():
    found = average_of_trainings(np.ones((1, 300)))
    assert (found.value, found.low, found.high) == (1, 0, 1)


def test_trainings_that_all_score_the_same_leave_an_interval():
    found = paired_difference(np.ones((4, 300)), np.ones((4, 300)))
    assert found.value == 0 and -0.02 < found.low < 0 < found.high < 0.02


def test_the_difference_of_trainings_is_paired_by_example():
    draw = np.random.default_rng(0)
    easy = draw.random(200) < 0.7  # both models fail on the same examples
    before = np.tile(easy, (3, 1)).astype(float)
    after = before.copy()
    after[:, np.flatnonzero(~easy)[:10]] = 1
    found = paired_difference(after, before)
    assert found.value == pytest.approx(0.05) and found.low > 0.01 and found.high < 0.09
    assert average_of_trainings(after).low < average_of_trainings(before).high  # unpaired: no


def test_scores_of_trainings_need_two_axes():
    with pytest.raises(BadValue, match="trainings, examples"):
        average_of_trainings(np.ones((2, 2, 2)))


def test_one_number_per_training_gets_students_interval():
    assert average_of_trainings([1.0, 2.0, 6.0]) == average(9.0, 41.0, 3)


# --- Ratios and extremes of estimates ------------------------------------------------------------


def test_the_quotient_of_independent_estimates_covers_the_truth():
    """Two medians of independent samples: the interval of their ratio holds it 95 times in 100."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1_000):
        above, below = rng.lognormal(0.0, 0.3, 40), rng.lognormal(1.0, 0.2, 40)
        found = quotient(median(above), median(below))
        inside += found.low <= math.exp(-1) <= found.high
    assert 0.93 <= inside / 1_000 <= 0.995


@pytest.mark.parametrize("low", [0.0, -1.0, -math.inf])
def test_a_quotient_of_what_may_be_nothing_is_open(low):
    found = quotient(Estimate(1.0, 0.9, 1.1), Estimate(2.0, low, 3.0))
    assert (found.value, found.low, found.high) == (0.5, 0.0, math.inf)


def test_a_quotient_by_nothing_is_not_an_error():
    """No answer in time on a busy machine: a lesson goes on, and its verdict cannot tell."""
    found = quotient(Estimate(3.0, 2.0, 4.0), Estimate(0.0, 0.0, 1.0))
    assert (found.value, found.low, found.high) == (math.inf, 0.0, math.inf)


def test_a_number_over_an_estimate_turns_its_ends():
    found = 24 / Estimate(2.0, 1.0, 4.0, "s")
    assert (found.value, found.low, found.high) == (12.0, 6.0, 24.0)
    assert (24 / Estimate(2.0, 0.0, 4.0)).high == math.inf


def test_so_many_times_an_estimate_keeps_its_unit():
    assert 3 * Estimate(2.0, 1.0, 4.0, "s") == Estimate(6.0, 3.0, 12.0, "s")


def test_the_smallest_has_the_lowest_end_of_all():
    found = smallest([Estimate(2.0, 1.2, 2.8, "×"), Estimate(1.8, 1.7, 1.9, "×")])
    assert (found.value, found.low, found.high, found.unit) == (1.8, 1.2, 1.9, "×")


def test_a_share_goes_from_those_surely_above_to_those_that_may_be():
    noise = [Estimate(0.01 * i, -0.1, 0.1, "points") for i in range(4)]
    found = share_above(noise, 0.02)  # one of four lies above it as measured
    assert (found.value, found.low, found.high) == (0.25, 0.0, 1.0)


def test_a_share_that_no_interval_leaves_open_is_a_count():
    """An estimate without width would be a single sample, which decides nothing."""
    sure = [Estimate(0.5, 0.3, 0.7), Estimate(0.0, -0.1, 0.1)]
    found = share_above(sure, 0.2)
    assert found == 0.5 and isinstance(found, float)


# --- The mean of a run whose pace wanders ---------------------------------------------------------


def paces(generator, slow, fast, n=60):
    """Times of a machine that is now and then slow for `slow` calls, else fast for `fast` calls."""
    times: list[float] = []
    is_slow = bool(generator.random() < slow / (slow + fast))
    while len(times) < n:
        times += [1.4 if is_slow else 1.0] * int(
            generator.geometric(1 / (slow if is_slow else fast))
        )
        is_slow = not is_slow
    return np.array(times[:n]) * generator.lognormal(-0.00045, 0.03, n)


@pytest.mark.parametrize("slow, fast, least", [(1, 3, 0.91), (4, 12, 0.88)])
def test_stretches_hold_the_mean_of_a_machine_with_slow_moments(slow, fast, least):
    generator, truth = np.random.default_rng(0), 1 + 0.4 * slow / (slow + fast)
    found = [mean_of_stretches(paces(generator, slow, fast)) for _ in range(300)]
    assert np.mean([e.low <= truth <= e.high for e in found]) > least
    assert all(e.high < math.inf for e in found)


def test_a_mean_of_stretches_counts_what_each_total_is_of():
    found = mean_of_stretches([10.0, 1.0, 1.0, 1.0, 1.0, 1.0], [10, 1, 1, 1, 1, 1])
    assert found.value == 1 and found.low == found.high == 1
    assert mean_of_stretches([1.0, 2.0]).high == math.inf
