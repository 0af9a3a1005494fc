"""Comparison: verdicts from times made up for them, and turns taken in earnest."""

import gc
import json
import math
import time
from collections import Counter
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
import torch
from conftest import taken

from kit.core.errors import BadValue, CallFailed, NotComparable, UnknownName
from kit.devices import threaded
from kit.measurement import Comparison, Stopwatch, agree, compare, ratios
from kit.measurement.comparison import _orders

# --- The same? -----------------------------------------------------------------------------------


def test_equal_results_agree():
    a = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    same = agree(a, a.clone())
    assert same and same.largest_difference == 0 and same.equal_argmax == 1


def test_the_largest_difference_decides():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0, 0.5], [3.0, 0.0]])
    assert agree(a, b, atol=1.5)
    assert not agree(a, b, atol=1.4)
    assert agree(a, b).largest_difference == 1.5
    assert agree(a, b).equal_argmax == 0.5


def test_what_is_not_a_number_never_agrees():
    nan = torch.tensor([[math.nan, 1.0]])
    assert not agree(nan, nan) and agree(nan, nan).largest_difference == math.inf


def test_equal_infinities_agree():
    """As in masked logits."""
    masked = torch.tensor([[-math.inf, 1.0]])
    assert agree(masked, masked.clone())
    assert not agree(masked, -masked)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_nothing_agrees_with_nothing(shape):
    assert agree(torch.zeros(shape), torch.zeros(shape))


def test_precisions_may_differ():
    a = torch.tensor([[1.0, 2.0]])
    assert agree(a, a.to(torch.bfloat16)).largest_difference == 0


def test_complex_numbers_agree_in_both_parts():
    assert agree(torch.tensor([1 + 2j]), torch.tensor([1 + 2j]))
    assert agree(torch.tensor([1 + 2j]), torch.tensor([1 + 5j])).largest_difference == 3


def test_zeros_that_are_not_stored_are_zeros():
    assert agree(torch.eye(3).to_sparse(), torch.eye(3))


def test_shapes_that_differ_are_named():
    with pytest.raises(NotComparable, match=r"\(2, 3\) and \(3, 2\)"):
        agree(torch.zeros(2, 3), torch.zeros(3, 2))


# --- Verdicts ------------------------------------------------------------------------------------

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98] * 5


def measured(times, again=1.0):
    """Two turns in each round; the second takes `again` times as long."""
    return taken([turn for t in times for turn in (t, again * t)])


def made(other, again=1.0, **options) -> Comparison:
    """A comparison of something with steady calls of a second."""
    return Comparison({"base": measured(STEADY, again), "other": measured(other)}, **options)


def scaled(factor: float) -> list[float]:
    return [factor * t for t in STEADY]


