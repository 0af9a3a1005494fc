"""A ladder of ways to train: what is held against what, what counts, what it says."""

import math
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from kit import measurement, workloads
from kit.core.errors import BadValue
from kit.core.results import RECORD
from kit.core.statistics import Estimate, product
from kit.costs.counting import count
from kit.devices.compiler import FOLDER
from kit.ladders import training, training_setup
from kit.ladders.rung_result import TrainingRung, time_ratio
from kit.ladders.training import training_ladder
from kit.ladders.training_setup import Setup, steps_to_reach
from kit.measurement import Peaks
from kit.models import MLP, MLPConfig
from kit.training import optimizer_for, train, updates


def make() -> MLP:
    return MLP(MLPConfig(hidden=16, layers=1))


@pytest.fixture(scope="module")
def work():
    return workloads.get("vision")


def start(work, **options):
    given = {"target_loss": 1.0, "evaluate_every": 20, "budget_s": 0.1, "seeds": 2, **options}
    return training_ladder(make, work, name="where it begins", **given)


@pytest.fixture(scope="module")
def first(work):
    return start(work)


def wasteful(model, work):
    """A loop by hand that computes each loss ten times and forgets nine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    while True:
        for inputs, targets in work.batches("train", 32, seed=0):
            for _ in range(10):
                optimizer.zero_grad()
                loss = work.loss(model(inputs), targets)
                loss.backward()
            optimizer.step()
            yield loss.item()


def test_the_memory_of_each_rung_holds_the_same_things(work):
    """Gradients of all weights, and no epoch that begins by chance."""
    ladder = start(work, target_loss=9.0, budget_s=0.02, seeds=1)
    for rate in (0.1, 0.2, 0.3):
        ladder = ladder.then(f"rate {rate}", lr=rate)
    first, *others = (rung.peak_bytes for rung in ladder.rungs)
    counted = count(make(), work.example(32)[0])
    assert first > counted.gradient_bytes
    assert all(abs(other - first) < counted.gradient_bytes / 10 for other in others)


# --- Steps to the loss ---------------------------------------------------------------------------


def test_each_seed_is_trained_time_ratio(work, first):
    (rung,) = first.rungs
    assert len(rung.steps_by_seed) == 2 and len(set(rung.steps_by_seed)) == 2
    for seed, found in enumerate(rung.steps_by_seed):
        torch.manual_seed(seed)
        history = train(make(), work, steps=500, evaluate_every=20, live=False, seed=seed)
        assert history.steps_to_loss(1.0) - 20 < found <= history.steps_to_loss(1.0)
    assert rung.exact_steps == pytest.approx(math.sqrt(math.prod(rung.steps_by_seed)))
    assert rung.seconds == pytest.approx(rung.exact_steps * rung.step.value)
    assert (rung.verdict, first.best) == ("where we start", rung)


@pytest.mark.parametrize(
    ("looks", "steps"),
    [
        ([(0, 4.0), (20, 3.0), (40, 2.0)], 30.0),  # the loss asked for is 2.5
        ([(0, 4.0), (20, 2.5), (40, 2.0)], 20.0),
        ([(0, 4.5), (20, 0.5)], 10.0),
        ([(0, 4.0), (20, 3.0), (40, 2.6)], None),
        ([(0, 2.0), (20, 1.0)], 1.0),  # it was that good before
        ([(0, 4.0), (20, float("nan"))], None),
        ([(0, 4.0), (20, 2.0), (40, 3.0), (60, 2.0)], 15.0),  # the first time counts
    ],
)
def test_the_crossing_lies_on_the_line_between_two_looks(looks, steps):
    assert steps_to_reach(2.5, looks) == steps


def test_what_learns_the_same_is_not_trained_again(work, first, monkeypatch):
    monkeypatch.setattr("kit.ladders.training_setup.train", lambda *_, **__: pytest.fail("trained"))
    rung = first.then("in parts", accumulate=2).rungs[-1]
    assert rung.steps_by_seed == first.rungs[0].steps_by_seed and rung.baseline == "where it begins"
    assert rung.learns_as == "where it begins"
    assert rung.row()[2].endswith("(copied)") and "were copied" in rung.table().caption
    ladder = replace(first, rungs=(*first.rungs, rung))
    assert "copied from there: in parts" in ladder.table().details


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"accumulate": 2}, True),
        ({"threads": 2}, True),
        ({"precision": "bf16"}, True),
        ({"optimizer": torch.optim.AdamW}, True),  # the kit's is the same, fused
        ({"lr": 3.0003e-3}, False),  # the first losses hardly differ
        ({"clip": 1e6}, False),  # it may bite later
        ({"seed": 1}, False),
        ({"schedule": "linear", "steps": 10_000}, False),
        ({"optimizer": lambda named, lr: torch.optim.AdamW([w for _, w in named], lr, (0.9, 0.98))},
         False),
    ],
)  # fmt: skip
def test_only_a_change_that_cannot_alter_what_is_learnt_shares_the_steps(work, change, same):
    before = Setup(make)
    after = before.changed(change)
    losses = [
        [float(loss) for _, loss in zip(range(8), setup.start(work), strict=False)]
        for setup in (before, after)
    ]
    assert after.learns_the_same(before, losses[1], losses[0]) is same
    assert not after.learns_the_same(before, [], [])  # nobody looked


def test_what_learns_otherwise_is_trained_time_ratio(work, first):
    slower = first.then("a smaller rate", lr=1e-3).rungs[-1]
    assert slower.steps > first.rungs[0].steps and not slower.learns_as
    scheduled = first.then("a schedule", schedule="linear", steps=400).rungs[-1]
    torch.manual_seed(1)
    history = train(
        make(), work, steps=400, schedule="linear", evaluate_every=20, live=False, seed=1
    )
    looked = history.steps_to_loss(1.0)
    assert looked - 20 < scheduled.steps_by_seed[1] <= looked


def test_a_loss_that_is_not_reached_has_no_time(work, first):
    rung = start(work, most_steps=40, lr=1e-5).rungs[0]
    assert rung.steps is None is rung.seconds
    assert rung.verdict == "does not reach the target loss"
    late = replace(first, most_steps=40).then("hardly moves", lr=1e-5)
    assert late.newest.verdict == "does not reach the target loss"
    assert late.best == first.rungs[0]
    assert "—" in late.newest.row()


def test_a_training_that_diverges_does_not_reach_the_loss(first):
    assert first.then("too far", lr=1e30).newest.verdict == "does not reach the target loss"


def test_a_loop_of_ones_own_is_stepped_and_looked_at(work):
    by_hand = start(work, loop=wasteful)
    own = start(work)
    assert by_hand.rungs[0].steps == pytest.approx(own.rungs[0].steps, abs=40)


def test_readers_random_numbers_stay_as_they_are(first):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    first.then("clipped", clip=1.0)
    assert torch.equal(torch.rand(2), wanted)


def test_a_model_that_always_begins_the_same_is_said(work, first):
    def fixed():
        torch.manual_seed(0)
        return make()

    told = "All seeds begin with the same weights"
    assert told in training_ladder(fixed, work, target_loss=2.2, budget_s=0.01).table().details
    assert told not in first.table().details


@pytest.mark.parametrize("seeds", [0, 1.5, True])
def test_seeds_are_a_whole_number(work, seeds):
    with pytest.raises(BadValue, match="seeds="):
        start(work, seeds=seeds)


# --- What is held against what -------------------------------------------------------------------


def test_a_faster_rung_is_what_the_next_is_held_against(pretended):
    begin, loop = pretended
    climbed = begin().then("half", loop(0.005))
    assert climbed.best.name == "half" and climbed.newest.verdict == "faster: 0.500 × its time"
    first, best = climbed.rungs[0].seconds, climbed.best.seconds
    assert climbed.gain.value == pytest.approx(first / best) == pytest.approx(2)
    back = climbed.then("as before", loop(0.01)).then("a quarter", loop(0.0025))
    assert [rung.baseline for rung in back.rungs] == ["", "first", "half", "half"]
    assert back.rungs[2].verdict == "slower: 2.00 × its time"
    assert back.gain.value == pytest.approx(4)
    assert "first → half → a quarter" in back.table().caption


def test_ten_backward_passes_take_longer_than_one(work):
    """In earnest: how long exactly, this machine must not decide."""
    climbed = start(work, loop=wasteful, batch_size=32).then("each loss once", updates)
    assert climbed.newest.step_ratio.value < 0.5 and "slower" not in climbed.newest.verdict
    assert climbed.newest.learns_as == "where it begins"  # the same batches in the same order


def test_a_change_stays_only_if_it_was_faster(first):
    climbed = first.then("in parts", accumulate=8)
    assert climbed.rungs[1].setup.options == {"accumulate": 8}
    again = climbed.then("clipped", clip=1.0)
    expected = {**climbed.best.setup.options, "clip": 1.0}
    assert again.rungs[2].setup.options == expected


def handmade(model, work, lr=3e-3, optimizer="adamw"):
    """A loop by hand that takes two options."""
    rule = optimizer_for(model, optimizer, lr)
    while True:
        for inputs, targets in work.batches("train", 32, seed=0):
            rule.zero_grad()
            loss = work.loss(model(inputs), targets)
            loss.backward()
            rule.step()
            yield loss.item()


def test_a_rung_keeps_the_loop_of_the_best_rung_and_changes_one_thing(work):
    """Unless it names another: then that is the change."""
    ladder = start(work, loop=handmade, batch_size=32)
    slower = ladder.then("a smaller rate", lr=1e-3).newest
    assert slower.setup.loop is handmade and slower.steps > ladder.first.steps
    kits = ladder.then("the kit's loop", updates).newest
    assert kits.setup.loop is updates and kits.learns_as == "where it begins"
    own = ladder.then("kit's loop", updates).then("by hand", handmade).newest
    assert own.setup.loop is handmade and own.learns_as == "where it begins"


def test_an_option_that_the_best_loop_does_not_take_is_no_change(work):
    ladder = start(work, loop=handmade, batch_size=32, budget_s=0.02, seeds=1)
    refused = ladder.then("narrow", precision="bf16").newest
    assert "not here: given precision=, which the loop does not take" in refused.verdict
    assert "loop=updates (from kit.training)" in refused.verdict
    bare = replace(ladder, rungs=(replace(ladder.first, setup=Setup(make, wasteful)),))
    assert "given lr=" in bare.then("rated", rates=(1e-3, 1e-2)).newest.absent


def test_an_interval_that_is_unknown_gets_more_rounds(pretended, monkeypatch):
    """Two rounds are too few for an interval; four times the budget gives eight."""
    begin, loop = pretended
    given, timed = [], training.compare

    def few(calls, budget_s, **options):
        given.append(budget_s)
        found = timed(calls, budget_s=budget_s, **options)
        keep = 2 if budget_s == 1.0 else 8
        of = found.measurements.items()
        shorter = {name: replace(m, times_s=m.times_s[: 2 * keep]) for name, m in of}
        return replace(found, measurements=shorter)

    monkeypatch.setattr(training, "compare", few)
    assert begin().then("half", loop(0.005)).newest.verdict == "faster: 0.500 × its time"
    assert given == [1.0, 4.0]


def test_what_the_kit_refuses_is_a_rung_that_is_not_here(first):
    climbed = first.then("recomputed", recompute=True)
    assert climbed.rungs[1].verdict.startswith("not here: recompute=True: MLP has no list")
    assert climbed.best == first.best
    assert climbed.to_dict()["rungs"][1]["step_s"] is None


def test_the_number_of_threads_is_put_back(first):
    before = torch.get_num_threads()
    assert first.then("two threads", threads=2).rungs[1].setup.threads == 2
    assert torch.get_num_threads() == before


def test_a_history_from_elsewhere_is_a_rung_with_its_own_interval(work, pretended):
    begin, loop = pretended
    first = begin()
    history = train(make(), work, steps=20, evaluate_every=20, live=False)

    def taking(step_s):
        return replace(history, reads=((10, 10 * step_s),) * 30)

    rung = first.observed("by a snail", taking(0.2)).newest
    assert rung.ratio.value == pytest.approx(20) and rung.verdict == "slower: 20.0 × its time"
    assert rung.step.value == pytest.approx(0.2) and rung.learns_as == "first"
    climbed = first.observed("by a hare", taking(0.001))
    assert climbed.newest.verdict == "faster: 0.100 × its time" and climbed.best == first.best
    assert climbed.then("half", loop(0.005)).newest.baseline == "first"


def test_a_machine_that_has_drifted_meanwhile_makes_no_verdict(work, pretended):
    """The best rung's step takes 1.3 × the time that it took in turns: 20 % faster is nothing."""
    begin, _ = pretended
    first = begin()
    history = train(make(), work, steps=20, evaluate_every=20, live=False)
    drifted = replace(first, rungs=(replace(first.best, step=first.best.step / 1.3),))
    rung = drifted.observed("elsewhere", replace(history, reads=((10, 0.08),) * 30)).newest
    assert rung.noise_floor == pytest.approx(0.3) and rung.verdict == "same within 30.0 %"


