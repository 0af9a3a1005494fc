"""What others measured on small devices and published, to stand beside a run at the edge."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kit.core.tables import Table
from kit.core.units import words


@dataclass(frozen=True)
class PublishedFigure:
    """One figure: which device, which work, how long, and who says so."""

    device: str
    kind: str  # of device: microcontroller, phone …
    task: str
    date: str
    source: str
    latency_s: float | None = None
    answers_per_s: float | None = None
    joules_per_answer: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds per answer, whichever of the two the source gives."""
        if self.latency_s is not None:
            return self.latency_s
        assert self.answers_per_s is not None
        return 1 / self.answers_per_s


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """All figures: the file `published_devices.toml`.

    >>> published_figures()[0].kind
    'microcontroller'
    """
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return tuple(PublishedFigure(**figure) for figure in tomllib.loads(text)["figures"])


def published_table() -> Table:
    """The figures as a table; nothing of it was measured here."""
    rows = [
        (
            f"{each.kind}: {each.device}",
            each.task,
            words(each.seconds, "s"),
            words(each.joules_per_answer, "J"),
            each.date,
            each.source,
        )
        for each in published_figures()
    ]
    header = ("device", "task", "per answer", "energy", "date", "published by")
    caption = (
        "Published by others, not measured here. Models, runtimes and threads differ from row to "
        "row and from this course: compare orders of size only."
    )
    return Table(header, rows, caption)
