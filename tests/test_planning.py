"""The planner: arithmetic by hand, the published trainings, what was measured here, refusals."""

import pytest

import kit
from kit.core.errors import BadValue, UnknownName
from kit.core.statistics import Estimate
from kit.costs.accelerator_speedup import accelerator_speedups
from kit.costs.planning import SERVING_SHARE
from kit.costs.planning_check import against_published, serving_against_published
from kit.costs.planning_serving import replica_of
from kit.costs.published import of_kind
from kit.course.claims import CANNOT_TELL, HOLDS
from kit.measurement import Peaks


@pytest.fixture(scope="module")
def check():
    return against_published(0.40)


# --- Against what was published ------------------------------------------------------------------


def test_every_training_with_hours_is_predicted(check):
    with_hours = [card.name for card in of_kind("model") if "hours" in card]
    assert [row.card.name for row in check.rows] == with_hours and len(with_hours) > 10
    assert len(check.table().rows) == len(with_hours) and check.plot()


# 6ND and the peak by hand: what the reading of the sources found.
SHARES = {"bloom": 0.318, "llama-2-7b": 0.39, "llama-3.1-8b": 0.139, "llama-3.1-405b": 0.346}
ERRORS = {"llama-3.1-8b": 2.9, "llama-3.1-70b": 1.6, "llama-3.1-405b": 1.16, "llama-2-7b": 1.02}


@pytest.mark.parametrize("name, share", SHARES.items())
def test_the_share_that_would_make_both_equal(check, name, share):
    assert check[name].equal_share == pytest.approx(share, rel=0.01)
    equal = against_published(check[name].equal_share)[name]
    assert equal.predicted_h == pytest.approx(equal.published_h)


@pytest.mark.parametrize("name, error", ERRORS.items())
def test_the_error_is_told_as_it_is(check, name, error):
    assert check[name].error == pytest.approx(error, rel=0.02)


def test_llama_2_is_right_within_eight_percent_and_the_small_one_of_3_is_not(check):
    for size in ("7b", "13b", "70b"):
        assert 1 / 1.08 < check[f"llama-2-{size}"].error < 1.08
    assert "the farthest is llama-3.1-8b" in repr(check)
    assert check.within(1.1) < check.within(2) < len(check.rows)


# --- Against this computer -----------------------------------------------------------------------


def beside(check, rate, device="cpu"):
    rates = {"float32": rate / 4, "bfloat16": rate, "float16": rate / 8}
    return accelerator_speedups(check, Peaks(rates, 1e10, {}, device=device, threads=2))


def test_an_accelerator_is_at_least_as_fast_as_published_hours_say(check):
    found = beside(check, 2e12)
    for row in check.rows:  # by hand: FLOP/s that each accelerator reached ÷ the peak here
        reached = row.flops / (row.published_h * 3600)
        assert found[row.card.name].low == pytest.approx(reached / 2e12)
        assert found[row.card.name].high == float("inf")
        years = row.flops / 2e12 / 3600 / 24 / 365
        assert found.years(row.card.name).value == pytest.approx(float(f"{years:.3g}"))
    assert found.largest == found["llama-3.1-405b"] and found.smallest == found["gpt-3"]
    assert found.table().rows[check.rows.index(check["llama-3.1-8b"])][1:4] == (
        "NVIDIA H100 SXM", "1,460,000 h", "11,500 years"
    )  # fmt: skip
    assert "2.00 TFLOP/s (bfloat16, 2 threads)" in found.table().caption and found.plot()


@pytest.mark.parametrize("rate, word", [(2e12, HOLDS), (1e14, CANNOT_TELL)])
def test_a_bound_decides_claim_18_only_where_it_clears_the_limits(check, rate, word):
    """A computer that might train as fast as an accelerator: nobody can tell."""
    found = beside(check, rate)
    measured = dict(accelerator_step_speedup=found.largest, smallest_step_speedup=found.smallest)
    shown = kit.verdict("18", part="14", **measured)
    assert shown.word == word and "at least" in shown.shown("accelerator_step_speedup")