def test_another_model_may_be_a_rung(first):
    def wider():
        torch.manual_seed(0)
        return MLP(MLPConfig(hidden=64, layers=1))

    rung = first.then("wider", make=wider).rungs[1]
    assert rung.setup.make is wider and rung.steps <= first.rungs[0].steps
    assert not rung.learns_as


def test_two_rungs_of_one_name_are_refused(first):
    with pytest.raises(
        BadValue, match="name='where it begins': the ladder has a rung of this name"
    ):
        first.then("where it begins", lr=1e-3)


def test_a_name_is_refused_before_anything_is_measured(first):
    def never(model, work):
        raise AssertionError("it was started")

    with pytest.raises(BadValue, match="has a rung of this name"):
        first.then("where it begins", loop=never)


# --- Verdicts, with known numbers ----------------------------------------------------------------


def rung(
    seconds=1.0, steps=(100, 100, 100), wait=0.0, ratio=None, name="it", **options
) -> TrainingRung:
    step = Estimate(seconds, seconds, seconds, "s")
    return TrainingRung(name, Setup(make), step, steps, compile_s=wait, ratio=ratio, **options)


def test_the_ratio_is_of_the_time_to_the_loss_with_the_wait():
    """Half the time per step, a fifth more steps, and 20 s of compiling: (20 + 60) ÷ 100."""
    exact = Estimate(0.5, 0.5, 0.5, "×")
    mine = rung(0.5, steps=(120,) * 3, wait=20.0)
    found = time_ratio(exact, mine, rung(1.0, steps=(100,) * 3, name="best"))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))


