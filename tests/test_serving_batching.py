"""The queue, the batcher and the door: which requests are computed together, and which not at all.

The door and the queue have a clock made of numbers. The batcher has a real thread and a model that
waits until the test lets it go on, so that each batch is exactly what the test put together.
"""

import asyncio
import contextlib
import math
import threading

import numpy as np
import pytest
import torch

from kit.core.errors import BadValue, UnknownName
from kit.serving.admission import TICKET, Admission
from kit.serving.batch_queue import RequestQueue, UsualTime, Waiting
from kit.serving.batching import DynamicBatcher, Unobserved
from kit.serving.refusals import RequestRefused


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Seen(Unobserved):
    """Remembers what it is told."""

    def __init__(self):
        self.waits_s, self.batches, self.shed = [], [], []

    def on_queue(self, wait_s):
        self.waits_s.append(wait_s)

    def on_batch(self, rows, predict_s):
        self.batches.append(rows)

    def on_shed(self, reason):
        self.shed.append(reason)


class Gate:
    """A model that doubles its input, one batch each time that the test opens the gate."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)
        self.sizes = []

    def __call__(self, inputs):
        self.entered.release()
        assert self.opened.acquire(timeout=10)
        self.sizes.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}

    def open(self, times=1000):
        self.opened.release(times)

    async def busy(self):
        """Until a batch is being computed."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


def row(value, width=3, dtype=np.float32, rows=1):
    return {"x": np.full((rows, width), value, dtype)}


@contextlib.asynccontextmanager
async def batcher(predict, **settings):
    made = DynamicBatcher(predict, **settings)
    try:
        yield made
    finally:
        made.close()
        if isinstance(predict, Gate):
            predict.open()
        await asyncio.to_thread(made._thread.join, 10)
        assert not made._thread.is_alive()


async def ask(batcher, inputs, deadline_s=None):
    with batcher.admission.admit(deadline_s) as ticket:
        over = asyncio.get_running_loop().create_future()
        request = batcher.add(
            inputs, len(inputs["x"]), ticket, lambda done: over.done() or over.set_result(done)
        )
        try:
            result = (await over).result
        except asyncio.CancelledError:
            batcher.give_up(request)
            raise
        if isinstance(result, Exception):
            raise result
        return result


def start(batcher, *requests):
    return [asyncio.ensure_future(ask(batcher, inputs)) for inputs in requests]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


# --- The door ------------------------------------------------------------------------------------


def work(admission, clock, requests, each_s):
    """Requests that come one after the other, and each take a known time."""
    for _ in range(requests):
        with admission.admit() as ticket:
            ticket.start()
            clock.now_s += each_s


def fill(admission):
    """As many tickets as there are places."""
    tickets = []
    with pytest.raises(RequestRefused) as refused:
        while len(tickets) < 100_000:
            tickets.append(admission.admit())
    return tickets, refused.value


def test_the_limit_is_littles_law():
    admission = Admission(deadline_s=2.0, max_batch=1, clock=(clock := Clock()))
    work(admission, clock, 200, 0.01)
    assert admission.rate == pytest.approx(100, rel=0.02)
    tickets, refused = fill(admission)
    assert len(tickets) == pytest.approx(0.8 * 2.0 * 100, rel=0.03)
    assert (refused.status, refused.reason) == (503, "full")
    assert refused.retry_after_s == pytest.approx(1.6, rel=0.05)  # the backlog over the rate
    assert refused.headers["retry-after"] == "2"


def test_the_rate_follows_the_server_and_forgets():
    admission = Admission(max_batch=1, clock=(clock := Clock()))
    work(admission, clock, 100, 0.01)
    work(admission, clock, 50, 0.1)  # five seconds: the fast times count a 32nd
    assert admission.rate == pytest.approx(10, rel=0.2)


def test_a_time_without_work_says_nothing_about_the_rate():
    admission = Admission(max_batch=1, clock=(clock := Clock()))
    for _ in range(50):
        work(admission, clock, 1, 0.01)
        clock.now_s += 60
    assert admission.rate == pytest.approx(100, rel=0.02)


