"""Detectors of drift without labels: a view of the examples, and a test of two samples.

DETECTORS      name -> what is compared, how, and what its effect means
choose         the detectors that can be used with a model, or without one
find           all detectors on two sets of views
holm           p-values corrected for the number of detectors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.monitoring.two_samples import (
    Finding,
    Numbers,
    largest_ks,
    mean_shift,
    mmd,
    old_or_new,
)

Test = Callable[[Numbers, Numbers, np.random.Generator], Finding]


@dataclass(frozen=True)
class Detector:
    """One way to notice drift without labels."""

    name: str
    view: str  # what it compares, see `kit.monitoring.views.views_of`
    test: Test
    effect: str  # what its effect is, and its value without drift
    nothing: float = 0.0  # the effect without drift


DETECTORS = {
    detector.name: detector
    for detector in (
        Detector("outputs", "outputs", largest_ks, "largest KS distance of a class's probability"),
        Detector("embeddings", "embeddings", mmd, "maximum mean discrepancy"),
        Detector("classifier", "embeddings", old_or_new, "AUC of old against new", 0.5),
        Detector("confidence", "confidence", mean_shift, "mean confidence now − then"),
        Detector("features", "features", largest_ks, "largest KS distance of an input"),
    )
}
WITH_MODEL = ("outputs", "embeddings", "classifier", "confidence")
WITHOUT_MODEL = ("features", "embeddings", "classifier")  # embeddings are then the inputs


def choose(names: Sequence[str] | None, with_model: bool) -> list[Detector]:
    """The detectors of these names; by default those that fit."""
    possible = WITH_MODEL if with_model else WITHOUT_MODEL
    chosen = possible if names is None else [names] if isinstance(names, str) else names
    for name in chosen:
        if name not in DETECTORS:
            raise UnknownName("detector", name, DETECTORS)
        if not with_model and name not in WITHOUT_MODEL:
            raise BadValue(f"the detector {name!r} looks at a model's answers: give model=….")
    if not chosen or len(set(chosen)) < len(chosen):
        raise BadValue(f"detectors={list(chosen)}: needs at least one, and each once.")
    return [DETECTORS[name] for name in chosen]


def find(
    detectors: Sequence[Detector],
    then: Mapping[str, Numbers],
    now: Mapping[str, Numbers],
    generator: np.random.Generator,
) -> list[Finding]:
    """What each detector finds between two sets of views."""
    return [d.test(then[d.view], now[d.view], generator) for d in detectors]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected so that one test in all of them alarms by chance, not one in each.

    The smallest is multiplied by the number of tests, the next by one less, and so on; none may
    be below the one before it. If nothing drifts, the probability that any of them is below alpha
    is at most alpha, however the tests depend on each other.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Notes
    -----
    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
    Statistics 6 (1979).
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        least = max(least, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = least
    return corrected
