"""Traffic over HTTP: queues whose waits are known before, a real server, and what is counted."""

import heapq
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from array import array
from dataclasses import replace

import numpy as np
import pytest
from http_servers import SERVICE_S, serving

from kit import loadgen
from kit.core.errors import BadValue, CallFailed, NotComparable, NotEnoughSamples, UnknownName
from kit.loadgen import (
    ClientTooSlow,
    TrafficResult,
    goodput_curves,
    goodput_ratio,
    goodput_table,
    settings_table,
)
from kit.loadgen.arrivals import poisson
from kit.loadgen.client_limit import check_rate, check_run, client_limit
from kit.loadgen.http_answers import CONNECTION_FAILED, NOT_SENT, TIMED_OUT, Answer
from kit.loadgen.http_requests import address
from kit.loadgen.rate_bracket import HighestRate, search
from kit.loadgen.sender import Plan, Run
from kit.loadgen.sender_process import SenderProcess, sender_process
from kit.loadgen.traffic import _raw, traffic
from kit.measurement import Conditions

# --- Queues on a clock made of numbers: what theory says is what is found ------------------------


class Loop:
    """As much of an event loop as the sender uses, on a clock that jumps to the next event."""

    def __init__(self):
        self.now, self.due, self.count = 0.0, [], itertools.count()

    def time(self):
        return self.now

    def call_at(self, moment, call):
        heapq.heappush(self.due, (moment, next(self.count), call))

    def call_later(self, wait_s, call):
        self.call_at(self.now + wait_s, call)

    def create_future(self):
        loop = self

        class Future:
            over = False

            def done(self):
                return self.over

            def set_result(self, _):
                self.over = True
                loop.due.clear()

        return Future()

    def run(self):
        while self.due:
            self.now, _, call = heapq.heappop(self.due)
            call()


class Queue:
    """A client whose server answers one request after another, each in the same time."""

    def __init__(self, service_s, statuses=(200,)):
        self.loop, self.service_s, self.free_s = Loop(), service_s, 0.0
        self.statuses = itertools.cycle(statuses)

    def send(self, request, done, *, streamed=False):
        self.free_s = max(self.loop.now, self.free_s) + self.service_s
        answer = Answer()
        answer.status = next(self.statuses)
        self.loop.call_at(self.free_s, lambda: done(answer, self.loop.now))


def sent(client, schedule=(), **plan):
    """A run on the made-up clock."""
    run = Run(client, [b""], array("d", schedule), Plan(**{"duration_s": 1.0, **plan}))
    run._start()
    client.loop.run()
    return run


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waits_of_an_open_loop_are_those_of_an_m_d_1_queue(load):
    """ρ ÷ (2·(1 − ρ)) answers, by Pollaczek and Khinchine."""
    run = sent(Queue(1.0), poisson(load, 60_000, seed=0))
    waits = np.subtract(run.ended_s, run.scheduled_s) - 1
    assert np.mean(waits) == pytest.approx(load / (2 * (1 - load)), rel=0.08)
    assert list(run.sent_s) == pytest.approx(list(run.scheduled_s))


def test_one_user_with_a_schedule_hides_the_queue_and_the_correction_shows_it():
    """A single user is the queue: it never has two requests at the server."""
    schedule = poisson(0.8, 60_000, seed=0)
    run, queue = sent(Queue(1.0), schedule, users=1), sent(Queue(1.0), schedule)
    assert np.subtract(run.ended_s, run.sent_s) == pytest.approx(1.0)  # coordinated omission
    assert list(run.ended_s) == pytest.approx(list(queue.ended_s))  # from the schedule: the same