def test_the_peak_of_an_accelerator_is_not_that_of_this_computer(check):
    with pytest.raises(BadValue, match="peaks of 'cuda': needs those of the CPU"):
        beside(check, 2e12, "cuda")
    with pytest.raises(UnknownName, match="llama"):
        beside(check, 2e12)["llama"]


# --- A published model ---------------------------------------------------------------------------


def test_a_training_takes_machines_for_its_deadline():
    made = kit.plan(7e9, tokens=1e12, deadline_days=30, training_share=0.5).training
    hours = 6 * 7e9 * 1e12 / 989.5e12 / 3600
    assert made.bound_hours == pytest.approx(hours)
    assert made.hours.value == pytest.approx(2 * hours)
    assert made.machines == -(-2 * hours // (30 * 24)) and made.days.value <= 30
    assert made.price.value == pytest.approx(2 * hours * 2.95)
    assert made.price.low == pytest.approx(2 * hours * 1.99)


def test_without_a_deadline_the_memory_decides():
    made = kit.plan("llama-3.1-405b").training
    assert made.machines == made.least_machines == 102  # 16 B × 405.9 G ÷ (0.8 × 80 GB)
    assert made.hours.low < made.hours.value < made.hours.high


# Llama 2 7B in 16 bits on an A100: 13.48 GB of weights, 524,288 B of cache per token, 2,039 GB/s,
# 312 TFLOP/s. 10 texts with 1,000 + 200 tokens, by hand:
def test_a_token_takes_the_time_of_its_bytes_and_of_its_share_of_the_prompts():
    card = kit.published("NVIDIA A100 SXM 80GB")
    token = replica_of(6.74e9, 6.74e9, 524_288, 1000, 200, 1, card).token(10)
    assert token.weights_s == pytest.approx(13.48e9 / 2039e9)
    assert token.cache_s == pytest.approx(10 * 1100 * 524_288 / 2039e9)  # half of the answer
    assert token.flops_s == pytest.approx(10 * 13.48e9 / 312e12)
    assert token.prompts_s == pytest.approx(5 * token.flops_s)  # 1,000 tokens for 200
    assert token.seconds == pytest.approx(token.weights_s + token.cache_s + token.prompts_s)
    assert next(iter(token.shares)) == "memory's rate: reading the weights"
    assert sum(token.shares.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def served():
    return kit.plan("llama-2-7b", machine="NVIDIA A100 SXM 80GB", users=1000, target=5,
                    serving_share=0.7).serving  # fmt: skip


def test_the_batch_is_the_largest_that_fits_into_the_memory(served):
    # Of 0.9 × 2 × 80 GB the weights leave room for 207 texts of 1,200 tokens.
    assert served.machines_per_replica == 2 and served.batch_size == 207
    assert served.batch_limit == "memory: the cache"
    assert served.cache_bytes == pytest.approx(207 * 1200 * 524_288)


def test_replicas_follow_from_the_rate_of_one(served):
    rate = served.per_machine.value * served.machines_per_replica
    assert served.replicas == -(-1000 * 5 // rate)
    assert served.pace.value == pytest.approx(rate / served.batch_size) and served.pace.value > 5
    measured = Estimate(500, 480, 520, "tokens/s")
    given = kit.plan("llama-2-7b", machine="NVIDIA A100 SXM 80GB", users=1000, target=5,
                     per_machine=measured).serving  # fmt: skip
    assert given.machines == 10 and given.per_machine.value == 500


def test_a_fast_pace_stops_the_batch_before_the_memory_does():
    made = kit.plan("llama-3.1-8b", users=1000, target=50).serving
    assert made.batch_limit == "the pace that was asked for"
    assert made.pace.value >= 50


def test_long_prompts_bind_by_flops_and_short_ones_by_the_memorys_rate():
    asked = dict(model="llama-3.1-8b", users=1000, target=20)
    assert kit.plan(**asked, prompt_tokens=4000).serving.binds == "FLOPs: prompts"
    short = kit.plan(**asked, prompt_tokens=100, new_tokens=500).serving
    assert short.binds.startswith("memory's rate")
    assert short.machines < kit.plan(**asked, prompt_tokens=4000).serving.machines


def test_a_model_larger_than_a_memory_or_a_fast_pace_takes_several_machines():
    made = kit.plan("llama-3.1-405b", users=1, target=1).serving
    assert made.machines_per_replica == 12  # 812 GB ÷ (0.9 × 80 GB)
    # 16 GB per token at 3,350 GB/s: one machine gives one reader at most 209 tokens/s.
    assert kit.plan(8e9, users=1, target=150).serving.machines_per_replica > 1


def test_a_model_without_a_published_cache_says_so():
    made = kit.plan(8e9, users=1000, target=20)
    assert made.serving.cache_bytes == 0 and "cache is unknown" in made.table().caption
    known = kit.plan(8e9, users=1000, target=20, cache_per_token=131_072)
    assert known.serving.cache_bytes > 0 and "unknown" not in known.table().caption
    assert known.serving.per_machine.value < made.serving.per_machine.value


def test_experts_that_rest_need_memory_and_no_work():
    made = kit.plan("deepseek-v3", machine="NVIDIA H800 SXM", users=1, target=1)
    assert made.training.bound_hours == pytest.approx(6 * 37e9 * 14.8e12 / 989.5e12 / 3600)
    assert made.serving.machines_per_replica == 19  # 2 B × 671 G ÷ (0.9 × 80 GB)


def test_the_two_phases_stand_side_by_side_and_what_binds_them_differs():
    asked = dict(deadline_days=30, users=1_000, target=20, prompt_tokens=100, new_tokens=500)
    made = kit.plan("llama-2-7b", machine="NVIDIA A100 SXM 80GB", **asked)
    table = made.table()
    cells = {row[0]: row for row in table.rows}
    assert table.header == ("", "training", "serving")
    assert cells["at most (roofline)"][1] == "7.72 k tokens/s"
    binds, intensity = cells["what binds that rate"], cells["FLOPs per byte moved"]
    assert binds[1] == "FLOPs" and binds[2].startswith("memory's rate")
    assert made.training.flops_per_byte > made.ridge > made.serving.flops_per_byte
    assert "optimizer" in cells["memory holds"][1] and "cache" in cells["memory holds"][2]
    assert len(intensity) == 3 and "attention" in table.details


# --- Against published services ------------------------------------------------------------------


def test_published_services_stay_below_the_roofline_and_give_the_planner_its_range():
    check = serving_against_published()
    assert len(check.rows) >= 6 and check.table().rows and check.plot()
    assert all(0.5 < row.share < 0.85 for row in check.rows)
    assert check.shares == pytest.approx(SERVING_SHARE, abs=0.01)


def test_by_flops_alone_a_text_at_a_time_looks_a_hundred_times_too_fast():
    rows = {row.card.name: row for row in serving_against_published().rows}
    one = rows["gpt-fast-7b"]
    assert one.bound == pytest.approx(2039e9 / 13.48e9, rel=0.01)
    assert one.flops_bound > 100 * one.bound


# --- A model that was measured here --------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    return kit.step_cost("mlp", kit.workloads.vision(), batch_size=32, budget_s=0.05)


def test_a_measured_step_becomes_hours_and_a_measured_rate_replicas(measured):
    made = kit.plan(measured, examples=3.2e9, deadline_days=1, users=1_000, target=1_000)
    hours = 1e8 * measured.step.value / 3600
    assert made.training.hours.value == pytest.approx(hours)
    assert made.training.bound_rate is None and made.training.price is None
    rate = 32 / measured.parts["predict"].median_s
    assert made.serving.per_machine.value == pytest.approx(rate)
    assert made.serving.replicas == -(-1e6 // rate)
    assert made.to_dict()["serving"]["demand_answers_per_s"] == 1e6 and made.table().rows


def test_a_measured_model_has_a_bound_where_the_machine_was_measured(measured):
    peaks = Peaks(
        {"float32": 1e12}, 1e10, {}, device="cpu", threads=1, cache_bytes_per_s=1e10, near_bytes=0
    )
    made = kit.plan(measured, examples=1e6, users=10, target=1, peaks=peaks)
    work = measured.count.step_work
    assert made.training.bound_rate == pytest.approx(32 / sum(peaks.bound_s(*w) for w in work))
    assert made.serving.binds == "memory's rate" and made.ridge == 100
    assert made.training.held_bytes > made.serving.weight_bytes


# --- Refusals ------------------------------------------------------------------------------------

WRONG = {
    "nothing": (dict(model=7e9), "nothing to plan"),
    "no pace": (dict(model=7e9, users=10), "target=None: needs tokens per second"),
    "negative tokens": (dict(model=7e9, tokens=-1), "tokens=-1: needs a number above 0"),
    "no parameters": (dict(model=0, tokens=1e9), "model=0: needs parameters"),
    "deadline": (dict(model=7e9, tokens=1e9, deadline_days=0), "deadline_days=0"),
    "share": (dict(model=7e9, tokens=1e9, training_share=40), "Give 0.4 for 40 %"),
    "no share": (dict(model=7e9, tokens=1e9, training_share=0.0), "share above 0"),
    "not a model": (dict(model="gemini-prompt"), "is a published service; needs a model"),
    "not a machine": (dict(model=7e9, tokens=1e9, machine="bloom"), "is a model; needs an acc"),
    "price": (
        dict(model=7e9, tokens=1e9, price_per_hour=Estimate(1, 1, 1)),
        "needs a currency per hour",
    ),
    "too fast": (dict(model=70e9, users=1, target=1e6), "no replica of up to"),
    "no prompt": (dict(model=7e9, users=1, target=1, prompt_tokens=0), "prompt_tokens=0"),
    "day's price": (
        dict(model=7e9, users=1, target=1, price_per_hour=Estimate(1, 1, 1, "USD")),
        "needs a currency per hour",
    ),
    "a list": (dict(model=[7e9], tokens=1e9), "needs the name of a published model"),
    "a share upside down": (dict(model=7e9, tokens=1e9, training_share=(0.5, 0.4, 0.3)), "order"),
    "two shares": (dict(model=7e9, tokens=1e9, training_share=(0.3, 0.5)), "in this order"),
    "a bare price": (dict(model=7e9, tokens=1e9, price_per_hour=2.5), "an estimate with its unit"),
    "a negative price": (
        dict(model=7e9, tokens=1e9, price_per_hour=Estimate(-1, -2, -1, "USD/h")),
        "needs numbers above 0",
    ),
    "a bare rate": (dict(model=7e9, users=1, target=1, per_machine=9.0), "an estimate with its"),
    "a rate of zero": (
        dict(model=7e9, users=1, target=1, per_machine=Estimate(0, 0, 0, "tokens/s")),
        "needs numbers above 0",
    ),
    "requests for tokens": (
        dict(model=7e9, users=1, target=1, per_machine=Estimate(3, 2, 4, "requests/s")),
        "per_machine is in 'requests/s'; needs tokens/s",
    ),
    "examples for tokens": (dict(model=7e9, examples=100), "examples were given; needs tokens"),
    "no users": (dict(model=7e9, tokens=1e9, target=10), "target=10 without users"),
}


@pytest.mark.parametrize("given, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_planned_is_refused(given, message):
    with pytest.raises(BadValue, match=message):
        kit.plan(**given)


def test_an_unknown_model_or_machine_lists_similar_ones():
    with pytest.raises(UnknownName, match="did you mean 'llama-2-7b'"):
        kit.plan("llama-2-7")
    with pytest.raises(UnknownName, match="NVIDIA H100 SXM"):
        kit.plan(7e9, tokens=1e9, machine="H100")
