"""Both bills over a model's life: known arithmetic, intervals that cover, clear refusals."""

import math

import numpy as np
import pytest

import kit
from kit.core.errors import BadValue, UnknownName
from kit.core.statistics import Estimate, average, mean_of_stretches
from kit.costs.lifetime_assumptions import KINDS
from kit.costs.lifetime_bills import bills, break_even_days

HOUR = 3600.0


def life(**changed):
    """An hour of training, a tenth of a second an answer: 36,000 answers take as long."""
    given = dict(training=HOUR, inference=0.1, answers_per_day=1_000, pue=1.0)
    return kit.lifetime(**{**given, **changed})


def days(of="time", **changed):
    return life(**changed).break_even(of).days.value


# --- Arithmetic, by hand --------------------------------------------------------------------------


def test_the_answers_take_as_long_as_the_training_after_36_days():
    even = life().break_even("time")
    assert even.days.value == pytest.approx(36) and even.answers.value == pytest.approx(36_000)
    assert life().training("time").value == HOUR
    assert life().inference("time").value == pytest.approx(365 * 100)
    assert life().inference_share("time").value == pytest.approx(36_500 / (36_500 + 3600))


@pytest.mark.parametrize(
    "changed, by_hand",
    [
        ({"utilisation": 0.25}, 9),  # each answer is paid four times
        ({"runs": 10}, 360),
        ({"answers_per_day": 2_000}, 18),
        ({"retrainings_per_year": 365 / 72}, 72),  # half of each day's answers pay for the next run
    ],
)
def test_each_assumption_moves_the_break_even_as_it_should(changed, by_hand):
    assert days(**changed) == pytest.approx(by_hand)


def test_growing_demand_is_an_integral():
    """The sum of a demand that doubles each year, against a sum over small steps."""
    at = days(growth_per_year=1.0)
    steps = np.arange(0, at, 1e-3)
    assert (1_000 * 2 ** (steps / 365)).sum() * 1e-3 == pytest.approx(36_000, rel=1e-3)
    assert at < 36 < days(growth_per_year=-0.5)


def test_energy_money_and_carbon_follow_from_time_and_power():
    given = dict(price_per_hour=2.0, currency="USD", watts=100, pue=1.5, grid=400)
    some = life(**given)
    assert some.training("energy").value == pytest.approx(HOUR * 100 * 1.5)
    assert some.training("carbon").value == pytest.approx(0.15 * 400)
    assert some.training("money").value == pytest.approx(2.0)
    assert some.inference("money").value == pytest.approx(36_500 / HOUR * 2)
    idle = life(**given, utilisation=0.25, idle_watts=50)
    each = (0.1 * 100 + 0.3 * 50) * 1.5  # an answer, and three times as long of waiting
    assert idle.inference("energy").value == pytest.approx(365_000 * each)


def test_a_bought_machine_electricity_and_people_have_a_price():
    bought = life(machine_price=8760.0, machine_years=1, currency="EUR")
    assert bought.training("money").value == pytest.approx(1.0)  # an hour of it
    power = life(electricity=0.5, watts=1000, currency="EUR")
    assert power.training("money").value == pytest.approx(0.5)
    work = life(people_price=50, people_hours_per_run=3, people_hours_per_month=1, currency="EUR")
    assert work.training("money").value == pytest.approx(150)
    assert work.inference("money").value == pytest.approx(12 * 50)


def test_metered_joules_come_before_watts():
    metered = life(training_joules=HOUR * 80, answer_joules=5.0, meter="processor (RAPL)")
    assert metered.training("energy").value == HOUR * 80
    assert days("energy", training_joules=HOUR * 80, answer_joules=5.0) == pytest.approx(57.6)
    assert "metered, processor (RAPL)" in metered.table().caption
    assert "estimated, watts × time" in life().table().caption


def test_flops_need_counts_and_are_left_out_without_them():
    assert "flops" not in life().quantities
    counted = life(training_flops=6e12, answer_flops=2e8)
    assert counted.break_even("flops").days.value == pytest.approx(30)
    assert life().break_even("flops").word == "unknown"


# --- Never, and at once ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"answers_per_day": 0},
        {"retrainings_per_year": 365},  # a run costs more than the answers of the day
        {"growth_per_year": -0.9, "answers_per_day": 10},
    ],
)
def test_a_break_even_may_never_come(changed):
    even = life(**changed).break_even("time")
    assert even.word.startswith("never") and math.isinf(even.days.value)
    assert even.to_dict()["days"]["value"] is None
    assert "never" in repr(life(**changed)) and life(**changed).plot()
    assert life(**changed)._repr_mimebundle_()


@pytest.mark.parametrize("changed", [{"runs": 0}, {"answers_per_day": 1e6}])
def test_it_may_come_on_the_first_day(changed):
    assert life(**changed).break_even("time").word == "before the end of the first day"


