"""The four scenarios, on a clock made of numbers: who waits, and for how long, is known before."""

import json
import math
import time
from itertools import pairwise

import numpy as np
import pytest

from kit import loadgen
from kit.core.correlated_samples import ranks
from kit.core.errors import BadValue, CallFailed, NotEnoughSamples
from kit.loadgen import (
    ServerResult,
    highest_rate,
    late_allowed,
    multi_stream,
    offline,
    server,
    single_stream,
)
from kit.loadgen.client import WARM_UP, sleep_until
from kit.loadgen.latency_statistics import (
    latency_inflation,
    mean_estimate,
    percentile_estimate,
    queue_inflation,
    value_inflation,
)
from kit.loadgen.server_scenario import poisson
from kit.measurement import Conditions


@pytest.fixture
def wait_until(clock):
    """Waiting on the made-up clock costs nothing."""
    return lambda read, moment: clock.advance(max(0.0, moment - read()))


@pytest.fixture
def serving(clock, stopwatch, wait_until):
    """The server scenario on the made-up clock; `due` replaces the random arrivals."""

    def serving(serve, *, due=None, monkeypatch=None, **given):
        if due is not None:
            monkeypatch.setattr("kit.loadgen.server_scenario.poisson", lambda *_: np.array(due))
            given = {"rate": 1.0, "queries": len(due)} | given
        given = {"target_s": 10.0, "stopwatch": stopwatch, "wait_until": wait_until} | given
        return server(serve, **given)

    return serving


def taking(clock, fixed_s, each_s=0.0):
    """A system that takes a fixed time per call and some for each sample."""
    return lambda n: clock.advance(fixed_s + n * each_s)


# --- What so many queries allow one to say -------------------------------------------------------


def brute_force(n, percentile):
    """The largest t for which t or fewer late ones are too lucky, added up term by term."""
    late, in_time = 1 - percentile / 100, percentile / 100
    odds, t = 0.0, -1
    while t < n:
        odds += math.comb(n, t + 1) * late ** (t + 1) * in_time ** (n - t - 1)
        if odds > 0.01:
            return t
        t += 1
    return t


@pytest.mark.parametrize("percentile", [50, 90, 95, 97, 99])
@pytest.mark.parametrize("n", [1, 10, 63, 64, 129, 130, 458, 459, 661, 662, 1_000])
def test_tolerated_is_the_binomial_sum(n, percentile):
    assert late_allowed(n, percentile) == brute_force(n, percentile)


@pytest.mark.parametrize(("percentile", "none_late", "one_late"), [(90, 44, 64), (99, 459, 662)])
def test_the_numbers_of_mlperf(percentile, none_late, one_late):
    """LoadGen: 459 queries for p99 if none is late; one may be late from 662, or 64 for p90."""
    assert late_allowed(none_late - 1, percentile) == -1
    assert late_allowed(none_late, percentile) == 0
    assert late_allowed(one_late - 1, percentile) == 0
    assert late_allowed(one_late, percentile) == 1


def test_a_percentile_is_above_the_plain_one_and_comes_nearer_with_more_queries(clock, stopwatch):
    def estimate(n):
        call = clock.taking(*[0.0] * WARM_UP, *(1e-3 * (1 + 37 * i % n) for i in range(n)), 1e9)
        budget_s = 1e-3 * (n * (n + 1) / 2 - 0.5)  # all of them, and none more
        run = single_stream(lambda _: call(), budget_s=budget_s, stopwatch=stopwatch)
        assert run.n == n and run.inflation == 1
        return run.tail_latency_s / (1e-3 * n)  # latencies 1, 2 … n ms, in some order

    assert estimate(65) == pytest.approx(1.0)  # t = 1: the slowest of all
    assert estimate(1_000) == pytest.approx((1_000 - late_allowed(1_000, 90) + 1) / 1_000)
    assert 0.9 < estimate(1_000) < 0.93


# --- What queries that depend on each other allow one to say -------------------------------------


def correlated(rho, n, seed):
    """(n,) log-normal times whose logarithm is an autoregressive process of first order."""
    noise = np.random.default_rng(seed).standard_normal(n)
    values = [noise[0]]
    for each in noise[1:]:
        values.append(rho * values[-1] + math.sqrt(1 - rho**2) * each)
    return np.exp(0.1 * np.array(values))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_inflation_is_what_theory_says_of_an_autoregressive_process(rho):
    """(1 + ρ) ÷ (1 − ρ), and never below: each time the larger of two noisy estimates."""
    found = [value_inflation(np.log(correlated(rho, 4_000, seed))) for seed in range(40)]
    truth = (1 + rho) / (1 - rho)
    assert 0.9 * truth < np.mean(found) < 1.6 * truth + 0.2


