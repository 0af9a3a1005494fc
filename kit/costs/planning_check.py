"""The planner against what was published: predicted hours of accelerators beside those that ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.core.results import Result
from kit.core.units import digits, words
from kit.costs.planning import STEP_FLOPS, plan
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
                amount(round(row.predicted_h), "h"),
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
