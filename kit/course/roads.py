"""A road is one way to an answer: what it gets right with how many labels, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from kit.core.errors import BadValue
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN, words
from kit.data.docstrings import Texts
from kit.plots import Table


@dataclass(frozen=True)
class Road:
    """One way to an answer, as it was measured."""

    scores: Mapping[int, Estimate]  # labels of each class -> share right
    training_s: Mapping[int, float]  # labels of each class -> seconds
    answer_s: Estimate  # of one text, on this computer
    keep_bytes: int
    answer_joules: float | None = None  # None: no meter can be read

    def __post_init__(self) -> None:
        if not self.scores or set(self.scores) != set(self.training_s):
            raise BadValue(
                f"scores with {sorted(self.scores)} labels and times with "
                f"{sorted(self.training_s)}; needs both for the same numbers of labels."
            )

    def labels_for(self, target: float) -> int | None:
        """The least number of labels of each class that was tried and reaches the target."""
        return next((n for n in sorted(self.scores) if self.scores[n].value >= target), None)


def roads_table(roads: Mapping[str, Road], labels: int, caption: str = "") -> Table:
    """A row per road, trained with this many labels of each class; as it is, with none."""
    rows = []
    for name, road in roads.items():
        n = labels if labels in road.scores else 0
        joules = road.answer_joules
        rows.append((
            name.replace("-", " "),
            repr(road.scores[n]),
            words(road.training_s[n], "s") if n else "none",
            repr(road.answer_s),
            UNKNOWN if joules is None else words(joules, "J"),
            words(road.keep_bytes, "B"),
        ))  # fmt: skip
    header = ("", f"right, {labels} labels each", "training", "an answer", "its energy", "to keep")
    return Table(header, rows, caption)


def train_all(
    train: Callable[[np.ndarray, int], Any],
    texts: Texts,
    sizes: Sequence[int],
    *,
    trainings: int,
    seed: int,
) -> dict[int, tuple[list[Any], float]]:
    """For each number of labels of each class: models, and the mean seconds of one training.

    Parameters
    ----------
    train
        From the indices of the labelled texts and the number of the training, a model on the CPU or
        one whose training has ended when it returns.
    texts
        From which the labelled ones are drawn: training i of each road gets the same.
    """
    from threadpoolctl import threadpool_limits

    found = {}
    # scikit-learn's solver makes many small products: several threads would wait for each other.
    # PyTorch has its own threads, which this does not limit.
    with threadpool_limits(1, user_api="blas"):
        for n in sizes:
            models, took_s = [], 0.0
            for i in range(trainings):
                rows, start = texts.draw(n, seed + i), perf_counter()
                models.append(train(rows, i))
                took_s += perf_counter() - start
            found[n] = models, took_s / trainings
    return found