@pytest.mark.parametrize(("users", "think_s"), [(1, 0.0), (8, 0.0), (4, 6.0), (40, 20.0)])
def test_a_closed_loop_keeps_the_law_of_response_times(users, think_s):
    """Users = rate × (latency + thinking), by Little."""
    run = sent(Queue(0.5), users=users, think_s=think_s, duration_s=4_000.0)
    rate = len(run.sent_s) / 4_000
    latency = np.mean(np.subtract(run.ended_s, run.sent_s))
    assert rate * (latency + think_s) == pytest.approx(users, rel=0.05)
    assert rate <= 1 / 0.5 + 0.01
    if users == 8:
        assert rate == pytest.approx(2, rel=0.01) and latency == pytest.approx(4, rel=0.01)


def test_retries_are_made_only_if_asked_and_are_counted():
    none = sent(Queue(0.01, [503, 200]), [0.0, 1.0])
    assert list(none.statuses) == [503, 200] and list(none.attempts) == [1, 1]
    twice = sent(Queue(0.01, [503, 503, 200]), [0.0], retries=2)
    assert list(twice.statuses) == [200] and list(twice.attempts) == [3]
    assert 0.03 + 0.75 * 0.3 <= twice.ended_s[0] <= 0.03 + 0.3  # it waited 0.1 s, then 0.2 s
    too_few = sent(Queue(0.01, [503, 503, 200]), [0.0], retries=1)
    assert list(too_few.statuses) == [503] and list(too_few.attempts) == [2]
    wrong = sent(Queue(0.01, [400]), [0.0], retries=2)
    assert list(wrong.attempts) == [1]  # the same request would be just as wrong


# --- What follows from the raw times -------------------------------------------------------------


def made(latencies_s, statuses=None, **changes):
    """A run whose requests are due every 10 ms."""
    n = len(latencies_s)
    scheduled = np.arange(n) * 0.01
    given = {
        "url": "http://test",
        "model": None,
        "loop": "open",
        "arrivals": "constant",
        "rate": 100.0,
        "users": None,
        "think_s": 0.0,
        "duration_s": n * 0.01,
        "target_s": 0.05,
        "ttft_target_s": None,
        "tpot_target_s": None,
        "percentile": 90,
        "timeout_s": 1.0,
        "retries": 0,
        "batch_size": 1,
        "seed": 0,
        "scheduled_s": tuple(scheduled),
        "sent_s": tuple(scheduled),
        "ended_s": tuple(scheduled + latencies_s),
        "statuses": tuple(statuses or [200] * n),
        "attempts": (1,) * n,
        "client_limit": 10_000.0,
        "client_busy_share": 0.1,
        "conditions": Conditions("cpu", 1, "2.0", 0.0),
    }
    return TrafficResult(**{**given, **changes})


def test_goodput_counts_what_met_all_targets():
    run = made([0.01] * 60 + [0.06] * 20 + [0.01] * 20, [200] * 90 + [503] * 10)
    assert run.goodput.value == pytest.approx(70)  # 60 in time, and 10 of the last 20
    assert run.goodput.low < 70 < run.goodput.high <= 100
    assert (run.answered, run.failed, run.refused, run.offered) == (90, 10, 10, 100)
    assert run.late == 30 and run.status_counts == {"200": 90, "503": 10}
    assert sum(math.isinf(s) for s in run.latencies_s) == 10
    assert made([0.06] * 100, target_s=None).goodput.value == pytest.approx(100)


def test_a_throughput_has_the_interval_of_ten_parts_of_the_run():
    """Whether the answers were in time does not matter: 100 in a second are a capacity."""
    even = made([0.005] * 200, target_s=0.001).throughput_estimate
    assert (even.low, even.value, even.high) == pytest.approx((100, 100, 100))
    half = made([0.005] * 200, [200] * 100 + [503] * 100).throughput_estimate
    assert half.low == 25 and half.value == 50 and half.high > 80  # at least half of what was seen