WILD = [0.5, 1.0, 2.0] * 10
VERDICTS = {
    "slower": made(scaled(1.5)),
    "faster": made(scaled(0.5)),
    "same within 5.00 %": made([t * f for t, f in zip(STEADY, [0.99, 1.01] * 15, strict=True)]),
    "cannot tell": made([t * w for t, w in zip(STEADY, WILD, strict=True)]),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_follows_from_its_times(verdict):
    assert VERDICTS[verdict].verdict() == verdict
    assert verdict in str(VERDICTS[verdict].table())
    assert VERDICTS[verdict].to_dict()["verdict"] == {"other": verdict}


def test_the_ratio_is_taken_within_rounds():
    """A machine that becomes ten times slower half-way moves both calls alike."""
    drift = [1.0] * 15 + [10.0] * 15
    base, other = ([f * d for d in drift] for f in (1.0, 0.8))
    compared = Comparison({"base": measured(base), "other": measured(other)})
    assert compared.ratio().value == pytest.approx(0.8)
    assert compared.verdict() == "faster"


@pytest.mark.parametrize("noisy", ["base", "other"])
def test_a_noisy_machine_does_not_call_a_small_difference(noisy):
    """One of the calls came out 30 % apart from itself: a ratio near that says nothing."""
    calls = {
        name: measured(scaled(t), 1.3 if name == noisy else 1.0)
        for name, t in {"base": 1.0, "other": 1.1}.items()
    }
    compared = Comparison(calls)
    assert compared.noise_floor == pytest.approx(0.3)
    assert compared.verdict() == "same within 30.0 %"
    assert made(scaled(1.2)).verdict() == "slower"
    assert made(scaled(1.6), again=1.3).verdict() == "slower"


@pytest.mark.parametrize("n", range(1, 6))
def test_fewer_than_six_rounds_tell_nothing(n):
    few = Comparison({"base": measured(STEADY[:n]), "other": measured(scaled(3)[:n])})
    assert (few.ratio().low, few.ratio().high) == (0, math.inf)
    assert few.verdict() == "cannot tell"
    assert repr(few) == "other: 3.00 × [interval unknown] of base, cannot tell"
    assert "unknown" in few._repr_html_() and "inf" not in str(few.table())
    assert "A verdict needs 6 rounds: raise budget_s." in few.table().caption
    ratio = json.loads(json.dumps(few.to_dict(), allow_nan=False))["ratio"]["other"]
    assert (ratio["low"], ratio["high"]) == (0, None)
    six = Comparison({"base": measured(STEADY[:6]), "other": measured(scaled(3)[:6])})
    assert six.verdict() == "slower" and "needs" not in six.table().caption


def test_five_calls_need_eight_rounds_and_their_intervals_hold_together():
    names = ["base", *"abcd"]
    for n, verdict in [(7, "cannot tell"), (8, "slower")]:
        calls = {name: measured(scaled(1 + (name != "base"))[:n]) for name in names}
        five = Comparison(calls)
        assert {five.verdict(name) for name in "abcd"} == {verdict}
        assert five.needed == 8 and five.confidence == pytest.approx(0.9875)
        assert "95 % interval for all ratios together" in five.table().caption


def called_different(n_calls, rounds, trials=150):
    """How often at least one of several equal calls is called different; seeded."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(trials):
        slow = draw.lognormal(0, 0.1, (rounds, 1))  # moments that touch all calls alike
        times = slow * draw.lognormal(0, 0.03, (n_calls, rounds, 2))
        calls = {str(i): taken(each.ravel()) for i, each in enumerate(times)}
        compared = Comparison(calls)
        hits += any(compared.verdict(n) in ("faster", "slower") for n in list(calls)[1:])
    return hits / trials


@pytest.mark.parametrize("n_calls", [2, 5])
@pytest.mark.parametrize("rounds", [1, 2, 3, 6, 10, 50])
def test_equal_calls_are_rarely_called_different(n_calls, rounds):
    """The level is 5 % for all calls together; before, five calls had 84 % at one round."""
    assert called_different(n_calls, rounds) <= 0.05


def test_the_ratio_of_calls_with_two_typical_times_is_noted():
    """In two rounds of three both take 1 s or both 2 s; in the third only one of them is slow."""
    a, b = [1.0, 2.0, 2.0] * 40, [1.0, 2.0, 1.0] * 40
    both = Comparison({"a": measured(a), "b": measured(b)})
    assert both.ratio().value == 1 and both.ratio_of_medians("b") == 0.5
    assert "b: its median time ÷ that of 'a' is 0.500 ×" in both.table().caption
    assert "its median time" not in made(scaled(1.5)).table().caption


def test_just_beyond_the_margin_nobody_can_tell():
    assert (
        made([t * f for t, f in zip(STEADY, [1.0, 1.12] * 15, strict=True)]).verdict()
        == "cannot tell"
    )


# --- Equal work ----------------------------------------------------------------------------------

ONES = torch.ones(2, 3)
UNEQUAL = {  # condition -> another answer than ONES, and what is said of both
    "shape": (torch.ones(3, 2), r"shape \(2, 3\) and \(3, 2\)"),
    "dtype": (ONES.double(), "dtype float32 and float64"),
    "device": (ONES.to("meta"), "device cpu and meta"),
    "mode": (ONES.clone().requires_grad_(), "mode without gradients and with gradients recorded"),
    "answer": (ONES + 0.5, r"answers that differ by up to 0.5, allowed 0.00035"),
}
each_condition = pytest.mark.parametrize("condition", UNEQUAL)


def calls_returning(clock, *answers):
    """Calls of 0.1 s, named a, b, c, that return these; and how often each was called."""
    often = Counter()

    def call(name, answer):
        def work():
            often[name] += 1
            clock.advance(0.1)
            return answer

        return work

    return {name: call(name, answer) for name, answer in zip("abc", answers, strict=False)}, often


@each_condition
def test_unequal_work_is_refused_before_anything_is_timed(clock, stopwatch, condition):
    other, told = UNEQUAL[condition]
    calls, often = calls_returning(clock, ONES, other)
    with pytest.raises(NotComparable, match=rf"'a' and 'b' .*{told}.*varied='{condition}'"):
        compare(calls, stopwatch=stopwatch)
    assert often == {"a": 1, "b": 1}
    assert gc.isenabled()


@each_condition
@pytest.mark.parametrize("as_given", [str, lambda name: (name,), lambda name: ["mode", name]])
def test_what_is_varied_on_purpose_may_differ(clock, stopwatch, condition, as_given):
    calls, _ = calls_returning(clock, ONES, UNEQUAL[condition][0])
    compared = compare(calls, varied=as_given(condition), stopwatch=stopwatch)
    assert condition in compared.varied
    assert f"{condition}." in compared.table().caption.partition("Different on purpose:")[2]


@each_condition
def test_varying_one_thing_does_not_let_another_through(clock, stopwatch, condition):
    calls, _ = calls_returning(clock, ONES, UNEQUAL[condition][0])
    others = [name for name in UNEQUAL if name != condition]
    with pytest.raises(NotComparable, match=f"varied='{condition}'"):
        compare(calls, varied=others, stopwatch=stopwatch)


@pytest.mark.parametrize("other", [*(each for each, _ in UNEQUAL.values()), None, "words"])
def test_another_task_altogether_may_differ_in_everything(clock, stopwatch, other):
    calls, _ = calls_returning(clock, ONES, other)
    compared = compare(calls, varied="work", stopwatch=stopwatch)
    assert compared.agreement is None
    assert "Different on purpose: work." in compared.table().caption


@pytest.mark.parametrize("varied", ["dtyp", ["shape", "dtyp"], "shape dtype"])
def test_an_unknown_condition_lists_those_there_are(varied):
    with pytest.raises(
        UnknownName,
        match=r"no condition to vary .* answer, shape, dtype, device, mode, threads, work",
    ):
        compare({"a": print, "b": print}, varied=varied)


def test_a_third_call_is_held_against_the_first(clock, stopwatch):
    calls, often = calls_returning(clock, ONES, ONES.clone(), torch.zeros(2, 3))
    with pytest.raises(NotComparable, match="'a' and 'c' give answers"):
        compare(calls, stopwatch=stopwatch)
    assert often == {"a": 1, "b": 1, "c": 1}


NESTED = {"logits": ONES, "more": [np.arange(3.0), (2, 0.5, True)]}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (NESTED, {"logits": ONES.clone(), "more": [np.arange(3.0), (2, 0.5, True)]}),
        (3.0, np.float64(3.0)),  # Python's floats have 64 bits
        (3, np.int64(3)),
        (ONES.numpy()[::-1], ONES.numpy()),
        (np.arange(3, dtype=">f4"), np.arange(3, dtype="<f4")),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2.0001j])),
        (ONES, ONES + 1e-4),  # half the digits of float32: 0.00035
        (ONES.double(), ONES.double() + 1e-8),
        (torch.tensor([math.inf, 1.0]), torch.tensor([math.inf, 1.0])),
        (torch.zeros(0), torch.zeros(0)),
    ],
)
def test_equal_answers_of_any_kind_may_be_compared(clock, stopwatch, a, b):
    compared = compare(calls_returning(clock, a, b)[0], stopwatch=stopwatch)
    assert compared.agreement
    assert "Their answers agree within" in compared.table().caption
    assert compared.to_dict()["agreement"]["agree"] is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (NESTED, {"logits": ONES, "more": [np.arange(3.0), (2, 0.7, True)]}),
        (3, 4),
        (True, False),
        (1.0, 1.0 + 1e-7),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 3j])),
        (torch.arange(3), torch.arange(3) + 1),
        (ONES, ONES * math.nan),
        (ONES * math.nan, ONES * math.nan),  # whoever computes NaN has computed nothing
        (ONES.double(), ONES.double() + 1e-7),
    ],
)
def test_different_answers_of_any_kind_are_refused(clock, stopwatch, a, b):
    with pytest.raises(NotComparable, match="give answers that differ"):
        compare(calls_returning(clock, a, b)[0], stopwatch=stopwatch)


@pytest.mark.parametrize("answer", [None, "words", [], {"a": None}, 2**99, np.array(["words"])])
def test_answers_without_numbers_are_not_looked_at_and_the_caption_says_so(
    clock, stopwatch, answer
):
    compared = compare(calls_returning(clock, answer, None)[0], stopwatch=stopwatch)
    assert compared.agreement is None and compared.to_dict()["agreement"] is None
    assert "their answers were not compared" in compared.table().caption


def test_nothing_is_not_something(clock, stopwatch):
    with pytest.raises(NotComparable, match=r"shape \(2, 3\) and of nothing"):
        compare(calls_returning(clock, ONES, None)[0], stopwatch=stopwatch)


@pytest.mark.parametrize("room", [torch.empty(2, 3), np.empty((2, 3))])
def test_answers_in_the_same_memory_are_told_apart(room):
    """The second call overwrites what the first one returned."""

    def fill(value):
        def work():
            room[:] = value
            return room

        return work

    with pytest.raises(NotComparable, match="give answers that differ by up to 1"):
        compare({"a": fill(1.0), "b": fill(2.0)})
    assert compare({"a": fill(1.0), "b": fill(1.0)}, budget_s=0.01).agreement


def test_no_answer_is_kept_while_the_calls_are_timed():
    """Nor a copy: two models' outputs could fill the memory that the calls need."""
    shape, alive = (7, 11, 13), []

    def call():
        made = [each for each in gc.get_objects() if type(each) is torch.Tensor]
        alive.append(sum(each.shape == shape for each in made))
        return torch.ones(shape)

    compare({"a": call, "b": call}, budget_s=0.01)
    assert alive[:2] == [0, 1]  # the first answer waits for the second
    assert set(alive[2:]) == {0}


# --- Turns ---------------------------------------------------------------------------------------


def test_a_known_ratio_is_found(clock, stopwatch):
    calls = {"slow": clock.taking(0.2), "fast": clock.taking(0.1)}
    compared = compare(calls, stopwatch=stopwatch)
    assert compared.ratio().value == pytest.approx(0.5)
    assert compared.noise_floor == 0.005  # memory may do that much; nothing else did
    assert compared.verdict() == "faster"
    assert compared.baseline == "slow"


def test_a_call_is_the_same_as_itself(clock, stopwatch):
    compared = compare({"a": clock.taking(0.1), "b": clock.taking(0.1)}, stopwatch=stopwatch)
    assert compared.verdict() == "same within 5.00 %"


def test_a_machine_that_tires_does_not_favour_the_first(clock, stopwatch):
    """Each second of work makes the next slower; taking turns cancels it."""

    def call(seconds):
        return lambda: clock.advance(seconds * (1 + clock.now / 20))

    compared = compare({"a": call(0.1), "b": call(0.1)}, budget_s=20, stopwatch=stopwatch)
    first, last = compared.measurements["a"].times_s[0], compared.measurements["a"].times_s[-1]
    assert last > 1.2 * first
    assert compared.ratio().value == pytest.approx(1, abs=0.02)
    assert compared.verdict() not in ("faster", "slower")


def test_three_calls_are_compared_with_the_first(clock, stopwatch):
    calls = {name: clock.taking(s) for name, s in {"a": 0.1, "b": 0.2, "c": 0.05}.items()}
    compared = compare(calls, stopwatch=stopwatch)
    assert [compared.verdict(name) for name in "bc"] == ["slower", "faster"]
    assert repr(compared).count(";") == 1


def warm_calls(clock, seconds, gain=0.1):
    """Equal calls, each faster the more recently it ran: its data are still in the cache."""
    order: list[str] = []

    def call(name):
        def work():
            since = order[::-1].index(name) if name in order else 20
            order.append(name)
            clock.advance(seconds * (1 - gain / (1 + since)))

        return work

    return call


@pytest.mark.parametrize("seconds", [0.01, 0.5])  # each turn after a call untimed, or without one
@pytest.mark.parametrize("names", ["ab", "abcde"])
def test_caches_that_stay_warm_do_not_favour_the_first(clock, stopwatch, names, seconds):
    """The first used to run twice as often as the others, and so came out faster."""
    call = warm_calls(clock, seconds)
    budget_s = 400 * seconds
    compared = compare({n: call(n) for n in names}, budget_s=budget_s, stopwatch=stopwatch)
    assert len({m.n for m in compared.measurements.values()}) == 1
    for name in names[1:]:
        assert compared.ratio(name).low <= 1 <= compared.ratio(name).high
        assert compared.ratio(name).value == pytest.approx(1, abs=0.01)
        assert compared.verdict(name) not in ("faster", "slower")


def turns_of(clock, stopwatch, names: str) -> list[list[str]]:
    """Who had a turn in each round, in order; a turn is one call untimed and one timed."""
    events = []

    def call(name):
        def work():
            events.append(name)
            clock.advance(0.1)

        return work

    compared = compare({name: call(name) for name in names}, budget_s=4, stopwatch=stopwatch)
    width = 2 * len(names)  # each has two turns
    turns = events[-2 * width * compared.rounds :][::2]
    return [turns[i : i + width] for i in range(0, len(turns), width)]


def test_every_call_has_two_turns_in_each_round(clock, stopwatch):
    rounds = turns_of(clock, stopwatch, "abc")
    assert len(rounds) >= 10
    assert all(Counter(turns) == {"a": 2, "b": 2, "c": 2} for turns in rounds)


def test_nobody_is_earlier_more_often_than_later():
    """Being the first of a round costs time; what costs all alike falls out of the ratio."""
    earlier = Counter()
    for order in islice(_orders(4), 100):
        earlier.update((a, b) for i, a in enumerate(order) for b in order[i + 1 :])
    assert set(earlier.values()) == {50} and len(earlier) == 12


def test_a_first_turn_that_costs_more_does_not_favour_anybody(clock, stopwatch):
    """Whoever comes first in a round takes a tenth longer."""
    turn = count()

    def call():
        clock.advance(0.11 if next(turn) % 8 < 2 else 0.1)  # two calls a turn, four turns a round

    compared = compare({"a": call, "b": call}, budget_s=60, stopwatch=stopwatch)
    assert compared.ratio().low <= 1 <= compared.ratio().high
    assert compared.verdict() not in ("faster", "slower")


def test_the_order_is_drawn_anew_in_each_round(clock, stopwatch):
    assert len({tuple(order) for order in islice(_orders(3), 60)}) == 6  # all that there are
    assert len({tuple(turns) for turns in turns_of(clock, stopwatch, "ab")}) > 1


def test_short_calls_are_timed_in_blocks(clock, stopwatch):
    calls = {"a": clock.taking(1e-6), "b": clock.taking(2e-6)}
    compared = compare(calls, budget_s=0.01, stopwatch=stopwatch)
    assert compared.measurements["a"].block >= 50
    assert compared.ratio().value == pytest.approx(2)


def test_an_accelerator_is_waited_for(accelerator, stopwatch):
    """Both are noted equally fast; the work differs by two."""
    calls = {"a": lambda: accelerator.launch(0.02), "b": lambda: accelerator.launch(0.01)}
    assert compare(calls, stopwatch=stopwatch).ratio().value == pytest.approx(0.5, rel=0.01)


def test_a_block_between_events_is_not_charged_with_the_waiting(clock, accelerator):
    """Launches of 2 and 4 µs on a device that takes 50 µs to be waited for."""
    accelerator.note_s, accelerator.wait_s = 1e-6, 50e-6
    watch = Stopwatch("cpu", clock, accelerator.synchronise, accelerator.event)
    calls = {"a": lambda: accelerator.launch(4e-6), "b": lambda: accelerator.launch(2e-6)}
    compared = compare(calls, budget_s=0.1, stopwatch=watch)
    assert compared.ratio().value == pytest.approx(0.5, rel=0.01)
    assert compared.measurements["a"].median_s == pytest.approx(4e-6, rel=0.01)


def test_two_sleeps_of_ratio_two_are_told_apart():
    calls = {"one": lambda: time.sleep(0.005), "two": lambda: time.sleep(0.010)}
    compared = compare(calls, budget_s=1.0)
    assert compared.ratio().value > 1 and compared.verdict() != "faster"


# --- Budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("each_s", [0.001, 0.01, 0.02])
def test_warm_up_and_rounds_stay_within_the_budget(clock, stopwatch, each_s):
    calls = {"a": clock.taking(each_s), "b": clock.taking(2 * each_s)}
    compared = compare(calls, budget_s=3.0, stopwatch=stopwatch)
    firsts, a_round = 3 * each_s, 4 * 3 * each_s  # each turn is an untimed call and a timed one
    assert 2.8 < clock.now - firsts <= 3.0 + a_round
    assert compared.rounds >= 10


def test_slow_calls_have_ten_rounds(clock, stopwatch):
    compared = compare({"a": clock.taking(0.1), "b": clock.taking(0.1)}, stopwatch=stopwatch)
    assert compared.rounds == 10
    assert [m.n for m in compared.measurements.values()] == [20, 20]


def test_very_slow_calls_are_warmed_up_twice_and_the_time_goes_into_rounds(clock, stopwatch):
    """Calls of 0.4 s in a budget of 2 s, of which up to ten may be used."""
    compared = compare({"a": clock.taking(0.4), "b": clock.taking(0.8)}, stopwatch=stopwatch)
    assert [m.warmup_s for m in compared.measurements.values()] == pytest.approx([0.8, 1.6])
    assert compared.rounds >= 6
    untimed = 1.2 + 2.4  # the first calls and the warm-up: in the rounds there are none
    timed = sum(sum(m.times_s) for m in compared.measurements.values())
    assert clock.now == pytest.approx(untimed + timed)
    assert compared.verdict() == "slower"


def test_calls_slower_than_that_are_not_judged(clock, stopwatch):
    compared = compare({"a": clock.taking(4), "b": clock.taking(8)}, stopwatch=stopwatch)
    assert compared.rounds == 1 and compared.verdict() == "cannot tell"


def test_a_long_warm_up_leaves_half_the_budget_for_the_rounds(clock, stopwatch):
    slow_at_first = clock.taking(9.0, *(0.9**i * 0.09 for i in range(20)), 0.01)
    compared = compare({"a": slow_at_first, "b": clock.taking(0.01)}, stopwatch=stopwatch)
    assert compared.measurements["a"].warmup_s > 0.5
    assert compared.rounds * 8 * 0.01 >= 1.0


@pytest.mark.parametrize("budget_s", [0, -1, math.inf, math.nan, "1", None])
def test_a_budget_in_which_nothing_fits_is_refused(budget_s):
    with pytest.raises(BadValue, match=rf"budget_s={budget_s!r}: needs seconds"):
        compare({"a": print, "b": print}, budget_s=budget_s)


def test_an_interrupt_is_no_failed_call():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare({"a": lambda: None, "b": stop})
    assert gc.isenabled()


# --- Told ----------------------------------------------------------------------------------------


class Moved:
    """A guess whose slider somebody moved."""

    value = 3.0


@pytest.mark.parametrize(("predicted", "shown"), [(3, "3.00 ×"), (Moved(), "3.00 ×"), (None, None)])
def test_the_guess_stands_beside_the_answer(clock, stopwatch, predicted, shown):
    calls = {"a": clock.taking(0.1), "b": clock.taking(0.2)}
    compared = compare(calls, predicted=predicted, stopwatch=stopwatch)
    caption = compared.table().caption
    assert (f"Guess: {shown}" in caption) if shown else ("guess" not in caption)


def test_the_caption_tells_rounds_noise_and_doubts():
    caption = made(scaled(1.2), again=1.3).table().caption
    assert "30 rounds in random order" in caption and "noise floor 30.0 %" in caption
    wild = made(WILD).table()
    assert "Doubts: " in wild.caption and "other: half of the timings spread" in repr(wild)
    hasty = made(STEADY)
    both = {name: replace(m, steady=False) for name, m in hasty.measurements.items()}
    caption = replace(hasty, measurements=both).table().caption
    assert caption.count("had not settled") == 1  # what all share is said once
    assert "Doubts: times had not settled" in caption


def test_calls_with_other_threads_leave_the_number_as_it_was():
    torch.set_num_threads(1)
    used = []
    calls = {str(n): threaded(n, lambda: used.append(torch.get_num_threads())) for n in (1, 2)}
    compare(calls, varied=("threads", "work"), budget_s=0.02)
    assert set(used) == {1, 2} and torch.get_num_threads() == 1


def test_several_comparisons_in_one_table():
    found = {"short": made(scaled(1.2)), "long": made(scaled(1.0)), "wild": made(WILD)}
    table = ratios(found, "call")
    assert table.header == ("call", "other ÷ base", "noise floor", "verdict")
    assert [row[0] for row in table.rows] == ["short", "long", "wild"]
    assert table.rows[0][1:] == (repr(found["short"].ratio()), "0.500 %", "slower")
    least = sum(row[2] == "0.500 %" for row in table.rows)
    least = f"The noise floor is the minimum, 0.500 %, in {least} of 3 rows."
    assert table.caption.startswith(least)
    assert "Doubts: call wild: slow and fast timings come in groups" in table.caption


def test_a_table_without_a_row_at_the_least_noise_floor_does_not_mention_it():
    noisy = made(STEADY, again=1.1)
    assert noisy.noise_floor > 0.05  # the second turn of each round is slower
    table = ratios({"noisy": noisy}, "call")
    assert "noise floor" not in table.caption and not table.caption.startswith(" ")


def test_a_call_that_raises_is_named():
    with pytest.raises(CallFailed, match="'broken' raised ZeroDivisionError"):
        compare({"whole": lambda: None, "broken": lambda: 1 / 0}, budget_s=0.01)


@pytest.mark.parametrize("calls", [{}, {"a": print}])
def test_it_takes_two_to_compare(calls):
    with pytest.raises(
        BadValue,
        match=r"kit\.compare: given .*; needs at least two calls\. For .* use kit\.measure",
    ):
        compare(calls)


def test_an_unknown_call_is_named():
    with pytest.raises(LookupError, match="nobody"):
        made(STEADY).ratio("nobody")