def test_the_interval_holds_both_the_steps_time_and_the_seeds():
    """By hand: five log-ratios with a mean of 0 and a spread of 0.1; t₄ at 0.05 ÷ 12 is 5.8853."""
    logs = np.array([-1.0, -1.0, 0.0, 1.0, 1.0]) * 0.1
    best = rung(steps=(100.0,) * 5, name="best")
    mine = rung(steps=tuple(100 * np.exp(logs)))
    seeds = 5.8853 * 0.1 / math.sqrt(5)
    exact, spread = Estimate(1.0, 1.0, 1.0, "×"), Estimate(1.0, 1 / 1.1, 1.1, "×")
    found = time_ratio(exact, mine, best)
    assert math.log(found.high) == pytest.approx(seeds, rel=1e-3) == -math.log(found.low)
    step = math.log(1.1) * 2.8653 / 1.96  # of a normal one, at 0.05 ÷ 12 instead of 0.05
    both = time_ratio(spread, mine, best)
    assert math.log(both.high) == pytest.approx(math.hypot(seeds, step), rel=1e-3)
    alike = replace(mine, learns_as="best", steps_by_seed=best.steps_by_seed)
    assert math.log(time_ratio(spread, alike, best).high) == pytest.approx(step, rel=1e-3)
    twice = time_ratio(exact, mine, best, 24)
    assert twice.high > found.high  # more rungs, less haste


