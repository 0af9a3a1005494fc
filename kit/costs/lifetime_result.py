"""What a model costs over its life: both bills, their break-even, and what they depend on.

Lifetime     both bills; `kit.lifetime` makes it
BreakEven    when inference has cost as much as training: never, before the first day, or a day
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN
from kit.costs.lifetime_assumptions import Assumption, label
from kit.costs.lifetime_bills import (
    QUANTITIES,
    Values,
    answers_until_even,
    bills,
    break_even_days,
    spread,
)
from kit.costs.lifetime_tornado import Tornado, tornado
from kit.costs.published import amount, ranged
from kit.plots import Picture, Table, lines

NEVER = "never within 1,000 years"
FIRST_DAY = "before the end of the first day"


@dataclass(frozen=True)
class BreakEven:
    """When inference has cost as much as all training until then."""

    of: str  # time, energy, money, carbon or flops
    days: Estimate  # infinite: never
    answers: Estimate

    @property
    def word(self) -> str:
        """*never*, *before the end of the first day*, a number of days, or *unknown*."""
        if math.isnan(self.days.value):
            return "unknown"
        if math.isinf(self.days.value):
            early = math.isfinite(self.days.low)
            return NEVER + (f" (at the ends: {amount(self.days.low, 'days')})" if early else "")
        return FIRST_DAY if self.days.high < 1 else f"after {ranged(self.days, 'days')}"

    def __repr__(self) -> str:
        return f"{self.of}: {self.word}"

    def to_dict(self) -> dict[str, Any]:
        """Days and answers, with their intervals; None: never, or unknown."""
        pair = {"days": self.days, "answers": self.answers}
        raw = {name: each.to_dict() for name, each in pair.items()}
        for each in raw.values():
            finite = each["value"] is not None and math.isfinite(float(each["value"]))
            each["value"] = each["value"] if finite else None
        return {"of": self.of, "word": self.word, **raw}


@dataclass(frozen=True)
class Lifetime(Result):
    """What a model costs over its life, phase by phase, and the assumptions behind it."""

    inputs: dict[str, Assumption]
    currency: str = ""  # "": no price was given, and the bill in money is unknown
    meter: str = ""  # what metered the joules; "": watts × seconds

    @property
    def values(self) -> dict[str, float | None]:
        """The number of each assumption."""
        return {name: each.value for name, each in self.inputs.items()}

    @property
    def ends(self) -> dict[str, tuple[float, float]]:
        """The range of each assumption that has one."""
        return {
            name: (each.low, each.high)
            for name, each in self.inputs.items()
            if each.varies and each.low is not None and each.high is not None
        }

    @property
    def days(self) -> float:
        """How long the model is in use."""
        return float(self.inputs["days"].value or 0)

    @property
    def main(self) -> str:
        """The quantity that is shown if none is asked for: money, or time without a price."""
        return "money" if self.currency else "time"

    def training(self, of: str = "") -> Estimate:
        """The bill of all training over the life: of time, energy, money, carbon or flops."""
        return self._bill(0, self._quantity(of))

    def inference(self, of: str = "") -> Estimate:
        """The bill of all answers over the life, idle time included."""
        return self._bill(1, self._quantity(of))

    def total(self, of: str = "") -> Estimate:
        """Both bills together."""
        of = self._quantity(of)
        return self._spread(lambda v: sum(map(float, bills(v, of, v["days"]))), self._unit(of))

    def inference_share(self, of: str = "") -> Estimate:
        """The part of both bills that is inference (0 to 1)."""
        of = self._quantity(of)

        def odds(values: Values) -> float:
            training, inference = map(float, bills(values, of, values["days"]))
            return math.inf if training == 0 and inference else inference / (training or math.nan)

        ratio = self._spread(odds, "")
        low, value, high = (
            1.0 if math.isinf(r) else r / (1 + r) for r in (ratio.low, ratio.value, ratio.high)
        )
        return Estimate(value, low, high, "%")

    def training_share(self, of: str = "") -> Estimate:
        """The part of both bills that is training (0 to 1)."""
        rest = self.inference_share(of)
        return Estimate(1 - rest.value, 1 - rest.high, 1 - rest.low, "%")

    def break_even(self, of: str = "") -> BreakEven:
        """When inference has cost as much as training."""
        of = self._quantity(of)
        days = self._spread(lambda v: break_even_days(v, of), "days")
        answers = self._spread(lambda v: answers_until_even(v, of), "answers")
        return BreakEven(of, days, answers)

    def tornado(self, of: str = "") -> Tornado:
        """What moves the break-even most, one assumption at a time."""
        of = self._quantity(of)
        return tornado(self.inputs, lambda v: break_even_days(v, of), f"break-even of {of}")

    def assume(self, **changes: Any) -> Lifetime:
        """The same life with other assumptions: this is what a slider does."""
        from kit.costs.lifetime import lifetime  # which makes this class

        return lifetime(**{**self._as_given(), **changes})

    def _as_given(self) -> dict[str, Any]:
        """The arguments of `lifetime` that give this result again."""
        names = {"training_s": "training", "answer_s": "inference"}
        given = {names.get(n, n): each for n, each in self.inputs.items() if each.value is not None}
        return {**given, "currency": self.currency, "meter": self.meter}

    def _bill(self, phase: int, of: str) -> Estimate:
        return self._spread(lambda v: float(bills(v, of, v["days"])[phase]), self._unit(of))

    def _spread(self, function: Callable[[Values], float], unit: str) -> Estimate:
        """The result of a function of the assumptions, with what their ranges make of it."""
        unknown = {n for n, each in self.inputs.items() if each.unknown}
        known = {n: e for n, e in self.ends.items() if n not in unknown}
        found = spread(function, self.values, known, unit)
        doubled = {n: (self.values[n] or 0) * 2 for n in unknown}
        moves = any(function({**self.values, n: x}) != found.value for n, x in doubled.items())
        return Estimate(found.value, 0.0, math.inf, unit) if moves else found

    def _quantity(self, of: str) -> str:
        if of and of not in QUANTITIES:
            raise UnknownName("bill", of, QUANTITIES)
        if of == "money" and not self.currency:
            raise BadValue(
                "there is no bill in money without a price: give price_per_hour=0.10 and "
                "currency='USD', for example."
            )
        return of or self.main

    def _unit(self, of: str) -> str:
        return self.currency if of == "money" else QUANTITIES[of]

    @property
    def quantities(self) -> list[str]:
        """The bills that can be computed from what is known."""
        known = [of for of in QUANTITIES if of != "money" or self.currency]
        return [of for of in known if not math.isnan(self.training(of).value)]

    def __repr__(self) -> str:
        of = self.main
        return (
            f"{amount(self.days, 'days')}: training {ranged(self.training(of), self._unit(of))}, "
            f"inference {ranged(self.inference(of), self._unit(of))}; break-even "
            f"{self.break_even(of).word}{self._depends_most(of)}"
        )

    def _depends_most(self, of: str) -> str:
        """What moves the break-even most; nothing to say if half and double move it nowhere."""
        tornado = self.tornado(of)
        return f", which depends most on {tornado.most}" if tornado.moves else ""

    def table(self) -> Table:
        """A row per bill: training, inference, the share of inference, the break-even."""
        rows = []
        for of in self.quantities:
            even, unit = self.break_even(of), self._unit(of)
            pair = (ranged(each(of), unit) for each in (self.training, self.inference))
            finite = math.isfinite(even.answers.value)
            answers = ranged(even.answers) if finite else UNKNOWN
            rows.append((of, *pair, ranged(self.inference_share(of), "%"), even.word, answers))
        energy = f"metered, {self.meter}" if self.meter else "estimated, watts × time"
        most = ", ".join(map(label, self.tornado().ranked[:3]))
        caption = (
            f"Over {amount(self.days, 'days')} with {self.inputs['answers_per_day']} on the first "
            f"day. Energy: {energy}."
        )
        if most:
            caption += f" The day of the break-even of {self.main} depends most on {most}."
        header = ("", "training", "inference", "inference's share", "break-even", "in answers")
        return Table(header, rows, caption, "Intervals: what the ranges of the inputs make.")

    def assumptions(self) -> Table:
        """Each assumption: its value, its class, its source and its meaning."""
        rows = [each.row() for each in self.inputs.values()]
        return Table(("", "value", "class", "source", "meaning"), rows, "Each can be changed.")

    def to_dict(self) -> dict[str, Any]:
        """The bills, the break-evens, and each assumption with its source."""
        return {
            "currency": self.currency,
            "meter": self.meter,
            "bills": {
                of: {
                    "training": self.training(of).to_dict(),
                    "inference": self.inference(of).to_dict(),
                    "inference_share": self.inference_share(of).to_dict(),
                    "break_even": self.break_even(of).to_dict(),
                }
                for of in self.quantities
            },
            "hangs_on": self.tornado().ranked,
            "assumptions": {name: each.to_dict() for name, each in self.inputs.items()},
        }

    def plot(self, of: str = "") -> Picture:
        """What both phases have cost by each day of the life."""
        of = self._quantity(of)
        even = self.break_even(of).days.value
        # An early break-even would lie in the first pixel: then both axes are logarithmic.
        early = 0 < even < 0.05 * self.days
        days = np.geomspace(even / 30, self.days, 60) if early else np.linspace(0, self.days, 60)
        both = bills(self.values, of, days)
        series = {
            name: (days.tolist(), np.broadcast_to(bill, days.shape).tolist())
            for name, bill in zip(("training", "inference"), both, strict=True)
        }
        unit = self._unit(of)
        if 0 < even <= self.days:
            series["break-even"] = ([even], [float(bills(self.values, of, even)[1])])
        caption = (
            f"Break-even {self.break_even(of).word}. In {amount(self.days, 'days')}: training "
            f"{amount(series['training'][1][-1], unit)}, inference "
            f"{amount(series['inference'][1][-1], unit)}."
        )
        axis = f"{of} ({unit or 'count'})"
        return lines(series, "day", axis, caption=caption, marks=False, log="xy" if early else "")