def test_equal_times_are_independent_and_a_clocks_rounding_is_no_difference():
    assert value_inflation([0.01] * 1_000) == 1
    assert latency_inflation(0.01 + 1e-14 * np.arange(1_000)) == 1
    assert ranks([3.0, 1.0, 3.0, math.inf]).tolist() == [2.0, 0.5, 2.0, 3.5]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("percentile", [50, 90])
def test_an_upper_limit_holds_for_times_that_depend_on_each_other(rho, percentile):
    truth = {50: 1.0, 90: math.exp(0.1 * 1.2815516)}[percentile]
    below, covered = 0, 0
    for seed in range(100):
        run = streamed(correlated(rho, 5_000, seed), percentile)
        below += run.tail_latency_s < truth
        told = run.latency_estimate(percentile)
        covered += told.low <= truth <= told.high
    assert below <= 5 and covered >= 90


def streamed(times_s, percentile=90):
    """A single stream that took these times."""
    ends = np.cumsum(times_s)
    return loadgen.StreamResult(
        scenario="single stream",
        arrivals_s=tuple(ends - times_s),
        starts_s=tuple(ends - times_s),
        ends_s=tuple(ends),
        batch_sizes=(1,) * len(ends),
        percentile=percentile,
        conditions=Conditions("cpu", 1, "2.0", 0.0),
    )


def test_the_mean_of_dependent_times_has_an_interval_that_holds():
    truth, covered = math.exp(0.1**2 / 2), 0
    for seed in range(100):
        told = streamed(correlated(0.9, 2_000, seed)).mean_latency
        covered += told.low <= truth <= told.high
    assert covered >= 90
    alone = mean_estimate([1.0, 2.0], inflation=2.0)  # worth one value, which has no interval
    assert alone.high == math.inf
    assert percentile_estimate([1.0, 2.0], 90, inflation=1.0).high == math.inf


def test_too_few_independent_queries_refuse_the_percentile():
    run = streamed(correlated(0.98, 300, 0))
    with pytest.raises(NotEnoughSamples, match=r"300 queries \(worth \d+ .*needs"):
        run.latency_at(90)
    assert run.latency_in_words(90) == "—"


def test_a_stream_goes_on_where_its_times_depend_on_each_other(clock, stopwatch):
    """Slow and fast in turns of 50: the 64 queries that p90 needs of independent ones are few."""
    turns = ([1e-3] * 50 + [2e-3] * 50) * 40
    call = clock.taking(*[0.0] * WARM_UP, *turns, 1e9)
    run = single_stream(lambda _: call(), budget_s=0.1, stopwatch=stopwatch)
    assert run.n > 400 and run.inflation > 5


# --- Streams -------------------------------------------------------------------------------------


def test_single_stream_sends_the_next_when_the_last_is_answered(clock, stopwatch):
    run = single_stream(taking(clock, 0.01), budget_s=1.0, stopwatch=stopwatch)
    assert run.n == pytest.approx(100, abs=1)
    assert run.latencies_s == pytest.approx([0.01] * run.n)
    assert run.arrivals_s[1:] == run.ends_s[:-1]
    assert run.tail_latency_s == pytest.approx(0.01)
    assert run.throughput == pytest.approx(100)
    assert run.mean_in_system == pytest.approx(1)
    assert repr(run) == f"single stream: p90 latency 10.0 ms, n = {run.n}"


def test_multi_stream_asks_for_eight_at_once(clock, stopwatch):
    given = []

    def serve(n):
        given.append(n)
        clock.advance(0.002 + n * 0.001)

    run = multi_stream(serve, stopwatch=stopwatch)
    assert set(given) == {8}
    assert run.n == 662  # the budget of a second has room for 100: it goes on to what p99 needs
    assert run.tail_latency_s == pytest.approx(0.010)
    assert run.throughput == pytest.approx(800)


@pytest.mark.parametrize(
    ("call_s", "n"),
    [
        (0.01, 100),  # as many as fit in a budget of 1 s
        (0.1, 64),  # as many as p90 needs of independent ones …
        (1.0, 10),  # … unless those take ten budgets
    ],
)
def test_the_budget_decides_how_many(clock, stopwatch, call_s, n):
    run = single_stream(taking(clock, call_s), stopwatch=stopwatch)
    assert run.n == pytest.approx(n, abs=1)