def test_the_seconds_of_a_training_differ_by_seed():
    """Student's interval of 110, 120 and 130 s: 120 ± 4.3027 · 10 ÷ √3."""
    found = rung(steps=(100.0, 110.0, 120.0), wait=10.0).training_s
    assert (found.value, found.high - found.value) == pytest.approx((120, 24.84), rel=1e-3)
    assert rung(steps=(100.0, None)).training_s is None


def test_one_seed_gives_no_verdict_unless_only_the_speed_differs():
    best, exact = rung(steps=(300.0,), name="best"), Estimate(0.3, 0.3, 0.3, "×")
    mine = rung(steps=(100.0,), baseline="best")
    mine = replace(mine, ratio=time_ratio(exact, mine, best))
    assert mine.verdict == "cannot tell: one seed" and not mine.faster
    assert mine.row()[-1] == "cannot tell: one seed" and mine.to_dict()["ratio"] is None
    alike = rung(steps=(300.0,), learns_as="best", baseline="best")
    alike = replace(alike, ratio=time_ratio(exact, alike, best))
    assert alike.verdict == "faster: 0.300 × its time"


def test_the_seconds_of_the_best_step_matter_only_beside_a_compiler():
    """One measurement may have no interval, where the ratio of two in turns has one."""
    vague = replace(rung(name="best"), step=Estimate(1.0, 0.0, math.inf, "s"))
    mine, exact = rung(steps=(50, 50, 50)), Estimate(1.0, 1.0, 1.0, "×")
    found = time_ratio(exact, mine, vague)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert time_ratio(exact, replace(mine, compile_s=1.0), vague).low == 0


