"""What a plan says: machines and time of a training, machines that serve, bounds beside both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN, words
from kit.costs.published import amount, ranged
from kit.plots import Table


@dataclass(frozen=True)
class TrainingPlan:
    """Machines and time of a training."""

    item: str  # "tokens" or "examples"
    items: float
    hours: Estimate  # of machines
    rate: Estimate  # items per second of a machine
    bound_rate: float | None  # that no machine of this kind exceeds; None: unknown
    binds: str  # what the bound comes from; "": unknown
    flops_per_byte: float
    held_bytes: float  # weights, gradients, optimizer states
    machines: int
    least_machines: int  # whose memory holds these
    days: Estimate
    price: Estimate | None  # None: no price of this machine is known

    @property
    def bound_hours(self) -> float | None:
        """Machine hours at the bound."""
        return None if self.bound_rate is None else self.items / self.bound_rate / 3600


@dataclass(frozen=True)
class ServingPlan:
    """Machines that answer at a pace."""

    item: str
    demand: float  # items per second, of all users
    per_machine: Estimate  # items per second
    bound_per_machine: float | None
    shares: dict[str, float]  # of the bound's time, by what takes it; the largest first
    flops_per_byte: float
    weight_bytes: float  # for a model that was measured: all that a prediction holds
    cache_bytes: float | None  # of all texts of a replica; None: the model has no cache
    machines_per_replica: int
    replicas: int
    price_per_day: Estimate | None
    batch_size: int  # texts or examples that a replica serves at once
    batch_limit: str = ""  # what stops a larger batch
    pace: Estimate | None = None  # tokens per second of one text

    @property
    def machines(self) -> int:
        """All machines that serve."""
        return self.replicas * self.machines_per_replica

    @property
    def binds(self) -> str:
        """What takes the largest share of the bound's time; "" where the bound is unknown."""
        return next(iter(self.shares), "")


@dataclass(frozen=True)
class Plan(Result):
    """What both phases of a model need."""

    model: str
    machine: str
    basis: str  # how the rates were found
    training: TrainingPlan | None
    serving: ServingPlan | None
    ridge: float | None = None  # FLOPs per byte that the machine can do: above, FLOPs bind

    def __repr__(self) -> str:
        parts = []
        if (t := self.training) is not None:
            parts.append(f"training {t.machines:,} machines for {ranged(t.days, 'days')}")
        if (s := self.serving) is not None:
            parts.append(f"serving {s.machines:,} machines")
        return f"{self.model} on {self.machine}: {'; '.join(parts)}"

    def table(self) -> Table:
        """Both phases side by side: rates, bounds, what binds, machines, time, price."""
        columns = {}
        if self.training is not None:
            columns["training"] = _training_cells(self.training)
        if self.serving is not None:
            columns["serving"] = _serving_cells(self.serving)
        rows = list(zip(ROWS, *columns.values(), strict=True))
        ridge = f" It can do {words(self.ridge)} FLOPs per byte." if self.ridge else ""
        caption = f"{self.model} on {self.machine}, {self.basis}.{ridge}"
        details = "Left out: FLOPs of attention, links between machines, hours without demand."
        return Table(("", *columns), rows, caption, details)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of both phases."""
        t, s = self.training, self.serving
        training = t and {
            t.item: t.items,
            "machine_hours_h": t.hours.to_dict(),
            f"machine_{t.item}_per_s": t.rate.to_dict(),
            f"bound_{t.item}_per_s": t.bound_rate,
            "bound_h": t.bound_hours,
            "binds": t.binds,
            "flops_per_byte": t.flops_per_byte,
            "held_bytes": t.held_bytes,
            "machines": t.machines,
            "least_machines": t.least_machines,
            "days": t.days.to_dict(),
            "price": t.price and t.price.to_dict(),
        }
        serving = s and {
            f"demand_{s.item}_per_s": s.demand,
            f"machine_{s.item}_per_s": s.per_machine.to_dict(),
            f"bound_{s.item}_per_s": s.bound_per_machine,
            "binds": s.binds,
            "shares": s.shares,
            "flops_per_byte": s.flops_per_byte,
            "weight_bytes": s.weight_bytes,
            "cache_bytes": s.cache_bytes,
            "batch_size": s.batch_size,
            "batch_limit": s.batch_limit,
            f"text_{s.item}_per_s": s.pace and s.pace.to_dict(),
            "replicas": s.replicas,
            "machines": s.machines,
            "price_per_day": s.price_per_day and s.price_per_day.to_dict(),
        }
        named = {"model": self.model, "machine": self.machine, "basis": self.basis}
        return {**named, "training": training, "serving": serving, "ridge": self.ridge}


ROWS = (
    "to do",
    "a machine gives",
    "at most (roofline)",
    "what binds that rate",
    "FLOPs per byte moved",
    "memory holds",
    "machines",
    "what sets their number",
    "time",
    "price",
)


def _training_cells(t: TrainingPlan) -> tuple[str, ...]:
    by_memory = t.machines == t.least_machines
    return (
        amount(t.items, t.item),
        ranged(t.rate),
        _or_dash(t.bound_rate, f"{t.item}/s"),
        t.binds or UNKNOWN,
        words(t.flops_per_byte),
        f"{words(t.held_bytes, 'B')}: weights, gradients, optimizer",
        f"{t.machines:,}, {ranged(t.hours, 'h')}",
        f"memory: at least {t.least_machines:,}" if by_memory else "the deadline",
        ranged(t.days, "days"),
        ranged(t.price) if t.price else UNKNOWN,
    )


def _serving_cells(s: ServingPlan) -> tuple[str, ...]:
    cache = "" if not s.cache_bytes else f" + {words(s.cache_bytes, 'B')}: cache"
    limit = f"; more: {s.batch_limit}" if s.batch_limit else ""
    each = f", each with {ranged(s.pace)}" if s.pace else ""
    replicas = f"{s.replicas:,} × {s.machines_per_replica:,}"
    return (
        amount(s.demand, f"{s.item}/s"),
        ranged(s.per_machine),
        _or_dash(s.bound_per_machine, f"{s.item}/s"),
        _most(s.shares),
        words(s.flops_per_byte),
        f"{words(s.weight_bytes, 'B')}: weights{cache}",
        f"{s.machines:,} ({replicas} a replica)",
        f"the demand; {s.batch_size:,} at once in a replica{limit}",
        f"every day{each}",
        f"{ranged(s.price_per_day)} a day" if s.price_per_day else UNKNOWN,
    )


def _or_dash(value: float | None, unit: str) -> str:
    return UNKNOWN if value is None else amount(value, unit)


def _most(shares: dict[str, float]) -> str:
    """The two largest shares of the time, in words."""
    if len(shares) < 2:
        return next(iter(shares), UNKNOWN)
    return ", ".join(f"{name} ({words(share, '%')})" for name, share in list(shares.items())[:2])