def test_too_few_queries_refuse_the_percentile_and_nothing_else(clock, stopwatch):
    run = single_stream(taking(clock, 1.0), stopwatch=stopwatch)
    needed = r"p90 of 'single stream': given 10 queries; needs 64\. Raise budget_s"
    with pytest.raises(NotEnoughSamples, match=needed):
        _ = run.tail_latency_s
    assert run.mean_latency_s == pytest.approx(1.0)
    assert repr(run) == "single stream: p90 latency —, n = 10"
    assert "needs 64 queries, raise budget_s" in run.table().caption
    assert run.to_dict()["tail_latency_s"] is None
    assert "p90 latency —" in run.plot().caption


def test_the_device_is_waited_for(accelerator, stopwatch):
    """Noting the work takes 10 µs, doing it 10 ms: an answer counts when it is there."""

    def serve(n):
        accelerator.launch(0.010)

    latency = pytest.approx(0.01001)
    assert single_stream(serve, stopwatch=stopwatch).tail_latency_s == latency
    assert offline(serve, samples=8, batch_size=4, stopwatch=stopwatch).service_s[0] == latency
    run = server(
        serve,
        rate=1.0,
        target_s=1.0,
        queries=1,
        stopwatch=stopwatch,
        wait_until=lambda read, moment: accelerator.clock.advance(moment - read()),
    )
    assert run.latencies_s == (latency,)


# --- Offline -------------------------------------------------------------------------------------


def test_offline_takes_all_and_the_last_batch_is_what_is_left(clock, stopwatch):
    run = offline(taking(clock, 0.1, 0.01), samples=25, batch_size=10, stopwatch=stopwatch)
    assert run.batch_sizes == (10, 10, 5)
    assert run.service_s == pytest.approx([0.2, 0.2, 0.15])
    assert run.duration_s == pytest.approx(0.55)
    assert run.throughput == run.throughput_estimate.value == pytest.approx(25 / 0.55)
    assert run.latencies_s == pytest.approx([0.2] * 10 + [0.4] * 10 + [0.55] * 5)
    assert run.to_dict()["batch_times_s"] == [0.2, 0.2, 0.15]


def test_a_batch_larger_than_the_work(clock, stopwatch):
    run = offline(taking(clock, 0.1), samples=3, batch_size=100, stopwatch=stopwatch)
    assert run.batch_sizes == (3,)


# --- Server: from the scheduled arrival ----------------------------------------------------------


def test_latencies_by_hand(clock, serving, monkeypatch):
    """Two seconds of work each. Due at 1, 2, 2.5 and 10: done at 3, 5, 7 and 12."""
    run = serving(taking(clock, 2.0), due=[1, 2, 2.5, 10], monkeypatch=monkeypatch)
    assert run.starts_s == pytest.approx([1, 3, 5, 10])
    assert run.ends_s == pytest.approx([3, 5, 7, 12])
    assert run.latencies_s == pytest.approx([2, 3, 4.5, 2])
    assert run.naive_latencies_s == pytest.approx([2, 2, 2, 2])
    assert run.mean_in_system == pytest.approx(11.5 / 12)  # Σ latencies ÷ duration
    assert run.busy_share == pytest.approx(8 / 12)


def test_who_waits_is_answered_together_oldest_first(clock, serving, monkeypatch):
    """At 3 there are three who wait, two of them fit; a call takes 2 s whatever it answers."""
    due = [1, 2, 2.5, 2.9, 10]
    run = serving(taking(clock, 2.0), due=due, max_batch=2, monkeypatch=monkeypatch)
    assert run.batch_sizes == (1, 2, 1, 1)
    assert run.latencies_s == pytest.approx([2, 3, 2.5, 4.1, 2])
    assert run.mean_batch == pytest.approx(5 / 4)


def test_a_server_that_fills_its_batches_lets_the_first_wait_for_the_last(
    clock, serving, monkeypatch
):
    """Batches of two, 2 s of work: full at 2 and 2.9; at 10 the last comes alone."""
    due = [1, 2, 2.5, 2.9, 10]
    given = {"due": due, "min_batch": 2, "max_batch": 2, "monkeypatch": monkeypatch}
    run = serving(taking(clock, 2.0), **given)
    assert run.batch_sizes == (2, 2, 1)
    assert run.starts_s == pytest.approx([2, 4, 10])
    assert run.latencies_s == pytest.approx([3, 2, 3.5, 3.1, 2])
    assert "always 2 answered at once" in run.definition
    more = serving(taking(clock, 2.0), **given | {"due": [1, 2, 2.5, 2.9, 3, 10], "max_batch": 3})
    assert more.batch_sizes == (2, 3, 1)  # who has come meanwhile goes along, if there is room
    assert more.starts_s == pytest.approx([2, 4, 10])
    assert "2 to 3 answered at once" in more.definition