def test_a_step_without_an_interval_gives_no_verdict():
    endless = Estimate(0.5, 0.0, math.inf, "×")
    mine = rung(baseline="best")
    assert replace(mine, ratio=time_ratio(endless, mine, rung(name="best"))).verdict == (
        "cannot tell"
    )


@pytest.mark.parametrize(
    ("steps_by_seed", "verdict"),
    [
        ((None, None), "does not reach the target loss"),
        ((100.0, None, 90.0), "reaches the target loss with 2 of 3 seeds"),
        ((100.0, 90.0, 80.0), "reaches the target loss, unlike 'best'"),
    ],
)
def test_seeds_that_do_not_reach_the_loss_are_said(steps_by_seed, verdict):
    best = rung(steps=(None, None), name="best")
    mine = rung(steps=steps_by_seed, baseline="best")
    assert time_ratio(Estimate(1.0, 1.0, 1.0, "×"), mine, best) is None
    assert mine.verdict == verdict and not mine.faster


def test_the_first_rung_that_reaches_the_loss_is_what_the_next_is_held_against(first):
    never = rung(steps=(None, None), name="never")
    some = rung(steps=(90.0, None, 80.0), name="some", baseline="never")
    arrives = rung(steps=(90.0, 85.0, 80.0), name="arrives", baseline="never")
    climbed = replace(first, rungs=(never, some, arrives))
    assert [r.name for r in climbed.path] == ["never", "arrives"]
    assert climbed.gain is None and "no time to compare" in repr(climbed)


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.4, 0.5, 0.6, "faster: 0.500 × its time"),
        (1.5, 2.0, 2.5, "slower: 2.00 × its time"),
        (0.9, 0.95, 1.01, "cannot tell"),
        (0.9, 0.95, 0.985, "cannot tell"),  # the floor is 2 %
        (0.97, 0.99, 1.01, "same within 5.00 %"),
    ],
)
def test_a_verdict_needs_the_interval_beyond_the_noise(low, value, high, verdict):
    ratio = Estimate(value, low, high, "×")
    assert rung(ratio=ratio, baseline="x", noise_floor=0.02).verdict == verdict


# --- Many ladders, simulated ---------------------------------------------------------------------


