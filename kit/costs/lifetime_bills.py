"""The arithmetic of the bills: what both phases have cost by a day, and when they are equal.

Everything here is a function of `Values`: the number of each assumption, by its name. A day may be
an array of days.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kit.core.errors import BadValue
from kit.core.statistics import Estimate

Values = Mapping[str, float | None]
YEAR, MONTH = 365.0, 365.0 / 12  # days
HOUR, KWH = 3600.0, 3.6e6  # seconds, joules
HOURS_OF_A_YEAR = 8760.0
HORIZON = 1_000 * YEAR  # what has not come by then never comes
QUANTITIES = {"time": "s", "energy": "J", "money": "", "carbon": "g CO2e", "flops": "FLOP"}
GRID_POINTS = 400
MOST_ANSWERS = 1e300  # more than any life has; a larger number would become infinite


def bills(values: Values, of: str, day: Any) -> tuple[Any, Any]:
    """What training and inference have cost by a day: of time, energy, money, carbon or flops.

    nan where an input is unknown, such as a price that nobody gave.
    """
    return training_bill(values, of, day), inference_bill(values, of, day)


def training_bill(values: Values, of: str, day: Any) -> Any:
    """All training runs up to a day. Retraining is spread evenly over the year."""
    v = _known(values)
    runs = v["runs"] + v["retrainings_per_year"] * np.asarray(day, dtype=float) / YEAR
    joules = _joules(values, "training")
    people = v["people_hours_per_run"]
    return runs * _cost(v, of, v["training_s"], joules, v["training_flops"], people)


def inference_bill(values: Values, of: str, day: Any) -> Any:
    """All answers up to a day, the time in which servers wait for requests included."""
    v = _known(values)
    paid_s = v["answer_s"] / v["utilisation"]
    joules = _joules(values, "answer") + (paid_s - v["answer_s"]) * v["idle_watts"]
    each = _cost(v, of, paid_s, joules, v["answer_flops"], 0.0)
    care = v["people_hours_per_month"] * np.asarray(day, dtype=float) / MONTH
    with np.errstate(over="ignore"):
        answers = answers_by(values, day) * each
    return answers + (care * v["people_price"] if of == "money" else 0.0)


def answers_by(values: Values, day: Any) -> Any:
    """How many answers were given by a day: the integral of a demand that grows evenly."""
    v, days = _known(values), np.asarray(day, dtype=float)
    rate = math.log1p(v["growth_per_year"]) / YEAR  # per day
    with np.errstate(over="ignore"):  # a demand that doubles for a thousand years is infinite
        grown = days if rate == 0 else np.minimum(np.expm1(rate * days) / rate, MOST_ANSWERS)
        return v["answers_per_day"] * grown


def check_demand(values: Values) -> None:
    """Refuse a life with more answers than a number can hold."""
    days, growth = values["days"], values["growth_per_year"]
    if not answers_by(values, days) < MOST_ANSWERS:
        raise BadValue(
            f"growth_per_year={growth:g} for days={days:g}: more answers than can be counted; "
            f"needs less growth or fewer days."
        )


def break_even_days(values: Values, of: str) -> float:
    """The first day on which inference has cost as much as training; infinite: never."""
    if _missing(values, of):
        return math.nan
    low, high = 0.0, HORIZON
    days = np.concatenate([[0.0], np.geomspace(1e-9, HORIZON, GRID_POINTS)])
    for _ in range(6):  # each time within one step of the grid before
        training, inference = bills(values, of, days)
        even = np.flatnonzero(inference >= training)
        if not even.size:
            return math.inf
        if even[0] == 0:
            return float(days[0])
        low, high = float(days[even[0] - 1]), float(days[even[0]])
        days = np.linspace(low, high, GRID_POINTS)
    return high


def answers_until_even(values: Values, of: str) -> float:
    """Answers until the break-even; infinite if it never comes."""
    days = break_even_days(values, of)
    return float(answers_by(values, days)) if math.isfinite(days) else days


def spread(
    function: Callable[[Values], float],
    values: dict[str, float | None],
    ends: Mapping[str, tuple[float, float]],
    unit: str = "",
) -> Estimate:
    """A positive result with its interval, from the intervals of its inputs.

    Each input goes to its two ends alone. The moves of the result, in logarithms, add up in
    squares, as the errors of independent measurements do (`kit.statistics.quotient`).
    """
    value = function(values)
    if math.isnan(value):
        return Estimate(value, value, value, unit)
    if math.isinf(value) or value == 0:
        others = [function({**values, n: end}) for n, both in ends.items() for end in both]
        return Estimate(value, min([value, *others]), max([value, *others]), unit)
    down = up = 0.0
    for name, both in ends.items():
        moved = [function({**values, name: end}) for end in both]
        logs = [math.log(m / value) if m > 0 else -math.inf for m in moved]
        down, up = math.hypot(down, min(0.0, *logs)), math.hypot(up, max(0.0, *logs))
    return Estimate(value, value * math.exp(-down), value * _exp(up), unit)


def _exp(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def _known(values: Values) -> dict[str, float]:
    """The values as numbers; what is unknown is nan, and makes its results nan."""
    return {name: math.nan if each is None else each for name, each in values.items()}


def _joules(values: Values, phase: str) -> float:
    """Metered joules of a run or an answer, or else watts × seconds."""
    metered, v = values[f"{phase}_joules"], _known(values)
    return v["watts"] * v[f"{phase}_s"] if metered is None else metered


def _cost(
    v: dict[str, float], of: str, seconds: float, joules: float, flops: float, people_h: float
) -> float:
    """One quantity of a piece of work that takes this paid time, energy and work of people."""
    energy = joules * v["pue"]
    if of == "money":
        owned = v["machine_price"] / (v["machine_years"] * HOURS_OF_A_YEAR)
        hourly = _or_zero(v["price_per_hour"], v) + owned
        electricity = energy / KWH * v["electricity"]
        return seconds / HOUR * hourly + electricity + people_h * v["people_price"]
    costs = {"time": seconds, "energy": energy, "carbon": energy / KWH * v["grid"], "flops": flops}
    return costs[of]


def _or_zero(price: float, v: dict[str, float]) -> float:
    """The rent; 0 without one if another price is there: the machine is bought, for example."""
    other = v["machine_price"] or v["electricity"] or v["people_price"]
    return 0.0 if math.isnan(price) and other else price


def _missing(values: Values, of: str) -> bool:
    """Whether a quantity cannot be computed, because an input is unknown."""
    return any(bool(np.isnan(each)) for each in bills(values, of, 1.0))