def test_a_request_takes_few_bytes_of_the_client():
    """A minute of a flood has a million requests, and all their raw times stay in memory."""
    n = 10_000
    pieces = [np.random.default_rng(0).random(n).tobytes()] * 4 + [bytes(4 * n)] * 3
    tracemalloc.start()
    run = made([0.01] * 10, **_raw(pieces, text=True, streamed=True))
    assert len(run.latencies_s) == len(run.lag_s) == n
    in_use_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert in_use_bytes < 100 * n  # seven numbers and the latency: 52 bytes; 200 as objects


def test_a_refusal_is_no_fast_answer():
    run = made([0.001] * 100, [503] * 100)
    assert run.goodput.value == 0 and run.verdict == "no" and run.latency_in_words(50) == "∞"
    with pytest.raises(BadValue, match="status_counts"):
        run.plot()
    assert run.table().rows


def test_percentiles_need_their_samples():
    assert made([0.01] * 64).latency_at(90) == pytest.approx(0.01)
    with pytest.raises(NotEnoughSamples, match=r"63 requests; needs 64. Raise duration_s"):
        made([0.01] * 63).latency_at(90)


def test_a_known_capacity_makes_a_verdict_harder():
    fast = [0.01] * 300
    assert made(fast).verdict == "yes"
    assert made(fast, capacity=loadgen_estimate(125)).verdict == "cannot tell"  # a load of 80 %
    assert made(fast, capacity=loadgen_estimate(90)).verdict == "no"  # more than can be answered
    assert made([0.06] * 300).verdict == "no"


def loadgen_estimate(value):
    from kit.core.statistics import Estimate

    return Estimate.of(value)


def test_time_to_first_token_and_per_token():
    run = made(
        [0.05, 0.05, 0.02],
        first_tokens_s=(0.02, 0.03, 0.04),
        tokens=(4, 2, 1),
        ttft_target_s=0.02,
        tpot_target_s=0.02,
    )
    assert run.ttft_s == pytest.approx((0.02, 0.02, 0.02))
    assert run.tpot_s == pytest.approx((0.01, 0.03, 0.0))
    assert run.met.tolist() == [True, False, True]
    assert {"TTFT", "TPOT"} <= {*run.table().header}


def test_over_time_counts_requests_when_due_and_answers_when_they_came():
    run = made([0.015] * 100 + [0.2] * 100, duration_s=2.0)
    over = run.over_time(0.5)
    assert over.starts_s == (0.0, 0.5, 1.0, 1.5)
    assert over.offered == pytest.approx((100, 100, 100, 100))
    assert over.goodput == pytest.approx((98, 100, 2, 0))  # the last of a half second come later
    assert sum(over.late) == pytest.approx(2 * 81)
    assert over.median_latency_s[0] == pytest.approx(0.015)
    assert over.mean_goodput(0.0, 1.0) == pytest.approx(99) and over.mean_goodput(9, 10) == 0
    assert "goodput" in run.plot_over_time(0.5).caption


def test_the_clock_of_sending_leaves_out_the_wait():
    due = np.arange(100) * 0.01
    run = made(
        [0.1] * 100, loop="closed with a schedule", users=1, sent_s=tuple(due + 0.09), percentile=90
    )
    assert run.corrected.latency_at(90) == pytest.approx(0.1)
    assert run.uncorrected.latency_at(90) == pytest.approx(0.01)
    assert run.table().rows[0][run.table().header.index("median since sending")] == "10.0 ms"
    assert made([0.1], loop="closed", rate=None, users=1).corrected is None


def test_what_failed_is_named_and_doubted():
    statuses = [200] * 96 + [TIMED_OUT, CONNECTION_FAILED, NOT_SENT, NOT_SENT]
    run = made([0.01] * 100, statuses, attempts=(1,) * 90 + (3,) * 10)
    assert run.status_counts["timed out"] == 1 and run.retried == 20
    assert "2 requests were not sent: all connections were in use" in run.doubts
    late = made([0.01] * 100, sent_s=tuple(np.arange(100) * 0.01 + 0.002))
    assert any("late or more" in doubt for doubt in late.doubts)
    assert not any("late or more" in doubt for doubt in made([0.01] * 100).doubts)
    kept = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert kept["latencies_s"].count(None) == 4 and kept["retried_requests"] == 20