def test_a_server_that_falls_behind_cannot_hide_it(clock, serving):
    """Work takes 1.25 gaps: honest latencies grow and grow, a naive clock sees none of it."""
    run = serving(taking(clock, 0.0125), rate=100, target_s=0.05, queries=700)
    assert run.naive_latencies_s == pytest.approx([0.0125] * 700)
    first, middle, last = (np.mean(run.latencies_s[i : i + 100]) for i in (0, 300, 600))
    assert last > 1.5 * middle > 3 * first > 0
    assert not run.valid and run.late > 600
    assert run.busy_share > 0.98


def test_batching_keeps_up_where_one_at_a_time_does_not(clock, serving):
    """10 ms a call and 0.1 ms a sample: 100 queries/s one by one, thousands in batches."""
    given = {"rate": 300, "target_s": 0.05, "queries": 4_000}
    alone = serving(taking(clock, 0.010, 0.0001), **given)
    together = serving(taking(clock, 0.010, 0.0001), max_batch=32, **given)
    assert alone.verdict == "no" and alone.unanswered > 0
    assert alone.load.value == pytest.approx(300 * 0.0101)
    assert together.valid and together.late == 0 and together.load is None
    assert 2 < together.mean_batch < 32


def test_every_latency_is_lindleys(clock, serving):
    """A queue served in order: wait of the next = max(0, wait + service − gap) (Lindley, 1952)."""
    run = serving(taking(clock, 0.008), rate=100, queries=500)
    waits = [0.0]
    for before, after in pairwise(run.arrivals_s):
        waits.append(max(0.0, waits[-1] + 0.008 - (after - before)))
    assert run.latencies_s == pytest.approx([w + 0.008 for w in waits])


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_the_mean_wait_is_what_queueing_theory_says(clock, serving, load):
    """M/D/1 (Poisson arrivals, fixed service, one server): ρ/(2·(1 − ρ)) services of waiting."""
    run = serving(taking(clock, 1.0), rate=load, target_s=1_000, queries=20_000)
    wait_s = run.mean_latency_s - 1.0
    assert wait_s == pytest.approx(load / (2 * (1 - load)), rel=0.15)
    assert run.busy_share == pytest.approx(load, rel=0.05)


@pytest.mark.parametrize("max_batch", [1, 4])
def test_littles_law(clock, serving, max_batch):
    """L = λ·W: counted along time on one side, per query on the other."""
    run = serving(taking(clock, 0.008), rate=100, max_batch=max_batch, queries=2_000)
    assert run.answered == run.n
    assert run.mean_in_system == pytest.approx(run.arrival_rate * run.mean_latency_s, rel=1e-9)


def test_littles_law_of_all_work_at_hand(clock, stopwatch):
    run = offline(taking(clock, 0.1, 0.01), samples=95, batch_size=10, stopwatch=stopwatch)
    assert run.mean_in_system == pytest.approx(run.arrival_rate * run.mean_latency_s)


def test_arrivals_are_seeded_and_stretch_with_the_rate():
    slow, fast = poisson(10, 1_000, seed=0), poisson(20, 1_000, seed=0)
    assert slow == pytest.approx(2 * fast)
    assert np.diff(slow).mean() == pytest.approx(0.1, rel=0.1)
    assert np.diff(slow).std() == pytest.approx(0.1, rel=0.1)  # exponential: as wide as its mean
    assert not np.allclose(slow, poisson(10, 1_000, seed=1))


# --- Server: overload and verdict ----------------------------------------------------------------


def test_an_overload_ends_and_says_how_many_were_left(clock, serving):
    run = serving(taking(clock, 0.1), rate=1_000, target_s=0.5, queries=1_000)
    assert run.duration_s < 2 * run.arrivals_s[-1] + 0.2
    assert run.unanswered == 1_000 - run.answered > 900
    assert run.latencies_s[-1] == math.inf == run.mean_latency_s
    assert run.late >= run.unanswered and not run.valid
    assert f"{run.unanswered} never answered" in repr(run)
    assert f"{run.unanswered} were never answered" in run.table().caption
    assert "∞" in str(run.table())
    record = json.dumps(run.to_dict(), allow_nan=False)  # JSON knows no infinity
    assert json.loads(record)["unanswered_queries"] == run.unanswered
    assert json.loads(record)["latencies_s"][-1] is None
    assert "never answered" in run.plot().caption


