"""What a plan says: machines and time of a training, machines that serve, bounds beside both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN
from kit.costs.published import amount, ranged
from kit.plots import Table


@dataclass(frozen=True)
class TrainingPlan:
    """Machines and time of a training."""

    hours: Estimate  # of machines
    bound_hours: float | None  # at 100 % of the peak; None: unknown
    machines: int
    least_machines: int  # whose memory holds weights, gradients and moments
    days: Estimate
    price: Estimate | None  # None: no price of this machine is known


@dataclass(frozen=True)
class ServingPlan:
    """Machines that answer at a pace."""

    demand: float  # items per second, of all users
    item: str
    per_machine: Estimate  # items per second
    bound_per_machine: float | None
    machines_per_replica: int
    replicas: int
    price_per_day: Estimate | None

    @property
    def machines(self) -> int:
        """All machines that serve."""
        return self.replicas * self.machines_per_replica


@dataclass(frozen=True)
class Plan(Result):
    """What both phases of a model need."""

    model: str
    machine: str
    basis: str  # how the rates were found
    training: TrainingPlan | None
    serving: ServingPlan | None

    def __repr__(self) -> str:
        parts = [f"{name} {value}" for name, value, _ in self.table().rows if "machines" in name]
        return f"{self.model} on {self.machine}: {'; '.join(parts)}"

    def table(self) -> Table:
        """Both phases, each with the bound that no machine of this kind exceeds."""
        rows = [*self._training_rows(), *self._serving_rows()]
        caption = f"{self.model} on {self.machine}: {self.basis}."
        details = "Left out: attention, the cache, prefill, links between machines."
        return Table(("", "plan", "bound (roofline)"), rows, caption, details)

    def _training_rows(self) -> list[tuple[str, str, str]]:
        if (t := self.training) is None:
            return []
        bound = None if t.bound_hours is None else t.bound_hours / 24 / t.machines
        return [
            ("training: machine hours", ranged(t.hours, "h"), _or_dash(t.bound_hours, "h")),
            ("training: machines", f"{t.machines:,}", f"{t.least_machines:,} (memory)"),
            ("training: time", ranged(t.days, "days"), _or_dash(bound, "days")),
            ("training: price", ranged(t.price) if t.price else UNKNOWN, ""),
        ]

    def _serving_rows(self) -> list[tuple[str, str, str]]:
        if (s := self.serving) is None:
            return []
        unit = f"{s.item}/s"
        per_day = ranged(s.price_per_day) if s.price_per_day else UNKNOWN
        bound = _or_dash(s.bound_per_machine, unit)
        return [
            ("serving: demand", amount(s.demand, unit), ""),
            ("serving: a machine gives", ranged(s.per_machine, unit), bound),
            ("serving: machines", f"{s.machines:,} ({s.replicas:,} replicas)", ""),
            ("serving: price of a day", per_day, ""),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of both phases."""
        t, s = self.training, self.serving
        training = t and {
            "machine_hours_h": t.hours.to_dict(),
            "bound_h": t.bound_hours,
            "machines": t.machines,
            "days": t.days.to_dict(),
            "price": t.price and t.price.to_dict(),
        }
        serving = s and {
            f"demand_{s.item}_per_s": s.demand,
            f"machine_{s.item}_per_s": s.per_machine.to_dict(),
            f"bound_{s.item}_per_s": s.bound_per_machine,
            "replicas": s.replicas,
            "machines": s.machines,
            "price_per_day": s.price_per_day and s.price_per_day.to_dict(),
        }
        named = {"model": self.model, "machine": self.machine, "basis": self.basis}
        return {**named, "training": training, "serving": serving}


def _or_dash(value: float | None, unit: str) -> str:
    return UNKNOWN if value is None else amount(value, unit)