# --- Several settings ----------------------------------------------------------------------------


def found_between(valid, too_high):
    """A search that ended between two rates; runs of 100 s, so that they are sure."""
    trials = [
        made([0.01 if rate < too_high else 0.06] * 300, rate=float(rate))
        for rate in (valid, too_high)
    ]
    return HighestRate(tuple(trials))


def test_settings_show_what_was_seen_and_what_is_sure():
    short = HighestRate((made([0.01] * 9, rate=50.0), made([0.06] * 300, rate=90.0)))
    assert short.trials[0].verdict == "cannot tell"
    table = settings_table({"a": found_between(100, 110), "b": short})
    assert [row[1:] for row in table.rows] == [("100", "100", "110"), ("50.0", "—", "90.0")]
    other = HighestRate((made([0.01] * 300, target_s=0.1),))
    with pytest.raises(NotComparable, match="same"):
        settings_table({"a": found_between(100, 110), "b": other})
    with pytest.raises(BadValue, match="at least one"):
        settings_table({})


def test_curves_of_goodput_are_of_the_same_traffic():
    one, two = made([0.01] * 100), made([0.06] * 100)
    caption = goodput_curves({"calm": one, "late": two}).caption
    assert "calm: 100 on average" in caption and "late: 0 on average" in caption
    with pytest.raises(NotComparable, match="'other' differs in target_s"):
        goodput_curves({"one": one, "other": made([0.01] * 100, target_s=0.1)})


def test_the_ratio_of_runs_in_turns_is_that_of_their_pairs():
    """The computer becomes slower and slower, for both servers alike."""
    in_time = [90, 80, 60, 40, 30, 20, 10]
    one = [made([0.01] * n + [0.06] * (100 - n)) for n in in_time]
    two = [made([0.01] * 2 * n + [0.06] * (200 - 2 * n), duration_s=1.0) for n in in_time]
    found = goodput_ratio(two, one)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    assert goodput_ratio(two[:5], one[:5]).low == 0  # too few for an interval
    late = made([0.06] * 100)
    half = goodput_ratio(two, [*one[:6], late])  # a slow moment that only one of them met
    assert half.low == pytest.approx(2) and half.high == math.inf
    assert goodput_ratio([*two, late], [*one, late]) == found  # and one that both met
    none = goodput_ratio(two, [*one[:3], *[late] * 4])
    assert (none.low, none.high) == (0, math.inf)
    assert goodput_ratio([late], [late]).value == math.inf
    with pytest.raises(BadValue, match="3 and 2 runs"):
        goodput_ratio(two[:3], one[:2])


def test_a_request_with_several_rows_counts_as_so_many_answers():
    one, rows = [made([0.01] * 50)] * 6, [made([0.01] * 50, batch_size=32)] * 6
    assert goodput_ratio(rows, one).value == pytest.approx(32)
    found = goodput_table({"1": one, "32": rows}, of="rows")
    assert found.header[0] == "rows" and "median of 6 short runs" in found.caption
    assert [row[1].split()[0] for row in found.rows] == ["100", "3,200"]
    assert "every answer" not in found.caption
    free = [replace(run, target_s=None) for run in rows]
    assert "every answer counts" in goodput_table({"1": one, "32": free}, of="rows").caption
    with pytest.raises(BadValue, match="at least one"):
        goodput_table({}, of="rows")


def test_a_rate_at_which_requests_failed_has_a_column_that_others_leave_empty():
    fine, full = (
        made([0.01] * 300, rate=100.0),
        made([0.01] * 300, statuses=[200] * 150 + [503] * 150, rate=200.0),
    )
    table = HighestRate((fine, full)).table()
    column = table.header.index("without answer")
    assert [row[column] for row in table.rows] == ["—", "50.0 %"]
    assert [row[-1] for row in table.rows] == [fine.verdict, full.verdict]
    assert table._repr_html_()