def test_requests_that_leave_together_count_all():
    """A batch of ten in 10 ms: a thousand per second, although each takes 10 ms."""
    admission = Admission(max_batch=1, clock=(clock := Clock()))
    for _ in range(50):
        tickets = [admission.admit() for _ in range(2)]
        for ticket in tickets:
            ticket.start()
        clock.now_s += 0.01
        for ticket in tickets:
            ticket.release()
    assert admission.rate == pytest.approx(200, rel=0.02)


def test_refused_and_cancelled_requests_are_not_taken_for_speed():
    admission = Admission(max_batch=1, clock=(clock := Clock()))
    work(admission, clock, 100, 0.01)
    for _ in range(1000):
        with contextlib.suppress(RequestRefused), admission.admit():
            raise RequestRefused(400, "not JSON")
    assert admission.rate == pytest.approx(100, rel=0.02)


def test_a_slow_client_is_no_sign_of_a_slow_server():
    admission = Admission(max_batch=1, clock=(clock := Clock()))
    work(admission, clock, 100, 0.01)
    with contextlib.suppress(RequestRefused), admission.admit():
        clock.now_s += 3600
        raise RequestRefused(408, "too slow")
    assert admission.rate > 20


def test_two_batches_may_always_be_inside():
    tickets, _ = fill(Admission(deadline_s=0.001, max_batch=8, clock=Clock()))
    assert len(tickets) == 16


def test_a_bound_that_was_given_stays():
    admission = Admission(max_waiting=3, clock=(clock := Clock()))
    work(admission, clock, 100, 0.0001)
    assert len(fill(admission)[0]) == 3


def test_a_place_is_given_back_once():
    admission = Admission(max_waiting=2, clock=Clock())
    first, second = fill(admission)[0]
    first.start()
    assert (admission.waiting, admission.running) == (1, 1)
    first.release()
    first.release()
    second.start()
    second.release()
    second.start()
    assert (admission.waiting, admission.running) == (0, 0)


def test_a_request_counted_by_the_protocol_is_not_counted_again():
    admission = Admission(max_waiting=1, clock=Clock())
    scope = {TICKET: admission.admit()}
    with admission.admit(scope=scope) as ticket:
        assert admission.inside == 1
        assert ticket.expires_s == 101.0
    assert admission.inside == 0


def test_a_deadline_can_only_be_shortened():
    admission = Admission(deadline_s=1.0, clock=Clock())
    with admission.admit(0.25) as ticket:
        assert ticket.expires_s == 100.25
        ticket.shorten(5.0)
        assert ticket.expires_s == 100.25


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, "1"])
def test_a_deadline_that_is_none_is_refused_and_takes_no_place(wrong):
    admission = Admission(clock=Clock())
    with pytest.raises(RequestRefused, match="finite number of seconds") as refused:
        admission.admit(wrong)
    assert refused.value.status == 400
    assert admission.inside == 0


def test_protections_can_be_switched_off():
    admission = Admission(max_waiting=1, protect=(), clock=Clock())
    tickets = [admission.admit(0.1) for _ in range(100)]
    assert admission.limit == math.inf
    assert {ticket.expires_s for ticket in tickets} == {math.inf}


def test_wrong_settings_say_what_is_needed():
    with pytest.raises(UnknownName, match="deadlines"):
        Admission(protect=("deadline",))
    with pytest.raises(BadValue, match=r"\('deadlines',\)"):
        Admission(protect="deadlines")
    with pytest.raises(BadValue, match="auto"):
        Admission(max_waiting="many")
    with pytest.raises(BadValue, match="deadline_s=0"):
        Admission(deadline_s=0)


def test_a_server_that_stops_refuses_and_waits_for_those_inside():
    shed = []
    admission = Admission(on_shed=shed.append)

    async def stop():
        ticket = admission.admit()
        admission.drain()
        with pytest.raises(RequestRefused, match="stops") as refused:
            admission.admit()
        assert refused.value.headers["connection"] == "close"
        assert not await admission.empty(0.01)
        asyncio.get_running_loop().call_later(0.01, ticket.release)
        assert await admission.empty(10)

    run(stop())
    assert shed == ["draining"]


# --- The queue -----------------------------------------------------------------------------------


