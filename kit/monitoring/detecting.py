"""`kit.drift`: has anything changed, how far, how sure, and did it cost any score?

The order: check both samples  →  views of them (the model runs once)  →  every detector  →  the
same detectors where nothing has drifted (A/A)  →  and on fewer examples  →  the score.

Shapes: N, M examples then and now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from kit.core.checks import check_share, check_whole
from kit.core.statistics import Estimate, average, difference, proportion
from kit.data import Split
from kit.data.output_checks import checked_scores
from kit.monitoring.detectors import Detector, choose, find, holm
from kit.monitoring.drift_result import Change, Detection, Drift, Tried
from kit.monitoring.two_samples import Finding, Numbers
from kit.monitoring.views import (
    LEAST,
    as_examples,
    check_given_model,
    check_pair,
    check_targets,
    check_views,
    logits_and_embeddings,
    views_of,
)
from kit.workloads.workload import is_right

Views = Mapping[str, Numbers]
SIZES = (10, 20, 50, 100, 200, 500, 1_000, 2_000)  # examples from now that are tried for that


def drift(
    reference: Tensor | Split,
    now: Tensor | Split,
    *,
    model: nn.Module | None = None,
    detectors: Sequence[str] | None = None,
    score: Callable[[Tensor, Tensor], Tensor] = is_right,
    alpha: float = 0.05,
    trials: int = 100,
    seed: int = 0,
) -> Drift:
    """Compare what a model sees now with a reference: effects, p-values, false alarms, the score.

    Parameters
    ----------
    reference
        Inputs (N, …) from a time when all was well, or a split with targets. Do not give the
        training data: a model is surer of what it was trained on.
    now
        Inputs (M, …) of today, or a split if labels have come.
    model
        A classifier with logits (B, C). Without one, the inputs themselves are compared.
    detectors
        Names from `kit.monitoring.DETECTORS`; by default "outputs", "embeddings", "classifier" and
        "confidence", and without a model "features", "embeddings" and "classifier".
    score
        From outputs and targets to one value per example: `work.score`. It is shown if both samples
        have targets.
    alpha
        The share of false alarms that you accept, of all detectors together.
    trials
        How often each detector is tried where nothing has drifted: on two random parts of the
        reference. A quarter as many draws of each size show how many examples are needed. 0: none.
    seed
        Of everything drawn at random.

    Raises
    ------
    NotEnoughSamples
        Too few examples for a p-value: how many are needed.
    ShapeMismatch
        The examples of then and now have different shapes.
    BadValue
        NaN or infinity, nothing that varies, or targets that are not classes of the model.
    UnknownName
        An unknown detector; similar names are listed.

    Examples
    --------
    >>> import torch, kit
    >>> then, now = torch.randn(100, 4), torch.randn(50, 4) + 1
    >>> found = kit.drift(then, now, trials=4)
    >>> found.alarm, found["features"].p < 0.001
    (True, True)

    Notes
    -----
    A detector says that something changed, not that it matters. Only labels show the latter, which
    is why the score stands beside the detectors.

    Explained in the lesson about drift.

    Explained in lesson 13.
    """
    check_given_model(model)
    check_share("alpha", alpha, "a share of false alarms", strict=True)
    check_whole("trials", trials, low=0)
    (x0, y0), (x1, y1) = as_examples("reference", reference), as_examples("now", now)
    chosen, generator = choose(detectors, model is not None), np.random.default_rng(seed)
    check_pair(x0, x1, alpha, len(chosen))
    then, today = views_of(model, x0), views_of(model, x1)
    for detector in chosen:
        check_views(then, today, detector.view)
    findings = find(chosen, then, today, generator)
    chance, times_s = no_drift(chosen, then, len(x1), trials, generator)
    power = power_by_size(chosen, then, today, trials // 4, alpha, generator)
    pairs = zip(chosen, findings, holm([f.p for f in findings]), strict=True)
    return Drift(
        detections=tuple(
            Detection(
                d, f, p, tuple(row[i] for row in chance), tuple(row[i] for row in times_s), power[i]
            )
            for i, (d, f, p) in enumerate(pairs)
        ),
        alpha=alpha,
        n_reference=len(x0),
        n_now=len(x1),
        change=None if model is None or y0 is None or y1 is None
        else score_change(model, (x0, y0), (x1, y1), score),
        largest_tried=max(sizes(len(x1)), default=0) if trials else 0,
    )  # fmt: skip


def no_drift(
    detectors: Sequence[Detector],
    then: Views,
    m: int,
    trials: int,
    generator: np.random.Generator,
) -> tuple[list[list[Finding]], list[list[float]]]:
    """A/A trials: what the detectors find between two random parts of the reference; their seconds.

    One part is as large as the sample from now, but at most half of the reference. All parts come
    from one reference, so the trials resemble each other a little.
    """
    n = len(next(iter(then.values())))
    m = min(m, n // 2)
    found: list[list[Finding]] = []
    times_s: list[list[float]] = []
    for _ in range(trials if m >= LEAST else 0):
        order = generator.permutation(n)
        old, new = _rows(then, order[m:]), _rows(then, order[:m])
        edges = [time.perf_counter()]
        found.append([])
        for detector in detectors:
            found[-1] += find([detector], old, new, generator)
            edges.append(time.perf_counter())
        times_s.append(np.diff(edges).tolist())
    return found, times_s


def power_by_size(
    detectors: Sequence[Detector],
    then: Views,
    today: Views,
    draws: int,
    alpha: float,
    generator: np.random.Generator,
) -> list[tuple[Tried, ...]]:
    """For each detector, in how many draws of each size it alarms.

    Each is judged alone, by its own p-value. The sizes grow until all detectors alarm in 80 % of
    the draws of some size.
    """
    m = len(next(iter(today.values())))
    tried: list[list[Tried]] = [[] for _ in detectors]
    for size in sizes(m) if draws else ():
        drawn = [
            find(detectors, then, _rows(today, generator.permutation(m)[:size]), generator)
            for _ in range(draws)
        ]
        for i, each in enumerate(tried):
            each.append(Tried(size, sum(row[i].p < alpha for row in drawn), draws))
        if all(any(at.enough for at in each) for each in tried):
            break
    return [tuple(each) for each in tried]


def sizes(m: int) -> list[int]:
    """The numbers of examples to try: up to half of m, so that two draws differ."""
    return [size for size in SIZES if size <= m // 2]


def _rows(views: Views, rows: np.ndarray) -> dict[str, Numbers]:
    return {name: numbers[rows] for name, numbers in views.items()}


def score_change(
    model: nn.Module,
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
    score: Callable[[Tensor, Tensor], Tensor],
) -> Change:
    """The score on the labelled examples of then and of now, and their difference."""
    shares = []
    for name, (inputs, targets) in {"reference": before, "now": after}.items():
        logits = logits_and_embeddings(model, inputs)[0]
        check_targets(name, targets, logits.shape[1])
        values = checked_scores(score, logits, targets.to(logits.device)).double()
        shares.append(_share(values.cpu().numpy()))
    then, today = shares
    return Change(then, today, difference(today, then))


def _share(values: np.ndarray) -> Estimate:
    """The mean with the interval that its kind of values allows."""
    if np.isin(values, (0, 1)).all():
        return proportion(float(values.sum()), len(values))
    total, squares = float(values.sum()), float(np.square(values).sum())
    return average(total, squares, len(values), "%", limits=(0, 1))