def test_the_search_of_a_server_finds_where_trials_change():
    tried = []

    def trial(rate):
        tried.append(rate)
        return made([0.01 if rate <= 137 else 0.06] * 300, rate=rate)

    found = search(trial, 50.0, 1.0, 1_000.0)
    assert found.seen.low <= 137 < found.seen.high <= 1.06 * found.seen.low
    assert found.seen.unit == "requests/s" and tried[:3] == [50, 100, 200]
    assert len(tried) < 12
    assert repr(found).startswith("highest rate: 1") and "requests/s" in repr(found)
    assert {"rate_requests_per_s", "too_high_requests_per_s"} <= {*found.to_dict()}


def test_a_search_by_sight_is_short_and_says_how_little_is_sure():
    def trial(rate):
        return made([0.01 if rate <= 137 else 0.06] * 9, rate=rate)

    found = search(trial, 50.0, 1.0, 1_000.0, 1.3, sure=False)
    assert [t.rate for t in found.trials] == [50, 100, 200, 141, 119]
    assert (found.seen.value, found.seen.low) == (119, 0)
    found = search(trial, 200.0, 1.0, 1_000.0, 1.3, sure=False)
    assert found.seen.value == found.rate == 119
    assert "119" in repr(found) and "none" not in repr(found)
    # If the ends may lie far apart, steps of that size are the shortest way.
    upwards = search(trial, 100.0, 1.0, 1_000.0, 1.4, sure=False)
    downwards = search(trial, 200.0, 1.0, 1_000.0, 1.4, sure=False)
    assert [t.rate for t in upwards.trials] == [100, 140]
    assert [t.rate for t in downwards.trials] == [200, 143, 102]


def test_a_search_by_sight_tries_what_it_missed_once_more():
    """A computer that stopped for a moment is not a rate that is too high."""
    stalls = [[0.01] * 9, [0.01] * 7 + [0.06] * 2, [0.01] * 9, [0.06] * 9]
    times = iter(stalls)
    found = search(lambda rate: made(next(times), rate=rate), 50.0, 1.0, 1e3, 2.1, sure=False)
    assert [t.rate for t in found.trials] == [50, 100, 100, 200]
    assert found.trials[1].verdict == "cannot tell" and found.seen.value == 100


def sends_100(rate):
    """A trial by a client that can send 100 requests per second, to a server that answers all."""
    if rate > 100:
        raise ClientTooSlow("this client can send 100")
    return made([0.01] * 9, rate=rate)


def test_a_search_that_meets_the_client_s_limit_gives_what_it_has_found():
    """The rates below were measured: they are not lost because the next one cannot be sent."""
    found = search(sends_100, 50.0, 1.0, 1e3, 2.1, sure=False)
    assert found.seen.value == 100 and found.seen.high == math.inf
    assert repr(found).endswith("At 200/s, the client was the limit")
    assert found.to_dict()["client_limited_requests_per_s"] == 200
    table = settings_table({"a": found})
    assert table.rows[0][1] == "at least 100" and "the client was the limit" in table.caption


def test_a_search_whose_first_rate_the_client_cannot_send_begins_lower():
    found = search(sends_100, 300.0, 1.0, 1e3, 1.4, sure=False)
    assert [t.rate for t in found.trials] == [75.0] and found.client_limited_rate == 105
    with pytest.raises(ClientTooSlow, match="can send 100"):
        search(sends_100, 3_000.0, 150.0, 1e5, 1.4, sure=False)


# --- The client's own limit ----------------------------------------------------------------------