def queue_of(*requests, max_batch=4, max_wait_s=0.01):
    """A queue with requests of (width, rows), which came a millisecond after each other."""
    clock = Clock()
    admission = Admission(deadline_s=1.0, max_batch=100, clock=clock)
    queue, made = RequestQueue(max_batch, max_wait_s), []
    for width, rows in requests:
        ticket = admission.admit()
        inputs = row(len(made), width, rows=rows)
        made.append(Waiting(inputs, rows, ticket, clock.now_s, done=None))
        queue.add(made[-1])
        clock.now_s += 0.001
    return queue, made


def taken(queue, now=100.1, usual_s=0.0):
    batch, late = queue.take(now, usual_s)
    return [[int(request.inputs["x"][0, 0]) for request in each] for each in (batch, late)]


def test_the_oldest_are_taken_first_up_to_the_largest_batch():
    queue, _ = queue_of(*[(3, 1)] * 6)
    assert taken(queue) == [[0, 1, 2, 3], []]
    assert taken(queue) == [[4, 5], []]
    assert len(queue) == 0


def test_rows_are_counted_not_requests_and_order_is_kept():
    queue, _ = queue_of((3, 2), (3, 1), (3, 3), (3, 1))
    assert taken(queue) == [[0, 1], []]  # the third does not fit; the fourth does not overtake it
    assert taken(queue) == [[2, 3], []]


def test_different_shapes_are_never_mixed_and_the_oldest_kind_goes_first():
    queue, _ = queue_of((3, 1), (5, 1), (3, 1), (5, 1))
    assert taken(queue) == [[0, 2], []]
    assert taken(queue) == [[1, 3], []]


def test_how_long_a_free_model_waits():
    queue, _ = queue_of((3, 1), (3, 1))  # since 100.000 s, and since 100.001 s
    assert queue.patience_s(100.002) == pytest.approx(0.008)
    assert queue.patience_s(100.020) == 0
    full, _ = queue_of(*[(3, 1)] * 6)
    assert full.patience_s(100.004) == 0
    full.take(100.004)
    assert full.patience_s(100.006) == pytest.approx(0.008)  # two rows are left, since 100.004 s


def test_requests_that_cannot_be_answered_in_time_are_dropped():
    queue, made = queue_of((3, 1), (3, 1), (3, 1))  # until 101.000, 101.001 and 101.002 s
    assert taken(queue, now=101.0005) == [[1, 2], [0]]
    queue, made = queue_of((3, 1), (3, 1), (3, 1))
    assert taken(queue, now=100.9, usual_s=0.1005) == [[1, 2], [0]]
    assert len(made) == 3


def test_a_slow_batch_does_not_turn_everybody_away():
    """A usual time above the deadline would drop all requests, and never be measured again."""
    queue, _ = queue_of((3, 1))
    assert taken(queue, now=100.4, usual_s=30.0) == [[0], []]


def test_a_request_whose_client_has_gone_leaves_the_queue():
    queue, made = queue_of((3, 1), (3, 1), (5, 1))
    assert queue.remove(made[0])
    assert not queue.remove(made[0])
    assert queue.remove(made[2])
    assert taken(queue) == [[1], []]


def test_the_usual_time_follows_and_knows_its_spread():
    usual = UsualTime()
    assert usual.bound_s == 0
    for seconds in [0.1, 0.12] * 50:
        usual.add(seconds)
    assert usual.mean_s == pytest.approx(0.11, rel=0.03)
    assert 0.12 < usual.bound_s < 0.15


# --- The batcher ---------------------------------------------------------------------------------


def test_requests_that_wait_together_are_computed_together_and_get_their_own_rows():
    async def answers():
        async with batcher(gate := Gate(), max_batch=8, observe=(seen := Seen())) as made:
            first = start(made, row(0))
            await gate.busy()  # it computes alone: an idle model waits for nobody
            others = start(made, row(1), row(2, rows=2), row(3))
            await asyncio.sleep(0.02)
            assert (made.admission.waiting, made.admission.running) == (3, 1)
            gate.open()
            got = await asyncio.gather(*first, *others)
            assert gate.sizes == seen.batches == [1, 4]
            assert [answer.batch_rows for answer in got] == [1, 4, 4, 4]
            assert [answer.outputs["y"].tolist() for answer in got] == [
                [[0.0] * 3],
                [[2.0] * 3],
                [[4.0] * 3] * 2,
                [[6.0] * 3],
            ]
            assert len(seen.waits_s) == 4
            assert got[1].wait_s > 0.01
            assert made.admission.inside == 0
            assert made.admission.rate < 4 / 0.02

    run(answers())