def climbed_ladder(draw, factors, spread=0.1, seeds=5):
    """Verdicts of rungs whose true times to the loss are these, each against the first."""
    best, said = rung(steps=tuple(100 * np.exp(spread * draw.standard_normal(seeds)))), []
    for k, factor in enumerate(factors):
        steps = tuple(100 * factor * np.exp(spread * draw.standard_normal(seeds)))
        mine, noise = rung(steps=steps, name=f"{k}", baseline="it"), 0.01 * draw.standard_normal()
        timed = Estimate(*(math.exp(noise + d) for d in (0.0, -0.0196, 0.0196)), "×")
        said.append(replace(mine, ratio=time_ratio(timed, mine, best), noise_floor=0.005).verdict)
    return said


def test_ladders_of_nothing_but_seeds_hardly_ever_have_a_verdict():
    """With one seed and no interval for it, 12 of 12 had one."""
    draw = np.random.default_rng(0)
    ladders = [climbed_ladder(draw, [1.0] * 5) for _ in range(1_000)]
    wrong = sum(any("faster" in v or "slower" in v for v in said) for said in ladders)
    assert wrong <= 50  # of 1,000: 5 %


def test_each_rival_gets_its_best_rate_from_other_seeds(pretended, monkeypatch):
    """At a rate r the made-up learner needs 100 × |log₁₀ r + 2| + 50 steps: least at 0.01."""
    begin, loop = pretended
    seen = []

    def rated(model, work, lr=0.0):
        return loop(0.01)(model, work)

    def steps_to_loss(setup, loss, work, most, every, seeds):
        rate, seed = setup.options["lr"], setup.options.get("seed", 0)
        seen.append((rate, seed, seeds))
        return (100 * abs(math.log10(rate) + 2) + 50,) * seeds if rate < 1 else (None,) * seeds

    first = begin()
    monkeypatch.setattr(Setup, "steps_to_loss", steps_to_loss)
    rung = first.then("tuned", rated, rates=(0.001, 0.01, 0.1, 10.0)).newest
    assert rung.setup.options["lr"] == 0.01 and rung.exact_steps == pytest.approx(50)
    assert rung.tried == pytest.approx({0.001: 150, 0.01: 50, 0.1: 150, 10.0: None})
    assert {(seed, n) for _, seed, n in seen[:4]} == {(5, 2)}  # the rung itself has seeds 0 to 4
    assert seen[4] == (0.01, 0, 5) and "seed" not in rung.setup.options
    assert "with other seeds: 0.001 150, 0.01 50, 0.1 150, 10 —." in rung.table().details
    assert rung.to_dict()["steps_by_rate"]["0.01"] == pytest.approx(50)


def test_a_factor_of_one_and_a_half_is_found():
    draw = np.random.default_rng(0)
    for factor, word in ((1 / 1.5, "faster"), (1.5, "slower")):
        found = [climbed_ladder(draw, [factor], spread=0.06)[0] for _ in range(200)]
        assert sum(word in verdict for verdict in found) > 180


def test_a_chain_of_five_ratios_is_where_it_seems_to_be():
    """95 % intervals, multiplied: the last ratio's alone would hold the truth in 64 %."""
    draw, hits, alone = np.random.default_rng(0), 0, 0
    for _ in range(2_000):
        errors = 0.02 * draw.standard_normal(6)
        parts = [Estimate(*(math.exp(e + d) for d in (0.0, -0.0392, 0.0392))) for e in errors]
        chain = parts[0]
        for part in parts[1:]:
            chain = product(chain, part)
        hits += chain.low <= 1 <= chain.high
        off = math.log(chain.value)
        alone += abs(off) <= 0.0392
    assert 0.93 < hits / 2_000 < 0.97 and alone / 2_000 < 0.7


# --- A ladder on a made-up clock -----------------------------------------------------------------


class Learner(nn.Module):
    """Its validation loss is 4 at first and falls by a share per step that its weight says."""

    def __init__(self, spread=0.05):
        super().__init__()
        self.rate = nn.Parameter(0.01 * torch.exp(spread * torch.randn(())))
        self.done = 0

    @property
    def loss(self):
        return 4 * math.exp(-self.rate.item() * self.done)