def test_more_than_can_be_answered_is_never_valid_however_patient_the_target(clock, serving):
    """All come at once, and each has a second: all are answered in time, but in the long run?"""
    run = serving(taking(clock, 0.001), rate=1e6, target_s=1.0, queries=700)
    assert run.unanswered == 0 and run.late == 0
    assert run.verdict == "no" and run.load.value == pytest.approx(1_000)
    assert any("no time to grow" in doubt for doubt in run.doubts)


@pytest.mark.parametrize(("slow", "says"), [(0, "yes"), (1, "yes"), (2, "cannot tell")])
def test_one_late_of_700_is_tolerated_and_two_are_not(clock, serving, slow, says):
    """Hardly any load: the rule is MLPerf's."""
    call = clock.taking(*[1e-9] * WARM_UP, *[5.0] * slow, 1e-9)
    due = np.arange(1, 701) * 10.0
    with pytest.MonkeyPatch.context() as patch:
        run = serving(lambda _: call(), due=due, rate=1e-3, target_s=1.0, monkeypatch=patch)
    assert (run.late, run.verdict) == (slow, says)
    assert run.valid == (says == "yes")


@pytest.mark.parametrize(("n", "says"), [(458, "cannot tell"), (460, "yes")])
def test_too_few_queries_are_never_valid(clock, serving, n, says):
    run = serving(taking(clock, 1e-9), rate=1, target_s=1.0, queries=n)
    assert run.late == 0 and run.verdict == says
    few = "458 queries are few: needs 662, 662 s"
    assert run.doubts == ((few,) if says == "cannot tell" else ())


# --- Server: queries that wait for each other ----------------------------------------------------
# M/D/1: Poisson arrivals, one server, each answer takes 1 s. The percentiles of the latency are
# of 200 simulated runs of 20,000 to 400,000 queries; from P(late) they can be held against theory.

TAILS_S = {0.5: {90: 2.51, 99: 4.33}, 0.8: {90: 6.0, 99: 11.32}, 0.95: {90: 23.3, 99: 46.1}}


def md1(load, target_s, percentile, queries, seed):
    """A run of such a server, by the reflected random walk that Lindley's waits are."""
    due = poisson(load, queries, seed)
    walk = np.cumsum(np.concatenate([[0.0], 1.0 - np.diff(due)]))
    starts = due + walk - np.minimum.accumulate(walk)
    return ServerResult(
        scenario="server",
        arrivals_s=tuple(due.tolist()),
        starts_s=tuple(starts.tolist()),
        ends_s=tuple((starts + 1.0).tolist()),
        batch_sizes=(1,) * queries,
        rate=load,
        target_s=target_s,
        percentile=percentile,
        max_batch=1,
        seed=seed,
        conditions=Conditions("cpu", 1, "2.0", 0.0),
    )


def said(load, times, percentile, queries, seeds=40):
    """How often it says what, with a target of so many times the true percentile."""
    target_s = times * TAILS_S[load][percentile]
    runs = (md1(load, target_s, percentile, queries, seed) for seed in range(seeds))
    told = [run.verdict for run in runs]
    return {says: told.count(says) / seeds for says in ("yes", "no", "cannot tell")}


def test_the_made_up_run_is_the_one_that_the_server_makes(clock, serving):
    made = md1(0.8, 5.0, 90, 300, seed=3)
    run = serving(taking(clock, 1.0), rate=0.8, target_s=5.0, percentile=90, queries=300, seed=3)
    assert run.latencies_s == pytest.approx(made.latencies_s)
    assert (run.verdict, run.queries_needed) == (made.verdict, made.queries_needed)


@pytest.mark.parametrize("percentile", [90, 99])
@pytest.mark.parametrize("load", TAILS_S)
def test_a_target_at_the_true_percentile_or_below_is_not_called_valid(load, percentile):
    """By the rule for independent queries, half of the runs at 95 % load were."""
    for times in (1.0, 0.8):
        assert said(load, times, percentile, 5_394)["yes"] <= 0.05


@pytest.mark.parametrize(("load", "queries"), [(0.5, 2_000), (0.8, 15_000), (0.95, 150_000)])
def test_a_run_as_long_as_needed_tells_what_is_well_within_and_what_is_too_late(load, queries):
    seeds = 5 if load == 0.95 else 30
    assert said(load, 1.0, 90, queries, seeds)["yes"] <= 0.05
    assert said(load, 1.0, 90, queries, seeds)["no"] <= 0.1
    assert said(load, 2.0, 90, queries, seeds)["yes"] >= 0.8
    assert said(load, 0.5, 90, queries, seeds)["no"] >= 0.8