def test_kinds_are_computed_apart():
    async def answers():
        async with batcher(gate := Gate(), max_batch=8) as made:
            first = start(made, row(0))
            await gate.busy()
            kinds = [row(1), row(1, width=4), row(1, dtype=np.float64), row(2)]
            others = start(made, *kinds)
            await asyncio.sleep(0.02)
            gate.open()
            got = await asyncio.gather(*first, *others)
            assert gate.sizes == [1, 2, 1, 1]
            for answer, inputs in zip(got[1:], kinds, strict=True):
                assert answer.outputs["y"].dtype == inputs["x"].dtype
                assert (answer.outputs["y"] == 2 * inputs["x"]).all()

    run(answers())


def test_a_free_model_waits_for_company_but_not_longer_than_allowed():
    async def answers():
        async with batcher(gate := Gate(), max_batch=3, max_wait_s=0.3) as made:
            first = start(made, row(0))
            await gate.busy()
            early = start(made, row(1))
            await asyncio.sleep(0.02)
            gate.open()
            await first[0]
            late = start(made, row(2))
            got = await asyncio.gather(*early, *late)
            assert gate.sizes == [1, 2]
            assert got[0].wait_s > 0.1  # it waited for a third, in vain

    run(answers())


def test_a_model_that_has_nothing_to_do_waits_for_nobody():
    async def answers():
        async with batcher(lambda inputs: {"y": inputs["x"]}, max_wait_s=20.0) as made:
            for _ in range(3):
                await asyncio.wait_for(ask(made, row(1)), 5)
                await asyncio.sleep(0.02)

    run(answers())


def test_a_model_that_has_nothing_to_do_waits_if_it_was_asked_to():
    async def answers():
        settings = dict(max_batch=2, max_wait_s=20.0, wait_if_idle=True)
        async with batcher(lambda inputs: {"y": inputs["x"]}, **settings) as made:
            (first,) = start(made, row(1))
            await asyncio.sleep(0.05)
            assert not first.done()
            await asyncio.wait_for(ask(made, row(2)), 5)  # the batch is full now
            await asyncio.wait_for(first, 5)

    run(answers())


def test_a_full_batch_does_not_wait():
    async def answers():
        async with batcher(gate := Gate(), max_batch=2, max_wait_s=20.0) as made:
            first = start(made, row(0))
            await gate.busy()
            early = start(made, row(1))
            await asyncio.sleep(0.02)
            gate.open()
            await first[0]
            await asyncio.wait_for(asyncio.gather(*early, *start(made, row(2))), 5)
            assert gate.sizes == [1, 2]

    run(answers())


def test_a_bad_request_fails_alone():
    def picky(inputs):
        if (inputs["x"] < 0).any():
            raise ZeroDivisionError("secret")
        if (inputs["x"] > 90).any():
            raise BadValue("token 99: needs a number from 0 to 90.")
        return gate(inputs)

    gate = Gate()

    async def answers():
        async with batcher(picky, max_batch=16) as made:
            first = start(made, row(0))
            await gate.busy()
            others = start(made, *map(row, [1, 2, -1, 3, 4, 99, 5, 6]))
            await asyncio.sleep(0.02)
            gate.open()
            await first[0]
            got = await asyncio.gather(*others, return_exceptions=True)
            failed, wrong = got.pop(2), got.pop(4)
            assert (failed.status, wrong.status) == (500, 400)
            assert "secret" not in failed.message
            assert isinstance(failed.__cause__, ZeroDivisionError)  # for the log
            assert "from 0 to 90" in wrong.message
            assert [answer.outputs["y"][0, 0] for answer in got] == [2, 4, 6, 8, 10, 12]
            assert (await ask(made, row(7))).outputs["y"][0, 0] == 14  # the thread lives

    run(answers())


