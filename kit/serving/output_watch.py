"""A server that watches its answers: are they distributed as those of a reference?

The model's thread only appends outputs to a bounded deque. A thread of its own compares them with
the reference, once a minute or when that many new answers have come, and sets three gauges:

kit_drift_effect      the largest Kolmogorov-Smirnov distance of a class's probability, 0 to 1
kit_drift_p_value     how often chance alone brings at least that, corrected for the classes
kit_drift_examples    answers that were compared; 0: not yet

Shapes: N rows of the reference, M recent rows, C classes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kit.core.errors import BadValue

if TYPE_CHECKING:
    from kit.serving.metrics import Metrics
    from kit.serving.served_model import Arrays, ServedModel

REFERENCE = "reference.safetensors"  # in the server's private folder
RECENT = 500  # rows: enough to notice a shift of a distribution by a seventh
EVERY_S = 60.0  # between two looks; each look is a chance for a false alarm
log = logging.getLogger("kit.serving")


def watched(model: ServedModel, folder: Path, metrics: Metrics) -> ServedModel:
    """The same model, with its outputs watched if the folder has a reference.

    Raises
    ------
    BadValue
        The model has no single output (B, C), or other classes than the reference.
    """
    if not (folder / REFERENCE).exists():
        return model
    from kit.monitoring.reference import read_reference

    reference = read_reference(folder / REFERENCE)
    name = _output_of(model, reference.shape[1])
    watch = OutputWatch(reference, metrics)

    def predict(arrays: Arrays) -> Arrays:
        outputs = model.predict(arrays)
        watch.add(outputs[name])
        return outputs

    return replace(model, predict=predict)


def _output_of(model: ServedModel, classes: int) -> str:
    """The name of the output to watch."""
    shapes = {output.name: output.shape for output in model.outputs}
    if list(shapes.values()) != [(-1, classes)]:
        raise BadValue(
            f"watch: the reference has outputs of {classes} classes, the model's are {shapes}. "
            f"Make the reference with this model: kit.monitoring.save_reference(path, model, "
            f"inputs)."
        )
    return next(iter(shapes))


class OutputWatch:
    """The latest outputs of a classifier beside a reference, as gauges.

    Parameters
    ----------
    reference
        (N, C) probabilities.
    metrics
        The worker's metrics, which get three gauges more.
    recent
        Rows that are compared; a look also comes as soon as that many are new.
    every_s
        The longest time between two looks, if there is anything new.
    """

    def __init__(
        self,
        reference: np.ndarray,
        metrics: Metrics,
        *,
        recent: int = RECENT,
        every_s: float = EVERY_S,
    ):
        import scipy.stats  # noqa: F401  # takes a second: now, and not beside requests

        from kit.monitoring.two_samples import least_examples

        self.reference, self.every_s = reference, every_s
        self.least = max(10, least_examples(len(reference), reference.shape[1], alpha=0.05))
        self._recent: deque[np.ndarray] = deque(maxlen=recent)
        self._new = 0
        self._lock, self._due = threading.Lock(), threading.Event()
        self._effect = metrics.extra_gauge("kit_drift_effect", "Largest KS distance", "livemax")
        self._p = metrics.extra_gauge("kit_drift_p_value", "Corrected p-value", "livemin")
        self._examples = metrics.extra_gauge("kit_drift_examples", "Compared answers", "livesum")
        self._p.set(1.0)  # nothing was compared yet
        threading.Thread(target=self._work, name="kit-watch", daemon=True).start()

    def add(self, outputs: np.ndarray) -> None:
        """(B, C) logits of a batch: the only thing that happens between requests."""
        with self._lock:
            self._recent.extend(outputs)
            self._new += len(outputs)
        if self._new >= self._recent.maxlen:  # type: ignore[operator]
            self._due.set()

    def _work(self) -> None:
        while True:
            self._due.wait(self.every_s)
            self._due.clear()
            try:
                self.look()
            except Exception:  # a watcher that fails must not stop the server
                log.exception("the outputs could not be compared with the reference")

    def look(self) -> None:
        """Compare, if enough new answers have come."""
        from kit.monitoring.two_samples import largest_ks, moving_columns

        with self._lock:
            rows, self._new, new = list(self._recent), 0, self._new
        now = probabilities(np.array(rows)) if rows else np.empty((0, 0))
        if not new or len(now) < self.least:
            return
        self._examples.set(len(now))
        if moving_columns(self.reference, now)[0].shape[1]:
            found = largest_ks(self.reference, now, np.random.default_rng(0))
            self._effect.set(found.effect)
            self._p.set(found.p)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """(M, C) logits as probabilities; rows with NaN or infinity are left out.

    >>> probabilities(np.array([[0.0, 0.0], [0.0, np.nan]])).tolist()
    [[0.5, 0.5]]
    """
    finite = logits[np.isfinite(logits).all(axis=1)].astype(np.float64)
    grown = np.exp(finite - finite.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