@pytest.mark.parametrize("load", [1.0, 1.003, 1.2])
def test_a_rate_at_or_above_the_capacity_is_never_valid(load):
    for seed in range(20):
        run = md1(load, 1e4, 90, 5_394, seed)
        assert run.late == 0  # the target is so patient that nothing shows in this run
        assert run.verdict == ("no" if load > 1 else run.verdict) and not run.valid


def test_a_run_that_is_too_short_says_how_many_queries_the_load_needs():
    run = md1(0.95, 1e3, 90, 5_394, seed=0)
    assert run.verdict == "cannot tell" and run.queries_needed >= 64 * queue_inflation(0.95) - 1
    assert queue_inflation(0.95) == pytest.approx(761)
    (doubt,) = (d for d in run.doubts if "few" in d)
    assert doubt.startswith("5,394 queries (worth 7 independent ones) are few: needs 48,7")
    assert "may be valid or not" in repr(run)
    assert run.table().rows[0][-1] == "cannot tell"
    assert json.loads(json.dumps(run.summary()))["verdict"] == "cannot tell"
    assert queue_inflation(1.0) == math.inf


def test_a_run_bounds_the_highest_rate_from_the_side_that_it_has_shown():
    fine, too_fast = md1(0.5, 100.0, 90, 5_000, 0), md1(1.2, 10.0, 90, 5_000, 0)
    at_least, less = fine.sustained, too_fast.sustained
    assert (at_least.low, at_least.high) == (fine.rate, math.inf)
    assert less.low < 0 and math.nextafter(less.high, math.inf) == too_fast.rate
    unclear = md1(0.95, 1e3, 90, 5_394, seed=0)
    assert unclear.verdict == "cannot tell" and unclear.sustained is None


def test_the_late_share_has_an_interval_that_is_as_wide_as_the_queue_remembers():
    runs = [md1(0.8, TAILS_S[0.8][90], 90, 12_000, seed) for seed in range(60)]
    told = [run.late_estimate for run in runs]
    assert np.mean([each.low <= 0.1 <= each.high for each in told]) >= 0.9
    assert told[0].value == pytest.approx(runs[0].late_share)
    unknown = md1(1.2, 10.0, 90, 1_000, seed=0).late_estimate
    assert (unknown.low, unknown.high) == (0, 1)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_means_and_percentiles_of_a_queue_have_intervals_that_hold(load):
    mean_s = 1 + load / (2 * (1 - load))
    found = [md1(load, 10.0, 90, 12_000, seed) for seed in range(100)]
    told = [(run.mean_latency, run.latency_estimate(90)) for run in found]
    tail_s = TAILS_S[load][90]
    assert np.mean([mean.low <= mean_s <= mean.high for mean, _ in told]) >= 0.9
    assert np.mean([tail.low <= tail_s <= tail.high for _, tail in told]) >= 0.9
    assert np.mean([run.latency_at(90) >= tail_s for run in found]) >= 0.95


def test_calls_that_slow_down_together_are_worth_less(clock, serving):
    """Two in ten calls are slow: alone, or a hundred of them in a row."""
    single = ([1e-3] * 8 + [5e-3] * 2) * 200
    rows = ([1e-3] * 400 + [5e-3] * 100) * 4
    worth = []
    for times in (single, rows):
        call = clock.taking(*[1e-3] * WARM_UP, *times)
        run = serving(lambda _, call=call: call(), rate=50, target_s=0.1, queries=2_000)
        worth.append(run.n / run.inflation)
    assert worth[1] < worth[0] / 10


@pytest.mark.parametrize(("given", "n"), [({"rate": 10}, 662), ({"rate": 5_000}, 5_000)])
def test_as_many_queries_as_the_percentile_needs_and_the_budget_holds(clock, serving, given, n):
    assert serving(taking(clock, 1e-5), **given).n == n


# --- The highest rate ----------------------------------------------------------------------------


