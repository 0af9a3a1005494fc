"""Comparison: verdicts from times made up for them, and turns taken in earnest."""

import math
from collections import Counter

import pytest
import torch

from kit.comparison import Comparison, agree, compare
from kit.errors import BadValue, CallFailed, NotComparable
from kit.measurement import Measurement

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


def test_shapes_that_differ_are_named():
    with pytest.raises(NotComparable, match=r"\(2, 3\) and \(3, 2\)"):
        agree(torch.zeros(2, 3), torch.zeros(3, 2))


# --- Verdicts ------------------------------------------------------------------------------------

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98] * 5


def measured(times) -> Measurement:
    return Measurement("call", tuple(times), 1, 1.0, 1.0, True, "cpu", 1, 0.0)


def made(other, control=STEADY, **options) -> Comparison:
    """A comparison of something with steady calls of a second."""
    calls = {"base": measured(STEADY), "other": measured(other)}
    return Comparison(calls, measured(control), **options)


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
    compared = Comparison({"base": measured(base), "other": measured(other)}, measured(base))
    assert compared.ratio().value == pytest.approx(0.8)
    assert compared.verdict() == "faster"


def test_a_noisy_machine_does_not_call_a_small_difference():
    """Against itself the first call came out up to 30 % apart: 1.2 says nothing then."""
    noisy = made(scaled(1.2), control=scaled(1.3))
    assert noisy.noise_floor == pytest.approx(0.3)
    assert noisy.verdict() == "same within 30.0 %"
    assert made(scaled(1.2)).verdict() == "slower"
    assert made(scaled(1.35), control=scaled(1.3)).verdict() == "slower"


def test_just_beyond_the_margin_nobody_can_tell():
    assert (
        made([t * f for t, f in zip(STEADY, [1.0, 1.12] * 15, strict=True)]).verdict()
        == "cannot tell"
    )


# --- Turns ---------------------------------------------------------------------------------------


def test_a_known_ratio_is_found(clock, stopwatch):
    calls = {"slow": clock.taking(0.2), "fast": clock.taking(0.1)}
    compared = compare(calls, stopwatch=stopwatch)
    assert compared.ratio().value == pytest.approx(0.5)
    assert compared.noise_floor == pytest.approx(0)
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


def turns_of(clock, stopwatch, names: str) -> list[list[str]]:
    """Who had a turn in each round, in order; a turn is one call untimed and one timed."""
    events = []

    def call(name):
        def work():
            events.append(name)
            clock.advance(0.1)

        return work

    compared = compare({name: call(name) for name in names}, budget_s=4, stopwatch=stopwatch)
    width = len(names) + 1  # the first has two turns
    turns = events[-2 * width * compared.control.n :][::2]
    return [turns[i : i + width] for i in range(0, len(turns), width)]


def test_every_call_has_its_turn_in_each_round_and_the_first_has_two(clock, stopwatch):
    rounds = turns_of(clock, stopwatch, "abc")
    assert len(rounds) >= 10
    assert all(Counter(turns) == {"a": 2, "b": 1, "c": 1} for turns in rounds)


def test_the_order_is_drawn_anew_in_each_round(clock, stopwatch):
    rounds = turns_of(clock, stopwatch, "ab")
    assert len({tuple(turns) for turns in rounds}) == 3  # aab, aba, baa


def test_short_calls_are_timed_in_blocks(clock, stopwatch):
    calls = {"a": clock.taking(1e-6), "b": clock.taking(2e-6)}
    compared = compare(calls, budget_s=0.01, stopwatch=stopwatch)
    assert compared.measurements["a"].block >= 50
    assert compared.ratio().value == pytest.approx(2)


def test_an_accelerator_is_waited_for(accelerator, stopwatch):
    """Both are noted equally fast; the work differs by two."""
    calls = {"a": lambda: accelerator.launch(0.02), "b": lambda: accelerator.launch(0.01)}
    assert compare(calls, stopwatch=stopwatch).ratio().value == pytest.approx(0.5, rel=0.01)


class Moved:
    """A guess whose slider somebody moved."""

    value = 3.0


@pytest.mark.parametrize(("predicted", "shown"), [(3, "3.00 ×"), (Moved(), "3.00 ×"), (None, None)])
def test_the_guess_stands_beside_the_answer(clock, stopwatch, predicted, shown):
    calls = {"a": clock.taking(0.1), "b": clock.taking(0.2)}
    compared = compare(calls, predicted=predicted, stopwatch=stopwatch)
    caption = compared.table().caption
    assert (f"Your guess: {shown}" in caption) if shown else ("guess" not in caption)


def test_the_caption_tells_rounds_noise_and_doubts():
    caption = made(scaled(1.2), control=scaled(1.3)).table().caption
    assert "30 rounds in random order" in caption and "came within 30.0 %" in caption
    unsettled = made(WILD).table().caption
    assert "Doubts: half of the timings spread" in unsettled


def test_a_call_that_raises_is_named():
    with pytest.raises(CallFailed, match="'broken' raised ZeroDivisionError"):
        compare({"whole": lambda: None, "broken": lambda: 1 / 0}, budget_s=0.01)


@pytest.mark.parametrize("calls", [{}, {"a": print}])
def test_it_takes_two_to_compare(calls):
    with pytest.raises(BadValue, match="comparing needs at least two"):
        compare(calls)


def test_an_unknown_call_is_named():
    with pytest.raises(LookupError, match="nobody"):
        made(STEADY).ratio("nobody")
