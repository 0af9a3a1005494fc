"""Several ways to do the same job: whose life is cheapest at which demand?

Options       lives by name; each is a model that reaches the same score
├── in_turns    the same with answers that were timed in turns
├── overtakes   answers after which the cheaper one to use has made up for its dearer training;
│               when_cheaper says it in words
└── excess      what it costs to look at one phase alone (claim 27)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.core.checks import check_positive
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate, quotient
from kit.core.units import words
from kit.costs.lifetime_assumptions import RATES
from kit.costs.lifetime_bills import QUANTITIES, bills
from kit.costs.lifetime_result import Lifetime
from kit.costs.published import ranged
from kit.measurement import Comparison
from kit.plots import Picture, Table, lines

PHASES = ("training", "inference")
SURE = 1e-9  # the width of a ratio that is 1 because both are the same option


@dataclass(frozen=True)
class Options(Result):
    """Lives of models that do the same job, by name."""

    lives: dict[str, Lifetime]
    of: str  # the bill that is compared

    def __getitem__(self, name: str) -> Lifetime:
        if name not in self.lives:
            raise UnknownName("option", name, self.lives)
        return self.lives[name]

    def assume(self, **changes: Any) -> Options:
        """All lives with other assumptions, such as another demand."""
        return options({n: life.assume(**changes) for n, life in self.lives.items()}, self.of)

    @property
    def cheapest(self) -> str:
        """The option with the smallest bill over its life."""
        return min(self.lives, key=lambda name: self[name].total(self.of).value)

    def smallest(self, phase: str) -> str:
        """The option with the smallest bill of one phase: "training" or "inference".

        If several have the same, it is the cheapest of them in all.
        """
        if phase not in PHASES:
            raise UnknownName("phase", phase, PHASES)

        def of_phase_and_all(name: str) -> tuple[float, float]:
            life = self[name]
            return getattr(life, phase)(self.of).value, life.total(self.of).value

        return min(self.lives, key=of_phase_and_all)

    def in_turns(self, answers: Comparison) -> Options:
        """The same lives, with answers that were timed in turns: for ratios of lives (`excess`).

        A slow moment of the machine makes all answers slower and cancels. So the first answer
        keeps its mean, and each other one has the interval of its ratio to the first, alone. Bills
        need both intervals: take them from the lives as they were.
        """
        alone_s = self[answers.baseline].inputs["answer_s"].estimate.value
        paired = {name: (answers.ratio(name) * alone_s).with_unit("s") for name in self.lives}
        return options(
            {n: life.assume(inference=paired[n]) for n, life in self.lives.items()}, self.of
        )

    def excess(self, phase: str) -> Estimate:
        """Life cost of the option with the smallest bill of a phase ÷ least life cost of all.

        Where luck decides which option has the smallest bill, such as of two that train equally
        long, the interval holds the ratios of all that may have it.
        """
        least = self.smallest(phase)
        found = [self._excess(least)]
        for name, life in self.lives.items():
            if name != least and getattr(self[least], phase)(self.of).value > 0:
                may_be_smaller = self._ratio(life, self[least], phase).low < 1 - SURE
                found += [self._excess(name)] if may_be_smaller else []
        low, high = min(each.low for each in found), max(each.high for each in found)
        return Estimate(found[0].value, low, high, "×")

    def _excess(self, chosen: str) -> Estimate:
        """Life cost of an option ÷ least life cost of all."""
        others = [n for n in self.lives if n != chosen]
        best = min(others, key=lambda name: self[name].total(self.of).value)
        ratio = self._ratio(self[chosen], self[best])
        if ratio.high <= 1:  # it is surely the cheapest: the same option on both sides
            return Estimate(1.0, 1.0, 1.0 + SURE, "×")
        low, value, high = (max(1.0, r) for r in (ratio.low, ratio.value, ratio.high))
        return Estimate(value, low, max(high, low + SURE), "×")

    def needs_balance(self, at: float = 1.1) -> bool:
        """Whether the cheapest of each phase alone costs more than `at` × the cheapest of all."""
        return all(self.excess(phase).value > at for phase in PHASES)

    def _ratio(self, a: Lifetime, b: Lifetime, phase: str = "total") -> Estimate:
        """The bills of a life, or that of a phase, ÷ those of another, with its interval.

        A price or a demand is the same for both, so it moves both bills. The rates were measured
        one by one.
        """
        if any(each.unknown for life in (a, b) for each in life.inputs.values()):
            return quotient(*(getattr(life, phase)(self.of) for life in (a, b)))

        lives = (a, b)
        names = {**a.ends, **b.ends}
        # Which lives an input moves: a rate its own, anything else both.
        moves: list[tuple[str, tuple[int, ...]]]
        moves = [(name, (0, 1)) for name in names if name not in RATES]
        moves += [(name, (i,)) for name in names if name in RATES for i in (0, 1)]
        value, down, up = self._quotient(a, b, phase), 0.0, 0.0
        for name, which in moves:
            ends = (
                [_moved(life, name, end) if i in which else life for i, life in enumerate(lives)]
                for end in (0, 1)
            )
            quotients = [self._quotient(both[0], both[1], phase) for both in ends]
            if not all(0 < each < math.inf for each in quotients):  # a bill may be nothing at all
                return quotient(*(getattr(life, phase)(self.of) for life in lives))
            logs = [math.log(each / value) for each in quotients]
            down, up = math.hypot(down, min(0.0, *logs)), math.hypot(up, max(0.0, *logs))
        return Estimate(value, value * math.exp(-down), value * math.exp(up), "×")

    def _quotient(self, a: Lifetime, b: Lifetime, phase: str) -> float:
        counted = {"training": (1, 0), "inference": (0, 1), "total": (1, 1)}[phase]
        above, below = (np.dot(counted, bills(x.values, self.of, x.days)) for x in (a, b))
        return float(above / below) if below else math.inf

    def overtakes(self, first: str, second: str) -> Estimate:
        """Answers after which `first` has cost less than `second`; infinite: never; 0: at once.

        The cost of training and of one answer is that of each life. The interval is what all
        ranges of both lives make, one at a time, added in squares of logarithms.
        """
        a, b = self[first], self[second]
        value = _crossing(*_costs(a, self.of), *_costs(b, self.of))
        moved = [
            _crossing(*_costs(x, self.of), *_costs(y, self.of))
            for x, y in ((_at(a, n, e), b) for n, e in _ends(a))
        ] + [
            _crossing(*_costs(a, self.of), *_costs(y, self.of))
            for y in (_at(b, n, e) for n, e in _ends(b))
        ]
        if not math.isfinite(value) or value == 0:
            return Estimate(value, min([value, *moved]), max([value, *moved]), "answers")
        logs = [math.log(m / value) if 0 < m < math.inf else _signed(m) for m in moved]
        down = math.hypot(*(x for x in logs if x < 0)) if min(logs, default=0) < 0 else 0.0
        up = math.hypot(*(x for x in logs if x > 0)) if max(logs, default=0) > 0 else 0.0
        high = value * math.exp(up) if up < 700 else math.inf
        return Estimate(value, value * math.exp(-down), high, "answers")

    def when_cheaper(self, first: str, second: str) -> str:
        """After how many answers `first` has cost less than `second`, or up to how many it does.

        >>> from kit.costs.lifetime import lifetime
        >>> small, large = lifetime(200.0, 0.01), lifetime(100.0, 0.02)
        >>> options({"small": small, "large": large}).when_cheaper("small", "large")
        'after 10,000 answers [10,000 to 10,000 answers]'
        """
        even, back = self.overtakes(first, second), self.overtakes(second, first)
        if even.low == math.inf:
            return "never"
        if even.value == math.inf:
            return "perhaps never: we cannot tell"
        if even.value >= 1:
            return f"after {even}"
        if 1 <= back.value < math.inf:
            return f"up to {back}"
        if even.high == math.inf:
            return "perhaps from the first answer on: we cannot tell"
        if even.high >= 1:
            return f"after at most {words(even.high, 'answers')}, perhaps from the first"
        return "from the first answer on"

    def __repr__(self) -> str:
        return f"{', '.join(self.lives)}: over the whole life ({self.of}), {self._winner()}"

    def table(self, said: object = "") -> Table:
        """A row per option: both bills and their sum over the life; then what you say of it."""
        unit = next(iter(self.lives.values()))._unit(self.of)
        rows = [
            (
                name,
                *(ranged(bill, unit) for bill in (life.training(self.of), life.inference(self.of))),
                ranged(life.total(self.of), unit),
            )
            for name, life in self.lives.items()
        ]
        one = next(iter(self.lives.values()))
        caption = f"{one.inputs['answers_per_day']}, {one.inputs['days']}. Over the whole life "
        caption = f"{caption}({self.of}), {self._winner()}. {said}".strip()
        return Table(("", "training", "inference", "both"), rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The bills of each option."""
        bills_of = {name: life.to_dict()["bills"][self.of] for name, life in self.lives.items()}
        return {"of": self.of, "cheapest": self.cheapest, "options": bills_of}

    def plot(self, answers_per_day: Sequence[float] = ()) -> Picture:
        """The cost of each life over the demand."""
        one = next(iter(self.lives.values()))
        middle = float(one.inputs["answers_per_day"].value or 1)
        demands = [check_positive("answers_per_day", each) for each in answers_per_day] or [
            float(d) for d in middle * np.geomspace(0.01, 100, 9)
        ]
        at = [self.assume(answers_per_day=demand) for demand in demands]
        # ÷ the cheapest: on axes that span the demand, the lines would lie on each other.
        ratios = {name: [each._to_cheapest(name) for each in at] for name in self.lives}
        series = {name: (demands, [r.value for r in rs]) for name, rs in ratios.items()}
        ends = {name: ([r.low for r in rs], [r.high for r in rs]) for name, rs in ratios.items()}
        known = all(map(math.isfinite, (end for both in ends.values() for e in both for end in e)))
        ends_said = [
            f"at {float(f'{demand:.4g}'):,.10g} answers per day, {each._winner()}"
            for demand, each in ((demands[0], at[0]), (demands[-1], at[-1]))
        ]
        caption = (
            f"Both bills over the life ÷ those of the cheapest option: {'; '.join(ends_said)}. "
        )
        caption += "The lines at the points are 95 % intervals." if known else "Intervals unknown."
        axis, bands = f"{self.of} of a life ÷ the least", ends if known else None
        return lines(
            series, "answers per day", axis, caption=caption, log="x", unit="×", bands=bands
        )

    def _winner(self) -> str:
        """Which option costs least, or which of them may: those whose intervals reach its bills."""
        tied = [name for name in self.lives if self._to_cheapest(name).low <= 1]
        if len(tied) == 1:
            return f"{tied[0]} costs least"
        return f"we cannot tell which of {', '.join(tied)} costs least"

    def _to_cheapest(self, name: str) -> Estimate:
        """The bills of an option ÷ those of the cheapest, which are 1 without an interval."""
        best = self.cheapest
        return Estimate(1, 1, 1) if name == best else self._ratio(self[name], self[best])

    def rates(self, said: object = "") -> Table:
        """A row per option: what a training and an answer take, and the share of its total."""
        rows = [
            (
                name,
                *(ranged(life.inputs[rate].estimate) for rate in ("training_s", "answer_s")),
                "1 ×" if name == self.cheapest else ranged(self._ratio(life, self[self.cheapest])),
            )
            for name, life in self.lives.items()
        ]
        one = next(iter(self.lives.values()))
        header = ("", "a training", "an answer", f"both bills ÷ {self.cheapest}'s")
        return Table(header, rows, f"{one.inputs['answers_per_day']}. {said}".strip())