def test_an_end_of_a_range_may_never_come():
    even = life(retrainings_per_year=(0.0, 5.0, 365.0)).break_even("time")
    assert math.isfinite(even.days.value) and even.days.high == math.inf
    assert "at least" in even.word


# --- Intervals ------------------------------------------------------------------------------------


def test_the_interval_of_a_rate_goes_through():
    even = life(training=Estimate(HOUR, 0.9 * HOUR, 1.2 * HOUR, "s")).break_even("time").days
    assert (even.low, even.high) == (pytest.approx(0.9 * 36), pytest.approx(1.2 * 36))
    both = life(
        training=Estimate(HOUR, HOUR / 1.1, 1.1 * HOUR, "s"),
        inference=Estimate(0.1, 0.1 / 1.1, 0.11, "s"),
    )
    found, by_hand = both.break_even("time").days, 1.1 ** math.sqrt(2)
    assert found.high == pytest.approx(36 * by_hand) and found.low == pytest.approx(36 / by_hand)


def test_an_unknown_interval_stays_unknown():
    even = life(inference=Estimate(0.1, 0.0, math.inf, "s")).break_even("time")
    assert even.days.interval == "unknown" and "unknown" in even.word
    # What does not depend on it keeps its own.
    assert life(inference=Estimate(0.1, 0.0, math.inf, "s")).training("time").low == HOUR


def measured_twice(generator, training_s, answer_s):
    """What a lesson measures of known rates: five stretches of a training, thirty answers."""
    stretches = training_s / 5 * generator.lognormal(-0.02, 0.2, 5)  # their mean is the true one
    mean = average(stretches.sum(), np.square(stretches).sum(), 5)
    answers = answer_s * generator.lognormal(-0.045, 0.3, 30)
    return (5 * mean).with_unit("s"), mean_of_stretches(answers, unit="s")


def test_the_break_even_covers_the_truth():
    """Known rates, measured 300 times with noise: more than nine intervals in ten cover them."""
    generator, truth, found = np.random.default_rng(0), 36.0, []
    for _ in range(300):
        training, answer = measured_twice(generator, HOUR, 0.1)
        even = life(training=training, inference=answer).break_even("time").days
        found += [even] if even.high < math.inf else []  # unknown ones cover everything
    assert len(found) > 270
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert 0.92 <= covered <= 0.995, covered  # 95 % were meant; 300 trials vary by 2 or 3 %
    assert np.median([e.high / e.low for e in found]) < 2.5  # and they say something


# --- Assumptions ----------------------------------------------------------------------------------


def test_each_assumption_has_a_unit_a_source_and_a_class_and_can_be_changed():
    table = life(price_per_hour=1.0, currency="USD").assumptions()
    assert len(table.rows) == len(KINDS) and all(row[2] and row[3] and row[4] for row in table.rows)
    assert life().assume(answers_per_day=2_000).break_even().days.value == pytest.approx(18)
    again = life(price_per_hour=1.0, currency="USD").assume(days=30)
    assert again.currency == "USD" and again.training().value == pytest.approx(1.0)


def test_a_published_figure_keeps_its_class_and_source():
    card = kit.published("NVIDIA H100 SXM")
    some = life(price_per_hour=card["price"], watts=card["power"])
    assert some.currency == "USD" and some.inputs["price_per_hour"].kind == "price"
    assert some.inputs["watts"].kind == "datasheet" and "AIMultiple" in repr(some.assumptions())
    training = some.training("money")
    assert (training.low, training.high) == (pytest.approx(1.99), pytest.approx(5.0))


def test_a_rate_per_token_needs_the_tokens_of_an_answer():
    pace = Estimate(0.01, 0.009, 0.011, "s/token")
    even = life(inference=pace, tokens_per_answer=10).break_even("time")
    assert even.days.value == pytest.approx(36)
    with pytest.raises(BadValue, match=r"per token|s/token.*tokens_per_answer"):
        life(inference=pace)


def test_the_tornado_ranks_what_moves_the_answer():
    some = life(utilisation=(0.05, 0.2, 1.0), pue=(1.1, 1.2)).tornado("time")
    assert some.most == "utilisation" and "pue" not in some.moves
    assert some.moves["utilisation"].results == (pytest.approx(1.8), pytest.approx(36))
    assert some.table().rows[0][-1] == "its range" and some.plot() and some.to_dict()["moves"]
    assert "depends most on utilisation" in repr(life(utilisation=(0.05, 0.2, 1.0)))


def test_the_picture_shows_both_bills_to_the_last_day():
    picture = life(days=72).plot("time")
    (pane,) = picture.figure.axes
    training, inference, even = (line.get_xydata()[-1].tolist() for line in pane.lines)
    assert training == [72, pytest.approx(HOUR)] and inference == [72, pytest.approx(2 * HOUR)]
    assert even == [pytest.approx(36), pytest.approx(HOUR)] and "36" in picture.caption