def test_the_highest_rate_lies_where_queueing_theory_puts_it(clock, stopwatch, wait_until):
    """With a fixed 10 ms and 100 ms of patience p90 is in time up to 87 queries/s."""
    given = {"target_s": 0.1, "percentile": 90, "stopwatch": stopwatch, "wait_until": wait_until}
    found = highest_rate(taking(clock, 0.010), budget_s=60.0, **given)
    assert 70 < found.rate < 87.5 < found.too_high <= 101
    assert found.best.valid and not found.best.doubts
    above = min(t.rate for t in found.trials if t.rate > found.rate)
    assert found.rate < above <= 1.06 * found.rate  # rates are rounded to three digits
    assert all(t.verdict == "no" for t in found.trials if t.rate >= found.too_high)
    batched = highest_rate(taking(clock, 0.010, 0.0001), max_batch=32, budget_s=5.0, **given)
    assert batched.rate > 5 * found.rate
    assert found.rate == found.to_dict()["rate_queries_per_s"]
    assert repr(found).startswith("highest rate: ") and "90 % within 100 ms; " in repr(found)
    assert len(found.table().rows) == len(found.trials) == len(found.to_dict()["trials"])
    assert "Late: 0 % at" in found.plot().caption
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("seed", range(6))
def test_no_rate_above_the_capacity_is_ever_the_highest(clock, stopwatch, wait_until, seed):
    """A target of a minute lets no overload show in a run of seconds."""
    given = {"stopwatch": stopwatch, "wait_until": wait_until, "percentile": 90, "seed": seed}
    found = highest_rate(taking(clock, 0.010), target_s=1.0, budget_s=5.0, **given)
    assert found.rate < 100
    assert all(t.verdict != "yes" for t in found.trials if t.rate >= 100)


def test_a_target_below_the_service_time_has_no_rate(clock, stopwatch, wait_until):
    given = {"target_s": 0.005, "stopwatch": stopwatch, "wait_until": wait_until}
    found = highest_rate(taking(clock, 0.010), **given)
    assert found.rate is None and found.best is None
    assert min(t.rate for t in found.trials) < 10  # a tenth of what the system can do
    assert repr(found).startswith("highest rate: none, ")
    assert "none" in found.table().caption


def test_a_low_rate_is_found_by_halving(clock, stopwatch, wait_until):
    """A target just below two services. M/D/1: P(wait ≤ t) = (1 − ρ)·exp(λ·t) up to one service."""
    given = {"target_s": 0.019, "percentile": 90, "budget_s": 60.0, "stopwatch": stopwatch}
    found = highest_rate(taking(clock, 0.010), wait_until=wait_until, **given)
    in_time = [(1 - 0.010 * rate) * math.exp(0.009 * rate) for rate in (found.rate, found.too_high)]
    assert in_time[1] < 0.9 < in_time[0] < 0.93  # 90 %, and some for being sure


def test_the_search_ends_where_nothing_is_too_much(stopwatch, wait_until):
    found = highest_rate(
        lambda n: None, target_s=1e-5, budget_s=1e-3, stopwatch=stopwatch, wait_until=wait_until
    )
    assert all(t.valid for t in found.trials)
    assert "or more" in repr(found)


# --- What may be given ---------------------------------------------------------------------------

SERVER = {"rate": 10.0, "target_s": 1.0}


@pytest.mark.parametrize(
    ("scenario", "given", "needs"),
    [
        (server, SERVER | {"rate": 0}, "rate=0: needs a number above 0"),
        (server, SERVER | {"rate": -1.5}, "rate=-1.5: needs a number above 0"),
        (server, SERVER | {"rate": math.nan}, "rate=nan: needs a number above 0"),
        (server, SERVER | {"rate": math.inf}, "rate=inf: needs a number above 0"),
        (server, SERVER | {"target_s": 0}, "target_s=0: needs a number above 0"),
        (server, SERVER | {"target_s": "1"}, "target_s='1': needs a number above 0"),
        (server, SERVER | {"max_batch": 0}, "max_batch=0: needs a whole number of at least 1"),
        (server, SERVER | {"max_batch": 1.5}, "max_batch=1.5: needs a whole number"),
        (server, SERVER | {"min_batch": 0}, "min_batch=0: needs a whole number of at least 1"),
        (server, SERVER | {"min_batch": 2}, "min_batch=2: needs 1 or fewer, max_batch"),
        (server, SERVER | {"queries": 0}, "queries=0: needs a whole number of at least 1"),
        (server, SERVER | {"budget_s": 0}, "budget_s=0: needs seconds"),
        (highest_rate, {"target_s": -1}, "target_s=-1: needs a number above 0"),
        (highest_rate, {"target_s": 1, "max_batch": 0}, "max_batch=0: needs a whole number"),
        (highest_rate, {"target_s": 1, "budget_s": 0}, "budget_s=0: needs seconds"),
        (offline, {"samples": 0, "batch_size": 1}, "samples=0: needs a whole number of at least 1"),
        (offline, {"samples": 1, "batch_size": 0}, "batch_size=0: needs a whole number"),
        (multi_stream, {"samples_per_query": 0}, "samples_per_query=0: needs a whole number"),
        (single_stream, {"budget_s": -1}, "budget_s=-1: needs seconds"),
    ],
)
def test_what_cannot_be_is_refused_by_name(scenario, given, needs):
    with pytest.raises(BadValue, match=needs):
        scenario(lambda n: pytest.fail("it was asked"), **given)