@pytest.fixture
def pretended(monkeypatch, work, clock, stopwatch):
    """A ladder of loops that take a made-up time per step and learn at a made-up speed."""

    class Look:
        def __init__(self, model, *_):
            self.loss = model.loss

    monkeypatch.setattr(training_setup, "evaluate", Look)
    monkeypatch.setattr(training, "measure", partial(measurement.measure, stopwatch=stopwatch))
    monkeypatch.setattr(training, "compare", partial(measurement.compare, stopwatch=stopwatch))

    def loop(step_s, speed=1.0):
        def steps(model, work):
            while True:
                clock.advance(step_s)
                model.done += speed
                yield model.loss

        return steps

    def begin(step_s=0.01, speed=1.0, **options):
        given = {"target_loss": 2.0, "name": "first", "budget_s": 1.0, **options}
        return training_ladder(Learner, work, loop=loop(step_s, speed), **given)

    return begin, loop


def test_a_step_of_half_the_time_is_found_exactly(pretended):
    begin, loop = pretended
    climbed = begin().then("half", loop(0.005))
    assert climbed.newest.learns_as == "first"
    ratio = climbed.newest.ratio
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_wait_for_the_compiler_is_that_of_a_first_run(pretended, monkeypatch):
    """Programs of earlier runs are out of reach while the first step compiles, and only then."""
    monkeypatch.setenv(FOLDER, "/kept")
    begin, loop = pretended
    seen = []

    def compiled(model, work, compile=True):
        for loss in loop(0.005)(model, work):
            seen.append(os.environ[FOLDER])
            yield loss

    ladder = begin().then("compiled", compiled, compile=True)
    assert seen[0] != "/kept" and set(seen[1:]) == {"/kept"} and ladder.best.name == "compiled"
    seen.clear()
    assert ladder.then("compiled too", compiled, seed=7).newest.compile_s == ladder.best.compile_s
    assert set(seen) == {"/kept"}


def test_two_rungs_are_compared_that_were_never_neighbours(pretended):
    """Two thirds of the time per step, and the same learning."""
    begin, loop = pretended
    climbed = begin().then("half", loop(0.005)).then("third", loop(0.003)).then("slow", loop(0.02))
    for name, other, wanted in (
        ("slow", "half", 4),
        ("half", "slow", 1 / 4),
        ("slow", "third", 20 / 3),
        ("slow", "first", 2),
        ("third", "third", 1),
    ):
        ratio = climbed.ratio(name, other)
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((wanted,) * 3)


def test_learning_twice_as_fast_is_found_with_the_same_seeds(pretended):
    """Pairs of the same seed differ by the factor alone, though the seeds differ by 5 %."""
    begin, loop = pretended
    climbed = begin(evaluate_every=1).then("learns twice as fast", loop(0.01, speed=2.0))
    new = climbed.newest
    assert not new.learns_as and len(set(new.steps_by_seed)) == 5
    assert new.ratio.value == pytest.approx(0.5, rel=0.01)
    assert new.verdict.startswith("faster: ") and new.ratio.high < 0.52


def test_another_seed_is_no_verdict(pretended):
    begin, loop = pretended
    ladder = begin()
    for k in range(1, 6):
        ladder = ladder.then(f"seed {100 * k}", loop(0.01), seed=100 * k)
    assert {rung.verdict for rung in ladder.rungs[1:]} <= {"cannot tell", "same within 5.00 %"}
    assert ladder.best.name == "first" and ladder.gain.value == 1
    assert len({rung.steps_by_seed for rung in ladder.rungs}) == 6


def test_with_one_seed_another_speed_of_learning_is_no_verdict(pretended):
    begin, loop = pretended
    climbed = begin(seeds=1).then("learns twice as fast", loop(0.01, speed=2.0))
    assert climbed.newest.verdict == "cannot tell: one seed" and climbed.best.name == "first"