def test_an_early_break_even_has_logarithmic_axes_and_its_own_point():
    (pane,) = life(answers_per_day=100_000).plot("time").figure.axes
    assert (pane.get_xscale(), pane.get_yscale()) == ("log", "log")
    (point,) = pane.lines[2].get_xydata().tolist()
    assert point == [pytest.approx(0.36), pytest.approx(HOUR)]


def test_the_record_holds_every_assumption():
    record = life(price_per_hour=(1.0, 2.0), currency="USD").to_dict()
    assert set(record["assumptions"]) == set(KINDS)
    assert record["bills"]["money"]["break_even"]["days"]["low"] == pytest.approx(36)
    assert record["hangs_on"][0] in KINDS


def test_the_solver_agrees_with_the_bills():
    values = life(growth_per_year=0.5, retrainings_per_year=1.0, runs=3).values
    at = break_even_days(values, "time")
    training, inference = bills(values, "time", at)
    assert float(training) == pytest.approx(float(inference), rel=1e-6)


# --- Refusals -------------------------------------------------------------------------------------

PER_TOKEN = Estimate(0.01, 0.009, 0.011, "s/token")
WRONG = {
    "no training": ({"training": None}, "training is missing"),
    "no inference": ({"inference": None}, "inference is missing"),
    "negative rate": ({"inference": -0.1}, "answer_s=-0.1: needs seconds, a number above 0"),
    "zero rate": ({"training": 0}, "above 0"),
    "negative demand": ({"answers_per_day": -1}, "at least 0"),
    "utilisation": ({"utilisation": 130}, r"from 0 to 1\. Give 0.25 for 25 %"),
    "never busy": ({"utilisation": 0}, "share above 0"),
    "no currency": ({"price_per_hour": 2.0}, "has no currency; give currency='USD'"),
    "watt-hours": ({"answer_joules": Estimate(1, 1, 1, "Wh")}, "needs 'J'. 1 Wh = 3,600 J"),
    "bare watt-hours": ({"training_joules": 50.0}, "no machine has.*1 Wh"),
    "minutes": ({"training": Estimate(60, 60, 60, "min")}, "in 'min'; needs 's'"),
    "other currency": (
        {"price_per_hour": Estimate(1, 1, 1, "EUR/h"), "currency": "USD"},
        "in 'EUR/h'; needs 'USD/h'",
    ),
    "a word": ({"answers_per_day": "many"}, "needs a number, a range"),
    "a range upside down": ({"answers_per_day": (10, 1)}, "the low end of a range first"),
    "infinite": ({"answers_per_day": math.inf}, "at least 0"),
    "nan": ({"answers_per_day": math.nan}, "at least 0"),
    "pue": ({"pue": 0.9}, "from 1 to 10"),
    "pue in percent": ({"pue": 110}, "from 1 to 10"),
    "a machine without power": ({"watts": 0}, "watts=0.0: needs W, a number above 0"),
    "no tokens": ({"inference": PER_TOKEN, "tokens_per_answer": 0}, "tokens, a number above 0"),
    "tokens as text": ({"inference": PER_TOKEN, "tokens_per_answer": "many"}, "needs a number"),
    "currency": ({"price_per_hour": 2.0, "currency": 3}, "currency=3: needs a text"),
    "blank currency": ({"price_per_hour": 2.0, "currency": " "}, "has no currency"),
    "endless growth": (
        {"growth_per_year": 999, "days": 50_000},
        "more answers than can be counted",
    ),
}


@pytest.mark.parametrize("changed, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused(changed, message):
    with pytest.raises(BadValue, match=message):
        life(**changed)


def test_what_never_comes_has_nothing_that_it_depends_on():
    never = life(answers_per_day=0)
    assert repr(never).endswith("break-even never within 1,000 years")
    assert "depends" not in never.table().caption


@pytest.mark.filterwarnings("error")
def test_a_demand_that_explodes_is_an_early_break_even_without_a_warning():
    assert life(growth_per_year=999).break_even("time").days.value < 36
    assert life(growth_per_year=999, answers_per_day=0).break_even("time").word.startswith("never")


def test_an_unknown_assumption_or_bill_is_named():
    with pytest.raises(UnknownName, match="did you mean 'utilisation'"):
        life(utilization=0.5)
    with pytest.raises(UnknownName, match="no bill is called 'water'"):
        life().break_even("water")
    with pytest.raises(BadValue, match="without a price"):
        life().training("money")
    with pytest.raises(BadValue, match="price_per_hour is in USD/h; needs EUR/h"):
        life(price_per_hour=1.0, currency="USD").assume(currency="EUR")
