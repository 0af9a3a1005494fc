"""One kind of machine for both phases, or a kind for each? Training and serving of one model.

`kit.plan` is asked for each kind of machine. Prices are taken as stated. The shares of the bounds
that runs reach are the same for all kinds, and their ranges make the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kit.core.checks import check_positive
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.costs.planning import SERVING_SHARE, TRAINING_SHARE, plan
from kit.plots import Table

MACHINES = ("NVIDIA A100 SXM 80GB", "NVIDIA H100 SXM", "NVIDIA H200 SXM")  # with a published rent
Bills = Mapping[str, tuple[float, float, float]]  # machine -> hours, training and serving in USD


@dataclass(frozen=True)
class TwoPlans(Result):
    """The bills of both phases for each kind of machine, at each pair of shares."""

    model: str
    users: float
    target: float
    days: float
    bills: tuple[Bills, ...]  # the first at the values of both shares, the others at their ends

    def cheapest(self, phase: int) -> str:
        """The kind that is cheapest for a phase: 1 training, 2 serving."""
        return _cheapest(self.bills[0], phase)

    @property
    def differ(self) -> bool:
        """Whether the phases want different kinds."""
        return self.cheapest(1) != self.cheapest(2)

    @property
    def delay(self) -> Estimate:
        """Time of the training on the kind for serving ÷ on the kind for training."""
        return _spread([b[_cheapest(b, 2)][0] / b[_cheapest(b, 1)][0] for b in self.bills])

    @property
    def excess(self) -> Estimate:
        """Life cost with one kind for both phases ÷ with a kind for each."""
        return _spread(
            [_one_kind(b) / sum(_least(b, phase) for phase in (1, 2)) for b in self.bills]
        )

    def __repr__(self) -> str:
        kinds = f"{self.cheapest(1)} for training, {self.cheapest(2)} for serving"
        return f"{self.model}: {kinds}; one kind for both costs {self.excess} as much"

    def table(self) -> Table:
        """A row per kind: hours and price of the training, price of serving, and both."""
        rows = [
            (name, _rounded(h), *(f"{_rounded(usd)} USD" for usd in (train, serve, train + serve)))
            for name, (h, train, serve) in self.bills[0].items()
        ]
        header = ("", "machine-hours", "training", f"serving {self.days:g} days", "both")
        people = f"{self.users:,.0f} users at {self.target:g} tokens/s each"
        return Table(header, rows, f"{self!r}. {people}, on any number of machines.")

    def to_dict(self) -> dict[str, Any]:
        """The bills in USD, and both ratios."""
        bills = {n: {"hours": h, "training_usd": t, "serving_usd": s}
                 for n, (h, t, s) in self.bills[0].items()}  # fmt: skip
        case = {"model": self.model, "users": self.users, "target": self.target, "days": self.days}
        return {**case, "bills": bills, "delay": self.delay.to_dict(),
                "excess": self.excess.to_dict()}  # fmt: skip


def two_plans(
    model: str,
    *,
    users: float,
    target: float,
    days: float = 365,
    machines: Sequence[str] = MACHINES,
) -> TwoPlans:
    """What both phases of a published model cost on each kind of machine.

    Parameters
    ----------
    model
        Its name in `kit.published`; it is trained on its published tokens.
    users, target
        People at the same moment, and the tokens per second that each of them gets.
    days
        How long it is served.
    machines
        Kinds of machine with a published rent.

    Raises
    ------
    UnknownName, BadValue
        A name is unknown, a number is not above 0, or fewer than two machines are given.

    Explained in lesson 15.
    """
    check_positive("days", days, "days, a number")
    if len(set(machines)) < 2:
        raise BadValue(f"machines={list(machines)}: needs at least two kinds to choose from.")
    ends = [(TRAINING_SHARE[i], SERVING_SHARE[j]) for i in (0, 2) for j in (0, 2)]
    pairs = [(TRAINING_SHARE[1], SERVING_SHARE[1]), *ends]
    bills = []
    for shares in pairs:
        each = {name: _bills(model, name, users, target, days, *shares) for name in machines}
        bills.append(each)
    return TwoPlans(model, users, target, days, tuple(bills))


def _bills(
    model: str, machine: str, users: float, target: float, days: float, train: float, serve: float
) -> tuple[float, float, float]:
    """Hours of training, and the price of training and of serving, of one kind of machine."""
    made = plan(
        model, users=users, target=target, machine=machine, training_share=train,
        serving_share=serve,
    )  # fmt: skip
    training, serving = made.training, made.serving
    if training is None or serving is None or not training.price or not serving.price_per_day:
        raise BadValue(f"{model} on {machine}: its tokens or the rent are not published.")
    return training.hours.value, training.price.value, serving.price_per_day.value * days


def _rounded(value: float) -> str:
    """Three digits: the shares of the bounds are known no better."""
    return f"{float(f'{value:.3g}'):,.0f}"


def _cheapest(bills: Bills, phase: int) -> str:
    return min(bills, key=lambda name: bills[name][phase])


def _least(bills: Bills, phase: int) -> float:
    return bills[_cheapest(bills, phase)][phase]


def _one_kind(bills: Bills) -> float:
    """The least life cost with one kind for both phases."""
    return min(train + serve for _, train, serve in bills.values())


def _spread(ratios: list[float]) -> Estimate:
    """The ratio at the values of the shares, from the least to the most at their ends."""
    low, high = min(ratios), max(ratios)
    return Estimate(ratios[0], low, max(high, low + 1e-9), "×")  # no width would decide nothing
