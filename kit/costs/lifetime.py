"""`kit.lifetime`: from measured or given rates, with named assumptions, to both bills of a life."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from kit.core.checks import is_number
from kit.core.errors import BadValue
from kit.core.statistics import Estimate
from kit.costs.lifetime_assumptions import (
    KINDS,
    PRICES,
    Assumption,
    assumption,
    check_power,
    default,
    tokens_of,
)
from kit.costs.lifetime_bills import check_demand
from kit.costs.lifetime_result import Lifetime
from kit.costs.published import Figure
from kit.costs.run_cost import RunCost
from kit.measurement import Measurement
from kit.training import History

Given = float | Estimate | Measurement | History | Figure | tuple[float, ...]


def lifetime(
    training: Given | RunCost | Assumption | None = None,
    inference: Given | Assumption | None = None,
    *,
    currency: str = "",
    meter: str = "",
    **assumptions: Any,
) -> Lifetime:
    """What a model costs over its life: both bills, their break-even, and what it depends on.

    Parameters
    ----------
    training
        Machine time of one training run, in seconds: a `History`, an `Estimate`, a published figure
        or a number. A `RunCost` gives both phases.
    inference
        Machine time of one answer, in seconds: a `Measurement`, an `Estimate` or a number. If it is
        per token (unit "s/token"), give `tokens_per_answer`, too.
    currency
        Of all prices, such as "USD".
    meter
        What metered `training_joules` and `answer_joules`. Without them, energy is `watts` × time.
    assumptions
        Any name of `kit.costs.lifetime_assumptions.KINDS`: a number, or a range (low, high), or
        (low, value, high). A range goes through to each result as if it were a 95 % interval.

    Raises
    ------
    UnknownName
        The assumption is unknown.
    BadValue
        A value is negative or missing, a share over 100 %, units are mixed, or a price has no
        currency.

    Examples
    --------
    >>> life = lifetime(3600.0, 0.1, answers_per_day=1_000, price_per_hour=2.0, currency="USD")
    >>> round(life.break_even("money").days.value, 6)  # 36,000 answers take as long
    36.0
    >>> life.assume(utilisation=0.25).break_even()
    money: after 9.00 days
    >>> life.assume(answers_per_day=0).break_even()
    money: never within 1,000 years

    Explained in lesson 14.
    """
    if isinstance(training, RunCost):
        return _of_run(training, currency, assumptions)
    for name, rate, of in (("training", training, "run"), ("inference", inference, "answer")):
        if rate is None:
            raise BadValue(f"{name} is missing; needs the machine time of one {of}, in seconds.")
    given = {"training_s": training, "answer_s": inference, **assumptions}
    if not isinstance(currency, str):
        raise BadValue(f"currency={currency!r}: needs a text, such as 'USD'.")
    currency = currency.strip() or _currency(given)
    priced = [name for name in PRICES if name in given and _is_priced(given[name])]
    if priced and not currency:
        raise BadValue(f"{priced[0]}={given[priced[0]]!r} has no currency; give currency='USD'.")
    tokens = tokens_of(given.get("tokens_per_answer"))
    inputs = {name: default(name, currency) for name in KINDS}
    for name, each in given.items():
        own = isinstance(each, Assumption)
        inputs[name] = _again(each, currency) if own else assumption(name, each, currency, tokens)
    for phase in ("training", "answer"):
        seconds = inputs[f"{phase}_s"].value
        check_power(f"{phase}_joules", inputs[f"{phase}_joules"].value, seconds or math.nan)
    check_demand({name: each.value for name, each in inputs.items()})
    return Lifetime(inputs, currency if priced else "", meter)


def _of_run(run: RunCost, currency: str, assumptions: dict[str, Any]) -> Lifetime:
    """The life of a model whose training and predictions `kit.run_cost` has measured."""
    joules = run.prediction_energy.joules
    rates = {
        "training_joules": run.training_energy.joules,
        "answer_joules": joules and joules / run.step_cost.batch_size,
        "training_flops": float(run.training_flops),
        "answer_flops": run.example_flops,
    }
    known = {name: each for name, each in rates.items() if each is not None}
    options: dict[str, Any] = {**known, **assumptions}
    meter = run.training_energy.of if joules is not None else ""
    both = run.history, replace(run.example_s, unit="s")
    return lifetime(*both, currency=currency, meter=meter, **options)


def _again(given: Assumption, currency: str) -> Assumption:
    """An assumption of another life; a price has to be in the same currency."""
    unit = default(given.name, currency).unit
    if given.unit != unit and given.value:
        raise BadValue(f"{given.name} is in {given.unit}; needs {unit}: give it again.")
    return replace(given, unit=unit)


def _currency(given: dict[str, Any]) -> str:
    """The currency of a published price, or of an estimate with a unit such as "USD/h"."""
    units = (getattr(each, "unit", "") for name, each in given.items() if name in PRICES)
    return next((unit.partition("/")[0] for unit in units if unit and unit[0] != "?"), "")


def _is_priced(given: Any) -> bool:
    """Whether a price was given that is not 0."""
    value = given.value if isinstance(given, Assumption) else given
    return not is_number(value) or value != 0
