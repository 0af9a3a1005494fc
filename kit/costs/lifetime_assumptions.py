"""What the bills over a model's life depend on: each a named number with unit, class and source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kit.core.checks import check_positive, check_share, is_number
from kit.core.errors import BadValue, UnknownName
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN
from kit.costs.published import Figure, ranged
from kit.measurement import Measurement
from kit.training import History

GIVEN, MEASURED, ASSUMED = "given", "measured", "assumed"
ANSWERS = ("answer", "request", "prediction", "example", "query")  # names of the same thing


@dataclass(frozen=True)
class Kind:
    """What an assumption means, its unit, its default and the values that it can have."""

    what: str
    unit: str
    default: float | None  # None: unknown
    source: str = "a round number: replace it by yours"
    kind: str = ASSUMED
    least: float = 0.0
    most: float = math.inf


# The rates come first: they are measured. Money has no default, because each reader pays another
# price: without a price, the bill in money is unknown.
KINDS: dict[str, Kind] = {
    "training_s": Kind("machine time of one training run", "s", None),
    "answer_s": Kind("machine time of one answer", "s", None),
    "training_joules": Kind("energy of one training run", "J", None, "watts × time"),
    "answer_joules": Kind("energy of one answer", "J", None, "watts × time"),
    "training_flops": Kind("FLOPs of one training run", "FLOP", None),
    "answer_flops": Kind("FLOPs of one answer", "FLOP", None),
    "tokens_per_answer": Kind("tokens that an answer has", "tokens", None),
    "days": Kind("how long the model is in use", "days", 365),
    "answers_per_day": Kind("demand on the first day", "answers/day", 1_000),
    "growth_per_year": Kind("growth of the demand in a year; 1 doubles it", "× a year", 0.0,
                            "none", least=-0.99, most=1_000),
    "runs": Kind("training runs before the first answer, trials included", "runs", 1, "one run"),
    "retrainings_per_year": Kind("further training runs", "runs/year", 0.0, "none"),
    "utilisation": Kind("share of the paid time in which a server answers", "%", 1.0,
                        "no idle time: the least that inference can cost", most=1.0),
    "watts": Kind("power of a busy machine, where no energy was metered", "W", 50.0),
    "idle_watts": Kind("power of a machine that waits", "W", 25.0),
    "pue": Kind("energy of the data centre ÷ energy of its machines", "×", 1.10,
                "Patterson et al., 2021, Table 4 (second-hand): the data centre of GPT-3",
                "measured", least=1.0, most=10.0),
    "grid": Kind("CO2e of electricity", "g/kWh", 429.0,
                 "Patterson et al., 2021, Table 4 (second-hand): the United States",
                 "estimate"),
    "price_per_hour": Kind("rent of a machine", "/h", None, "unknown"),
    "machine_price": Kind("price of a machine that you buy", "", 0.0, "none is bought"),
    "machine_years": Kind("years in which a bought machine is used", "years", 4.0),
    "electricity": Kind("price of electricity", "/kWh", 0.0, "included in the rent"),
    "people_hours_per_run": Kind("work of people for one training run", "h", 0.0, "none"),
    "people_hours_per_month": Kind("work of people to keep it in service", "h", 0.0, "none"),
    "people_price": Kind("price of an hour of work", "/h", 0.0, "none"),
}  # fmt: skip
RATES = ("training_s", "answer_s", "training_joules", "answer_joules")
PRICES = ("price_per_hour", "machine_price", "electricity", "people_price")
SHARES = ("utilisation",)
PLAUSIBLE_W = (0.1, 1e5)  # of one machine: outside, watt-hours were probably taken for joules


LABELS = {
    "training_s": "time of a training",
    "answer_s": "time of an answer",
    "training_joules": "joules of a training",
    "answer_joules": "joules of an answer",
    "training_flops": "FLOPs of a training",
    "answer_flops": "FLOPs of an answer",
    "runs": "trainings before the first answer",
    "retrainings_per_year": "further trainings per year",
    "pue": "PUE of the data centre",
}


def label(name: str) -> str:
    """The name of an assumption in words, for tables, pictures and sliders.

    >>> label("answer_s"), label("price_per_hour")
    ('time of an answer', 'price per hour')
    """
    return LABELS.get(name, name.replace("_", " "))


@dataclass(frozen=True)
class Assumption:
    """One input of the bills: a value, its range if it has one, and where it comes from."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    kind: str  # measured, given, assumed, or the class of a published figure
    source: str

    @property
    def estimate(self) -> Estimate:
        """The value with its range; nan where it is unknown."""
        if self.value is None or self.low is None or self.high is None:
            return Estimate(math.nan, math.nan, math.nan, self.unit)
        return Estimate(self.value, self.low, self.high, self.unit)

    @property
    def varies(self) -> bool:
        """Whether it has a range."""
        return self.low != self.high

    @property
    def unknown(self) -> bool:
        """Whether it was measured too few times to have an interval."""
        return self.high == math.inf or (self.name in RATES and self.varies and not self.low)

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return UNKNOWN
        high = math.inf if self.unknown else self.high
        return ranged(Estimate(self.value, self.low, high, self.unit))

    def row(self) -> tuple[str, ...]:
        """Name, value, class, source and meaning: the cells of a table's row."""
        return label(self.name), str(self), self.kind, self.source, KINDS[self.name].what

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers, with unit, class and source."""
        low, high = (None if end in (None, math.inf) else end for end in (self.low, self.high))
        return {
            **{"value": self.value, "low": low, "high": high, "unit": self.unit},
            **{"class": self.kind, "source": self.source},
        }


def tokens_of(given: Any) -> float | None:
    """The tokens of an answer, checked before a rate per token is multiplied by them."""
    if given is None or isinstance(given, Assumption):
        return given.value if given is not None else None
    return assumption("tokens_per_answer", given).value


def default(name: str, currency: str) -> Assumption:
    """The assumption that holds if nothing is given."""
    kind = KINDS[name]
    of, unit = kind.default, _unit(name, currency)
    return Assumption(name, of, of, of, unit, kind.kind, kind.source)


def assumption(
    name: str, given: Any, currency: str = "", tokens_per_answer: float | None = None
) -> Assumption:
    """An input from what a caller gave for it.

    Parameters
    ----------
    name
        A key of `KINDS`.
    given
        A number; a range (low, high) or (low, value, high); an `Estimate`; a `Measurement`, which
        gives its mean, because slow answers are paid, too; a `History`, which gives its time; or
        a published `Figure`.
    currency
        Of the prices.
    tokens_per_answer
        For a rate per token: how many of them an answer has.

    Raises
    ------
    UnknownName, BadValue
        The assumption is unknown; the value is not possible, or in another unit.
    """
    if name not in KINDS:
        raise UnknownName("assumption", name, KINDS)
    kind, source = GIVEN, "the caller"
    if isinstance(given, Figure):
        kind, source, given = given.kind, given.source, given.estimate
    elif isinstance(given, History):
        kind, source, given = MEASURED, "a training on this machine", given.train_time
    elif isinstance(given, Measurement):
        kind, source, given = MEASURED, f"{given.n} timings on this machine", given.mean
    elif isinstance(given, Estimate):
        kind, source = MEASURED, "measured here"
    low, value, high = _ends(name, given)
    times = 1.0
    if isinstance(given, Estimate):
        times = _factor(name, given.unit, currency, tokens_per_answer)
    measured = name in RATES and isinstance(given, Estimate)
    # The ends of a measured rate may be unknown: 0, infinite, or below 0. Its value may not.
    for each in (value,) if measured else (low, value, high):
        _check(name, each)
    ends = (max(0.0, low * times) if measured else low, high * times)
    return Assumption(name, value * times, *ends, _unit(name, currency), kind, source)


def _ends(name: str, given: Any) -> tuple[float, float, float]:
    """Low, value and high of a number, a range or an estimate."""
    if isinstance(given, Estimate):
        return given.low, given.value, given.high
    if isinstance(given, (tuple, list)) and len(given) in (2, 3) and all(map(is_number, given)):
        low, high = float(given[0]), float(given[-1])
        # Of a range the middle by factors, as for the sliders; a range from 0 has none.
        middle = math.sqrt(low * high) if low > 0 else (low + high) / 2
        value = float(given[1]) if len(given) == 3 else middle
        if low <= value <= high:
            return low, value, high
        if all(map(math.isfinite, given)):
            raise BadValue(f"{name}={given!r}: needs the low end of a range first, then the high.")
    if is_number(given):
        return float(given), float(given), float(given)
    needs = "a number, a range (low, high), an Estimate, a measurement or a published figure"
    raise BadValue(f"{name}={given!r}: needs {needs}.")


def _check(name: str, value: float) -> None:
    """Refuse what it cannot be: negative, over 100 %, not finite."""
    kind = KINDS[name]
    if name in SHARES:
        check_share(name, value, "a share", hint="Give 0.25 for 25 %.")
        if value == 0:
            raise BadValue(f"{name}=0: a server that never answers; needs a share above 0.")
    elif name in ("training_s", "answer_s", "machine_years", "watts", "tokens_per_answer"):
        unit = "seconds" if kind.unit == "s" else kind.unit
        check_positive(name, value, f"{unit}, a number")
    elif not (kind.least <= value <= kind.most and math.isfinite(value)):
        unit = f" {kind.unit}" if kind.unit.isalpha() else ""
        limits = f"from {kind.least:g} to {kind.most:g}"
        limits = limits if kind.most < math.inf else f"of at least {kind.least:g}"
        raise BadValue(f"{name}={value!r}: needs a number {limits}{unit}.")


def _factor(name: str, unit: str, currency: str, tokens_per_answer: float | None) -> float:
    """What an estimate is multiplied by: 1 if its unit fits, tokens if it is per token."""
    needed = _unit(name, currency)
    per = unit.partition("/")[2] if name.startswith("answer_") else ""
    bare = unit.partition("/")[0] if per else unit
    if per == "token" and bare == needed:
        if tokens_per_answer is None:
            raise BadValue(
                f"{name} is in {unit}, and the demand is in answers: these cannot be mixed. Give "
                f"tokens_per_answer, too."
            )
        return tokens_per_answer
    if bare in ("", needed) and per in ("", *ANSWERS):
        return 1.0
    hint = " 1 Wh = 3,600 J." if bare == "Wh" else ""
    raise BadValue(f"{name} is in {unit!r}; needs {needed!r}.{hint}")


def _unit(name: str, currency: str) -> str:
    """The unit of an assumption; prices are in the currency."""
    unit = KINDS[name].unit
    return f"{currency or '?'}{unit}" if name in PRICES else unit


def check_power(name: str, joules: float | None, seconds: float) -> None:
    """Refuse joules that no machine uses in these seconds: watt-hours, or of another unit."""
    low, high = PLAUSIBLE_W
    if joules is not None and not low <= joules / seconds <= high:
        raise BadValue(
            f"{name}={joules:g} in {seconds:g} s are {joules / seconds:.2g} W, which no machine "
            f"has; needs joules of the same run or answer. 1 Wh = 3,600 J."
        )
