"""The planner against what was published: hours of trainings, and tokens per second of services."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from kit.core.results import Result
from kit.core.units import digits, words
from kit.costs.planning import STEP_FLOPS, plan
from kit.costs.planning_serving import TokenTime, replica_of
from kit.costs.published import Published, amount, of_kind, published
from kit.plots import Picture, Table, dots

SHARE = 0.40  # of the 16-bit dense peak: a common rule of thumb
HEADER = (
    "",
    "6ND (FLOPs)",
    "predicted",
    "published",
    "class, date",
    "published ÷ predicted",
    "equal at",
)


SERVED_HEADER = (
    "",
    "texts at once, tokens",
    "at most (roofline)",
    "published",
    "share",
    "what binds it",
    "by FLOPs alone",
)


@dataclass(frozen=True)
class Checked:
    """One published training: what the planner says, and what was published."""

    card: Published
    flops: float
    predicted_h: float
    published_h: float
    equal_share: float  # of the peak: with it, the planner would have been right

    @property
    def error(self) -> float:
        """Published ÷ predicted hours: 1 is right, 2 is twice as long as predicted."""
        return self.published_h / self.predicted_h


@dataclass(frozen=True)
class PlanCheck(Result):
    """The planner against each published training that gives its hours."""

    share: float
    rows: tuple[Checked, ...]

    def __getitem__(self, name: str) -> Checked:
        published(name)  # an unknown name gets its list
        return next(row for row in self.rows if row.card.name == name)

    def within(self, factor: float) -> int:
        """How many predictions are right within a factor."""
        return sum(1 / factor <= row.error <= factor for row in self.rows)

    def __repr__(self) -> str:
        worst = max(self.rows, key=lambda row: max(row.error, 1 / row.error))
        return (
            f"6ND at {words(self.share, '%')} of the peak: {self.within(1.1)} of "
            f"{len(self.rows)} trainings within 10 %, {self.within(2)} within a factor of 2; "
            f"the farthest is {worst.card.name}: {digits(worst.error)} × the prediction"
        )

    def table(self) -> Table:
        """A row per training: both hours, their ratio, and the share that would make it 1."""
        rows = [
            (
                row.card.name,
                f"{row.flops:.2e}",
                f"{float(f'{row.predicted_h:.3g}'):,.0f} h",  # a rule of thumb
                amount(row.published_h, "h"),
                f"{row.card['hours'].kind}, {row.card['hours'].date}",
                words(row.error, "×"),
                words(row.equal_share, "%"),
            )
            for row in self.rows
        ]
        caption = (
            f"Accelerator hours: predicted by 6ND at {words(self.share, '%')} of the dense 16-bit "
            f"peak, and published. Equal at: the share of the peak that would make both the same."
        )
        details = " ".join(f"{row.card.name}: {row.card['hours'].source}." for row in self.rows)
        return Table(HEADER, rows, caption, details)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each training."""
        return {
            "share": self.share,
            "runs": [
                {
                    "model": row.card.name,
                    "flops": row.flops,
                    "predicted_h": row.predicted_h,
                    "published_h": row.published_h,
                    "equal_share": row.equal_share,
                }
                for row in self.rows
            ],
        }

    def plot(self) -> Picture:
        """The share of the peak that each published training reached."""
        ranked = sorted(self.rows, key=lambda row: -row.equal_share)
        rows = {row.card.name: (row.equal_share, None, None) for row in ranked}
        quantity = "6ND ÷ (published hours × peak)"
        level = (f"the rule: {words(self.share, '%')}", self.share)
        return dots(rows, quantity, caption=f"{self!r}.", unit="%", level=level)


def against_published(share: float = SHARE) -> PlanCheck:
    """Predict the hours of each published training, and compare.

    >>> against_published()["llama-3.1-8b"].error > 2
    True
    """
    rows = []
    for card in of_kind("model"):
        if "hours" not in card:
            continue
        made = plan(card.name, machine=card.accelerator, training_share=share).training
        assert made is not None and made.bound_hours is not None
        hours = card.value("hours")
        flops = STEP_FLOPS * card.computing_params * card.value("tokens")
        rows.append(Checked(card, flops, made.hours.value, hours, made.bound_hours / hours))
    return PlanCheck(share, tuple(rows))


@dataclass(frozen=True)
class Served:
    """One published throughput, and the roofline's bound for the same texts."""

    card: Published
    token: TokenTime
    bound: float  # tokens per second of all machines
    flops_bound: float  # what 2 FLOPs per parameter would promise, without bytes and prompts

    @property
    def share(self) -> float:
        """Published ÷ bound."""
        return self.card.value("rate") / self.bound


@dataclass(frozen=True)
class ServingCheck(Result):
    """The roofline of serving against each published throughput."""

    rows: tuple[Served, ...]

    @property
    def shares(self) -> tuple[float, float, float]:
        """The lowest, the middle and the highest share of the bound that was reached."""
        ranked = sorted(row.share for row in self.rows)
        return ranked[0], statistics.median(ranked), ranked[-1]

    def __repr__(self) -> str:
        low, _, high = (words(share, "%") for share in self.shares)
        lowest = min(row.card.value("rate") / row.flops_bound for row in self.rows)
        return (
            f"{len(self.rows)} published services reach {low} to {high} of the roofline's bound; "
            f"of the bound by FLOPs alone as little as {words(lowest, '%')}"
        )

    def table(self) -> Table:
        """A row per service: the bound, what was measured, and what binds."""
        rows = [
            (
                row.card.what,
                "{:,.0f} × ({:,.0f} + {:,.0f})".format(
                    *(row.card.value(name) for name in ("batch", "prompt", "new"))
                ),
                amount(row.bound, "tokens/s"),
                amount(row.card.value("rate"), "tokens/s"),
                words(row.share, "%"),
                next(iter(row.token.shares)),
                amount(row.flops_bound, "tokens/s"),
            )
            for row in self.rows
        ]
        caption = (
            "Tokens per second of language models in 16 bits: at most, by bytes and FLOPs, and as "
            "published. Texts at once × (tokens of the prompt + new tokens)."
        )
        details = " ".join(
            f"{row.card.name}: {row.card['rate'].source}, {row.card['rate'].kind}."
            for row in self.rows
        )
        return Table(SERVED_HEADER, rows, caption, details)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each service."""
        return {
            "runs": [
                {
                    "service": row.card.name,
                    "bound_tokens_per_s": row.bound,
                    "published_tokens_per_s": row.card.value("rate"),
                    "flops_bound_tokens_per_s": row.flops_bound,
                    "binds": next(iter(row.token.shares)),
                }
                for row in self.rows
            ]
        }

    def plot(self) -> Picture:
        """The share of the bound that each service reached."""
        ranked = sorted(self.rows, key=lambda row: row.share)
        rows = {row.card.name: (row.share, None, None) for row in ranked}
        return dots(rows, "published ÷ roofline's bound", caption=f"{self!r}.", unit="%")


def serving_against_published() -> ServingCheck:
    """The roofline's tokens per second of each published service, and what it reached.

    >>> low, middle, high = serving_against_published().shares
    >>> low > 0.5, high < 1
    (True, True)
    """
    rows = []
    for card in of_kind("throughput"):
        model, machine = published(card.model), published(card.accelerator)
        size = model.value("params"), model.computing_params, model.value("cache_per_token")
        texts = card.value("prompt"), card.value("new")
        machines, batch = int(card.value("machines")), int(card.value("batch"))
        token = replica_of(*size, *texts, machines, machine).token(batch)
        rows.append(Served(card, token, batch / token.seconds, batch / token.flops_s))
    return ServingCheck(tuple(rows))