@pytest.mark.parametrize("percentile", [0, 100, -1, 101, math.nan])
@pytest.mark.parametrize(
    ("scenario", "given"),
    [(single_stream, {}), (multi_stream, {}), (server, SERVER), (highest_rate, {"target_s": 1})],
)
def test_a_percentile_lies_between_0_and_100(scenario, given, percentile):
    with pytest.raises(BadValue, match=f"{percentile}.*needs a number between 0 and 100"):
        scenario(lambda n: pytest.fail("it was asked"), percentile=percentile, **given)


@pytest.mark.parametrize(
    ("scenario", "given", "name"),
    [
        (single_stream, {}, "single stream"),
        (multi_stream, {}, "multi stream"),
        (offline, {"samples": 4, "batch_size": 2}, "offline"),
        (server, SERVER, "server"),
        (highest_rate, {"target_s": 1}, "highest rate"),
    ],
)
def test_a_system_that_raises_is_named_and_its_error_is_the_cause(scenario, given, name):
    with pytest.raises(CallFailed, match=f"'{name}' raised ZeroDivisionError") as told:
        scenario(lambda n: 1 / 0, **given)
    assert isinstance(told.value.__cause__, ZeroDivisionError)


# --- What people see and what is kept ------------------------------------------------------------


def runs(clock, stopwatch, wait_until):
    serve, on = taking(clock, 1e-4, 1e-5), {"stopwatch": stopwatch}
    return {
        "single stream": single_stream(serve, budget_s=0.5, **on),
        "multi stream": multi_stream(serve, **on),
        "offline": offline(serve, samples=5_000, batch_size=2, **on),
        "server": server(serve, **SERVER, queries=3_000, wait_until=wait_until, **on),
    }


def test_a_record_is_json_and_small_and_says_how_many_there_were(clock, stopwatch, wait_until):
    for name, run in runs(clock, stopwatch, wait_until).items():
        record = json.loads(json.dumps(run.to_dict(), allow_nan=False))
        assert record["scenario"] == name
        assert record["queries"] == run.n > 2_000
        assert len(record["latencies_s"]) == 2_000
        assert record["latencies_s"][-1] == pytest.approx(run.latencies_s[-1], abs=1e-9)
        assert record["conditions"]["device"] == "cpu"


def test_tables_and_pictures_name_scenario_and_conditions(clock, stopwatch, wait_until):
    for name, run in runs(clock, stopwatch, wait_until).items():
        table = run.table()
        assert table.rows[0][0] == name and repr(run).startswith(f"{name}: ")
        things = "samples" if name == "offline" else "queries"
        assert f"{run.n:,} {things}; cpu, 1 thread." in table.caption
        assert "\n" not in repr(run)
        assert run.plot().png().startswith(b"\x89PNG")
        assert "ms" in run.plot().caption or "µs" in run.plot().caption


def test_the_package_lists_what_it_offers():
    offered = [thing for name, thing in vars(loadgen).items() if callable(thing)]
    assert loadgen.server in offered and all(thing.__doc__ for thing in offered)


# --- A real clock --------------------------------------------------------------------------------


def test_a_real_clock_is_read_too():
    def serve(n):
        time.sleep(0.001)

    alone = single_stream(serve, budget_s=0.02)
    assert alone.n > 1 and 0.001 <= min(alone.latencies_s) <= max(alone.latencies_s) < 1
    run = server(serve, rate=200, target_s=1.0, percentile=90, queries=64)
    assert run.verdict != "no" and run.unanswered == 0
    assert min(run.latencies_s) >= 0.001
    assert 64 / 200 / 2 < run.duration_s < 3
    assert run.mean_in_system == pytest.approx(run.arrival_rate * run.mean_latency_s, rel=1e-6)


def test_waiting_does_not_wake_early():
    for wait_s in (0.0, 0.0003, 0.003):
        due = time.perf_counter() + wait_s
        sleep_until(time.perf_counter, due)
        assert due <= time.perf_counter() < due + 0.5