def options(lives: Mapping[str, Lifetime], of: str = "") -> Options:
    """Lives of models that do the same job, to compare: at least two, by name.

    >>> from kit.costs.lifetime import lifetime
    >>> small, large = lifetime(200.0, 0.01), lifetime(100.0, 0.02)
    >>> options({"small": small, "large": large}).overtakes("small", "large")
    10,000 answers [10,000 to 10,000 answers]
    """
    named = isinstance(lives, Mapping) and len(lives) > 1
    if not named or not all(isinstance(each, Lifetime) for each in lives.values()):
        raise BadValue("kit.costs.lifetime_options.options: needs at least two lives, by name.")
    of = of or next(iter(lives.values())).main
    if of not in QUANTITIES:
        raise UnknownName("bill", of, QUANTITIES)
    currencies = dict.fromkeys(life.currency for life in lives.values())
    if of == "money" and len(currencies) > 1:
        given = " and ".join(each or "no price" for each in currencies)
        raise BadValue(f"these lives are in {given}; needs the same currency for all.")
    if not any(life.total(of).value for life in lives.values()):
        raise BadValue(f"all bills of {of} are 0; needs a training or an answer to compare.")
    return Options(dict(lives), of)


def _costs(life: Lifetime, of: str) -> tuple[float, float]:
    """What the training before the first answer costs, and each answer."""
    once = {**life.values, "answers_per_day": 1.0, "growth_per_year": 0.0}
    once["people_hours_per_month"] = 0.0
    training, inference = bills({**once, "retrainings_per_year": 0.0}, of, 1.0)
    return float(training), float(inference)


def _crossing(train_a: float, answer_a: float, train_b: float, answer_b: float) -> float:
    """Answers after which a has cost no more than b."""
    if train_a <= train_b:
        return 0.0 if answer_a <= answer_b or train_a < train_b else math.inf
    saved = answer_b - answer_a
    return (train_a - train_b) / saved if saved > 0 else math.inf


def _ends(life: Lifetime) -> list[tuple[str, float]]:
    return [(name, end) for name, both in life.ends.items() for end in both]


def _at(life: Lifetime, name: str, end: float) -> Lifetime:
    """The life with one assumption at an end of its range."""
    moved = life.inputs[name].__class__(**{**vars(life.inputs[name]), "value": end})
    return Lifetime({**life.inputs, name: moved}, life.currency, life.meter)


def _moved(life: Lifetime, name: str, end: int) -> Lifetime:
    """The life with one assumption at its lower (0) or upper end (1), if it has a range."""
    return _at(life, name, life.ends[name][end]) if name in life.ends else life


def _signed(moved: float) -> float:
    """A move to 0 or to infinity, as a logarithm."""
    return -700.0 if moved == 0 else 700.0