def test_after_two_seeds_that_miss_the_loss_it_is_given_up(pretended):
    begin, loop = pretended
    climbed = begin(most_steps=100).then("learns ten times as slowly", loop(0.01, speed=0.1))
    assert climbed.newest.steps_by_seed == (None, None)


def test_a_share_of_more_than_the_peak_is_an_error_and_no_rung(work):
    peaks = Peaks({"float32": 1.0}, 1e9, {}, "cpu", torch.get_num_threads())
    with pytest.raises(BadValue, match="of this machine's peak"):
        start(work, peaks=peaks)


def test_the_share_is_of_the_peak_at_as_many_threads(work):
    threads = torch.get_num_threads()
    peaks = Peaks({"float32": 1e15}, 1e9, {}, "cpu", threads)
    setup = Setup(make, options={"batch_size": 64})
    flops = setup.flops(work)
    ladder = start(work, peaks=peaks, batch_size=64)
    rung = ladder.newest
    assert rung.share == pytest.approx(flops / rung.step.value / 1e15)
    assert replace(ladder, peaks=None).then("unknown", accumulate=2).newest.share is None
    other = replace(ladder, peaks=replace(peaks, threads=threads + 1))
    assert other.then("other threads", accumulate=2).newest.share is None
    assert ladder.then("in bfloat16", precision="bf16").newest.share is None


# --- Shown ---------------------------------------------------------------------------------------


def test_it_is_a_table_a_picture_and_a_record(first):
    climbed = first.then("recomputed", recompute=True)
    assert repr(climbed) == "2 rungs, the best 'where it begins': 1.00 × in all"
    assert repr(climbed.newest).startswith("recomputed: not here")
    known = rung(ratio=Estimate(0.5, 0.4, 0.6, "×"), baseline="first", noise_floor=0.02)
    assert "÷ that of 'first': 0.500 × [0.400 to 0.600 ×]." in known.table().details
    assert known.row()[-1] == "faster: 0.500 × its time [0.400 to 0.600]"
    vague = replace(known, ratio=Estimate(0.5, 0.4, 1.2, "×"))
    assert vague.row()[-1] == "cannot tell: 0.500 × its time [0.400 to 1.20]"
    assert "Steps to the loss, by seed: 100, 100, 100." in known.table().caption
    table = climbed.table()
    assert [row[0] for row in table.rows] == ["where it begins", "recomputed"]
    assert "a validation loss of 1." in table.caption
    record = climbed._repr_mimebundle_()[RECORD]
    assert record["kind"] == "TrainingLadder" and record["rungs"][0]["seconds_to_loss"] > 0
    assert math.isfinite(record["gain_ratio"]["value"])
    assert climbed.plot().png() and "where it begins" in climbed.plot().caption


def test_the_picture_shows_the_compiler_and_intervals_against_one_rung(first):
    """The second is compared with the first, the third with the second; both lines: the first."""
    known = rung(0.01, steps=(50.0,) * 5, name="where it begins")
    name = known.name
    same = {"steps": known.steps_by_seed, "learns_as": name, "noise_floor": 0.01}
    half, more = Estimate(0.5, 0.45, 0.55, "×"), Estimate(1.2, 1.1, 1.5, "×")
    mine = rung(0.005, ratio=half, step_ratio=half, baseline=name, **same)
    last = {"wait": 0.2, "ratio": more, "step_ratio": more, "baseline": "it", "name": "compiled"}
    climbed = replace(first, rungs=(known, mine, rung(0.006, **last, **same)))
    pane = climbed.plot().figure.axes[0]
    assert {text.get_text() for text in pane.get_legend().get_texts()} == {"training", "compiling"}
    ratios = [climbed.ratio(each, name) for each in ("it", "compiled")]
    ends = [end * known.seconds for each in ratios for end in (each.low, each.high)]
    assert sorted(x for line in pane.lines for x in line.get_xdata()) == pytest.approx(sorted(ends))
    assert f"its comparison with {name!r}" in climbed.plot().caption
    assert climbed.rungs[2].row()[3].endswith(", 200 ms to compile")