@pytest.mark.parametrize("outputs", [{"y": np.zeros(1)}, {"y": np.float32(1)}, None, {"y": None}])
def test_a_model_that_does_not_answer_each_row_is_an_error_not_an_end(outputs):
    async def answers():
        async with batcher(lambda inputs: outputs) as made:
            for _ in range(2):
                with pytest.raises(RequestRefused) as refused:
                    await ask(made, row(1, rows=2))
                assert refused.value.status == 500

    run(answers())


def test_what_cannot_be_answered_in_time_is_dropped_uncomputed():
    async def answers():
        async with batcher(gate := Gate(), observe=(seen := Seen())) as made:
            first = start(made, row(0))
            await gate.busy()
            late = asyncio.ensure_future(ask(made, row(1), deadline_s=0.01))
            await asyncio.sleep(0.05)
            gate.open()
            await first[0]
            with pytest.raises(RequestRefused, match="dropped") as refused:
                await late
            assert (refused.value.status, refused.value.reason) == (504, "deadline")
            assert gate.sizes == [1]
            assert seen.shed == ["deadline"]
            assert made.admission.inside == 0

    run(answers())


def test_nothing_is_computed_for_clients_that_have_gone():
    async def answers():
        async with batcher(gate := Gate(), observe=(seen := Seen())) as made:
            first = start(made, row(0))
            await gate.busy()
            gone, stays = start(made, row(1), row(2))
            await asyncio.sleep(0.02)
            gone.cancel()
            first[0].cancel()  # it runs already: its answer finds nobody
            await asyncio.sleep(0)
            gate.open()
            assert (await stays).outputs["y"][0, 0] == 4
            assert gate.sizes == [1, 1]
            assert seen.shed == ["gone"]
            assert made.admission.inside == 0

    run(answers())


def test_a_request_with_too_many_rows_is_refused():
    async def answers():
        async with batcher(lambda inputs: inputs, max_batch=4) as made:
            with pytest.raises(
                RequestRefused, match="5 rows in a request: needs 1 to 4"
            ) as refused:
                await ask(made, row(0, rows=5))
            assert refused.value.status == 400

    run(answers())


def test_draining_finishes_what_is_inside_and_ends_the_thread():
    async def answers():
        async with batcher(gate := Gate()) as made:
            inside = start(made, row(0), row(1))
            await gate.busy()
            draining = asyncio.ensure_future(made.drain(10))
            await asyncio.sleep(0)
            with pytest.raises(RequestRefused) as refused:
                await ask(made, row(2))
            assert refused.value.reason == "draining"
            gate.open()
            assert await draining
            assert [answer.outputs["y"][0, 0] for answer in await asyncio.gather(*inside)] == [0, 2]

    run(answers())


def test_a_batcher_that_was_closed_refuses_those_who_wait():
    async def answers():
        async with batcher(gate := Gate()) as made:
            first, second = start(made, row(0), row(1))
            await gate.busy()
            await asyncio.sleep(0.02)
            made.close()
            gate.open()
            left = await asyncio.gather(first, second, return_exceptions=True)
            assert sum(isinstance(each, RequestRefused) for each in left) <= 1
            with pytest.raises(RequestRefused, match="stops"):
                await ask(made, row(2))

    run(answers())


def test_the_models_thread_uses_as_many_threads_as_was_said():
    async def answers():
        told = lambda inputs: {"y": np.array([torch.get_num_threads()])}  # noqa: E731
        for threads in (2, 1):
            async with batcher(told, threads=threads) as made:
                assert (await ask(made, row(0))).outputs["y"] == [threads]

    run(answers())


def test_answers_equal_those_that_the_model_gives_alone():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def predict(inputs):
        with torch.no_grad():
            return {"y": model(torch.from_numpy(inputs["x"])).numpy()}

    async def answers():
        generator = np.random.default_rng(0)
        requests = [
            {"x": generator.normal(size=(generator.integers(1, 4), 3)).astype(np.float32)}
            for _ in range(300)
        ]
        async with batcher(predict, max_batch=16, admission=Admission(max_waiting=300)) as made:
            got = await asyncio.gather(*start(made, *requests))
            assert max(answer.batch_rows for answer in got) > 4
        for answer, inputs in zip(got, requests, strict=True):
            np.testing.assert_allclose(
                answer.outputs["y"], predict(inputs)["y"], rtol=1e-4, atol=1e-6
            )

    run(answers())