def test_a_client_that_is_too_slow_is_an_error_and_no_number(monkeypatch):
    monkeypatch.setattr("kit.loadgen.client_limit.LATE_S", 5e-3)
    check_rate(700.0, 1_000.0)
    with pytest.raises(ClientTooSlow, match="can send 800"):
        check_rate(900.0, 1_000.0)
    calm, latency = np.zeros(10), np.full(10, 0.01)
    check_run(0.5, calm, latency)
    with pytest.raises(ClientTooSlow, match="busy 99"):
        check_run(0.99, calm, latency)
    with pytest.raises(ClientTooSlow, match=r"was 20\.0 ms late half of the time"):
        check_run(0.5, calm + 0.02, latency)
    check_run(0.5, None, latency)  # a closed loop: its users send late only if answers come late
    with pytest.raises(ClientTooSlow, match="busy 99"):
        check_run(0.99, None, latency)


def test_the_limit_is_measured_and_larger_requests_lower_it():
    small, large = client_limit(1_000, 200, False), client_limit(1 << 20, 200, False)
    assert small > 2 * large > 0
    assert client_limit(900, 200, False) == small  # measured once
    assert client_limit(1_000, 4_000, True) < small  # 60 events to read


# --- A real server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with serving() as state:
        yield state


@pytest.fixture
def url(server):
    server.text = False
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Other programs on this machine may delay the client; that is not what these tests ask."""
    monkeypatch.setattr("kit.loadgen.client_limit.LATE_S", 10.0)


def test_an_open_loop_sends_what_the_schedule_says(url):
    run = traffic(f"{url}/slow", b"abc", rate=100, duration_s=0.5, target_s=5.0, seed=3)
    expected = loadgen.arrivals.within("poisson", 100, 0.5, seed=3)
    assert run.scheduled_s == pytest.approx(tuple(expected)) and run.n == run.answered
    assert min(run.lag_s) > -1e-3  # no request is early
    assert min(run.latencies_s) > 0.019 and run.goodput.value == pytest.approx(run.offered)
    assert (run.loop, run.arrivals, run.model, run.retried) == ("open", "poisson", None, 0)
    assert run.client_limit > 500 and 0 < run.client_busy_share < 1


def test_the_metadata_says_what_to_send_and_tensors_are_binary(url, server):
    run = traffic(url, rate=50, duration_s=0.2, batch_size=2, deadline_s=0.25, token="secret")
    path, head, body = server.requests[-1]
    assert run.model == "model" and path == "/v2/models/model/infer"
    assert b"Authorization: Bearer secret" in head
    length = int(re.search(rb"Inference-Header-Content-Length: (\d+)", head)[1])
    asked = json.loads(body[:length])
    (tensor,) = asked["inputs"]
    assert (tensor["shape"], tensor["datatype"], tensor["name"]) == ([2, 3], "FP32", "x")
    assert tensor["parameters"]["binary_data_size"] == 24 == len(body) - length
    assert asked["parameters"] == {"binary_data_output": True, "timeout": 250_000}


def test_given_rows_are_sent_in_turn(url, server):
    before = len(server.requests)
    traffic(url, np.arange(12.0).reshape(4, 3), arrivals=[0, 0.01, 0.02, 0.03, 0.04])
    bodies = [body for path, _, body in server.requests[before:] if path.endswith("infer")]
    rows = [np.frombuffer(body[-12:], dtype=np.float32).tolist() for body in bodies[-5:]]
    assert rows == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [0, 1, 2]]


def test_a_text_model_streams_and_its_tokens_are_timed(url, server):
    server.text = True
    run = traffic(url, rate=30, duration_s=0.3, max_tokens=5, ttft_target_s=5, tpot_target_s=5)
    assert run.model == "writer" and run.streamed and set(run.tokens) == {5}
    assert min(run.ttft_s) > 0.019 and np.median(run.tpot_s) > 0.0045
    assert run.goodput.value == pytest.approx(run.offered) and run.tokens_per_s > 0
    whole = traffic(url, ["a", "b"], users=1, duration_s=0.1, max_tokens=3, stream=False)
    assert not whole.streamed and set(whole.tokens) == {0} and whole.failed == 0
    lost = traffic(url, "fail", users=1, duration_s=0.1, max_tokens=3)
    assert lost.status_counts == {"broken answer": lost.n}


def test_users_wait_for_their_answers(url):
    run = traffic(f"{url}/slow", b"", users=3, duration_s=0.3)
    assert run.loop == "closed" and run.corrected is None and run.rate is None
    assert 0 < run.n <= 3 * 0.3 / 0.02 + 3
    thinking = traffic(f"{url}/slow", b"", users=3, think_s=0.1, duration_s=0.3)
    assert thinking.n < run.n


def test_overload_is_recorded_and_retried_only_if_asked(url):
    run = traffic(f"{url}/full", b"", rate=50, duration_s=0.2)
    assert run.status_counts == {"503": run.n} and run.refused == run.n and run.retried == 0
    again = traffic(f"{url}/second-time", b"", users=1, duration_s=0.2, retries=3)
    assert again.failed == 0 and again.retried > 0
    gave_up = traffic(f"{url}/never", b"", rate=50, duration_s=0.1, timeout_s=0.2)
    assert gave_up.status_counts == {"timed out": gave_up.n}
    full = traffic(f"{url}/slow", b"", arrivals=[0.0, 0.0, 0.0, 0.1], connections=2)
    assert full.status_counts == {"200": 3, "not sent: too many open": 1}


def test_a_wrong_address_is_an_error_and_no_number(url):
    with pytest.raises(CallFailed, match=r"answers 404 to the first request: .*no such address"):
        traffic(f"{url}/nowhere", b"", rate=10)
    with serving() as gone:
        port = gone.port
    for inputs in (None, b"x"):
        with pytest.raises(CallFailed, match="Is the server running"):
            traffic(f"http://127.0.0.1:{port}", inputs, rate=10)
    with pytest.raises(BadValue, match="describes no model 'other'"):
        traffic(url, model="other", rate=10)


def test_a_rate_beyond_the_client_is_refused(url):
    with pytest.raises(ClientTooSlow):
        traffic(f"{url}/quick", b"", rate=5e5, duration_s=0.1)


WRONG = [
    ({}, BadValue, "no traffic"),
    ({"rate": 0}, BadValue, "rate=0"),
    ({"rate": True}, BadValue, "rate=True"),
    ({"users": 0}, BadValue, "users=0"),
    ({"rate": 1, "think_s": 1}, BadValue, "think_s without users"),
    ({"users": 1, "think_s": -1}, BadValue, "think_s=-1"),
    ({"rate": 1, "arrivals": "poison"}, UnknownName, "poisson"),
    ({"rate": 1, "percentile": 100}, BadValue, "percentile"),
    ({"rate": 1, "target_s": 0}, BadValue, "target_s=0"),
    ({"rate": 1, "retries": -1}, BadValue, "retries=-1"),
    ({"rate": 0.01, "duration_s": 0.1}, BadValue, "no request arrives"),
    ({"rate": 1, "headers": {"A": "b\r\nC: d"}}, BadValue, "one line"),
]


@pytest.mark.parametrize(("given", "error", "match"), WRONG)
def test_wrong_arguments_are_refused(url, given, error, match):
    with pytest.raises(error, match=match):
        traffic(f"{url}/quick", b"", **given)


@pytest.mark.parametrize("wrong", ["127.0.0.1:80", "https://a", "ftp://a", "", None, "http://a:x"])
def test_what_is_no_address_is_refused(wrong):
    with pytest.raises(BadValue, match="needs http://"):
        address(wrong)


def test_inputs_that_do_not_fit_are_refused(url):
    for inputs, match in (
        ([], "0 rows"),
        (np.zeros((1, 3)), "at least batch_size=2"),
        (np.array([["a"]]), "numbers"),
    ):
        with pytest.raises(BadValue, match=match):
            traffic(url, inputs, rate=1, batch_size=2)


def test_the_process_that_sends_ends_with_its_parent():
    with SenderProcess() as sender:
        process = sender._process
        assert sender.ask("null", [b"x"])[0]["port"]
        with pytest.raises(CallFailed, match="TypeError"):
            sender.ask("run", [b""], port=1, plan={"no": 1})
    assert process.returncode is not None
    code = "from kit.loadgen.sender_process import *; import os; s = SenderProcess(); "
    code += "s.ask('null', [b'x']); print(s._process.pid, flush=True); os.kill(os.getpid(), 9)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    until = time.monotonic() + 10
    while alive(int(told)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(int(told))


def test_the_process_that_sends_stays_for_the_next_run_but_not_after_an_error():
    with sender_process() as first, sender_process() as second:
        assert first is not second
        port = first.ask("null", [b"HTTP/1.1 204 No\r\n\r\n"])[0]["port"]
        assert second.ask("probe", [b"GET / HTTP/1.1\r\n\r\n"], port=port)[0]["status"] == 204
        first.ask("null", [], port=port)  # the null server ends, not the process
        assert second.ask("probe", [b"GET / HTTP/1.1\r\n\r\n"], port=port)[0]["status"] < 0
    with pytest.raises(KeyboardInterrupt), sender_process() as again:
        assert again is first  # the last one that was given back
        raise KeyboardInterrupt
    assert not first.alive and second.alive
    second._process.kill()
    second._process.wait()
    with sender_process() as new:  # what has ended meanwhile is not given out
        assert new is not second and new.alive


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_process_that_sends_needs_the_standard_library_only():
    code = "import kit.loadgen.sender_process, sys; print({'numpy', 'torch'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


# --- Alone: measured times -----------------------------------------------------------------------


@pytest.mark.alone
def test_a_real_queue_waits_as_theory_says(url):
    """M/D/1 at half load: the mean latency is 1.5 answers. Timers and a busy machine add to it."""
    run = traffic(f"{url}/queue", b"", rate=0.5 / SERVICE_S, duration_s=3.0)
    assert 1.2 < np.mean(run.latencies_s) / SERVICE_S < 2.5
    assert run.failed == 0


def test_a_capacity_that_was_measured_too_low_does_not_end_the_search(url):
    """The server answers at once; the search is given a small part of its capacity."""
    asked = {"target_s": 0.05, "percentile": 50, "budget_s": 0.2, "inputs": b"", "capacity": 100.0}
    found = loadgen.highest_rate(f"{url}/quick", **asked, sure=False, close=2.0, longest_s=0.3)
    assert found.rate > 200


@pytest.mark.alone
def test_the_highest_rate_of_a_server_is_below_its_capacity(url):
    found = loadgen.highest_rate(
        f"{url}/queue",
        target_s=0.015,
        percentile=50,
        budget_s=0.3,
        inputs=b"",
        capacity=200.0,
        longest_s=1.0,
    )
    assert found.rate and 0.2 < found.rate * SERVICE_S < 1.1
    assert found.too_high > found.rate
    with pytest.raises(BadValue, match="capacity: only for a server over HTTP"):
        loadgen.highest_rate(lambda n: None, target_s=1, capacity=1.0)


@pytest.mark.alone
def test_the_capacity_agrees_with_wrk(url):
    if not (wrk := shutil.which("wrk")):
        pytest.skip("wrk is not installed: apt-get install wrk")
    ours, theirs = [], []
    for _ in range(3):  # in turns, and the best of each: a busy machine must not decide
        ours.append(traffic(f"{url}/slow", b"", users=8, duration_s=1.0).throughput)
        command = [wrk, "-t1", "-c8", "-d1s", f"{url}/slow"]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        theirs.append(float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)[1]))
    assert 0.7 < max(ours) / max(theirs) < 1.4
