"""Drift the digits, and watch confidence, detectors and the true score.

drifted          examples after several kinds of drift together
drift_picture    the panel's picture, also without the panel
drift_sliders    a slider per kind of drift, above that picture
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from kit.core.statistics import average
from kit.course.panels import Explorer, explore
from kit.data import Split
from kit.monitoring import Drift, changed, drift
from kit.monitoring.views import views_of
from kit.plots import Picture, dots

DEGREES: dict[str, list[float]] = {  # kind -> the values of its slider; the middle one is 0
    "rotation": [-30, -20, -10, -5, 0, 5, 10, 20, 30],
    "thickness": [-0.8, -0.5, -0.2, 0, 0.2, 0.5, 0.8],
    "noise": [0, 0.05, 0.1, 0.2, 0.4],
    "mix": [0, 0.5, 0.7, 0.9],  # the share of the digits 0, 1 and 2; 0: as they come
}

SAYS: dict[str, Callable[[float], str]] = {  # a value of a slider, in words
    "rotation": lambda degrees: f"{degrees:g}°",
    "thickness": lambda by: (
        f"{abs(by):g} {'thicker' if by > 0 else 'thinner'}" if by else "as it was"
    ),
    "noise": lambda deviation: f"deviation {deviation:g}" if deviation else "none",
    "mix": lambda share: f"{share:.0%} are 0, 1 or 2" if share else "as they come",
}


def drifted(examples: Split, **degrees: float) -> Split:
    """The examples after these kinds of drift, one after the other."""
    for kind, degree in degrees.items():
        examples = changed(examples, kind, degree)
    return examples


def drift_picture(model: nn.Module, reference: Split, examples: Split, **degrees: float) -> Picture:
    """True score, confidence, and two effects, all from 0 to 1; the caption names the alarms."""
    now = drifted(examples, **degrees)
    found = drift(reference, now, model=model, trials=0)
    return _picture(found, views_of(model, now.inputs)["confidence"])


def _picture(found: Drift, confidence: np.ndarray) -> Picture:
    assert found.change is not None  # both splits have labels
    total, squares = float(confidence.sum()), float(np.square(confidence).sum())
    sure = average(total, squares, len(confidence), "%", limits=(0, 1))
    score, outputs, auc = found.change.now, found["outputs"].effect, found["classifier"].effect
    rows = {
        "true score": (score.value, score.low, score.high),
        "mean confidence": (sure.value, sure.low, sure.high),
        "KS distance of outputs": (outputs, outputs, outputs),
        "AUC of old against new": (auc, auc, auc),
    }
    alarms = [each.detector.name for each in found.detections if each.p < found.alpha]
    who = f"Alarm by: {', '.join(alarms)}." if alarms else "No detector alarms."
    caption = f"{who} The true score, which needs labels, is {score}, "
    caption += f"{found.change.difference} against before; mean confidence {sure}."
    level = ("score before", found.change.then.value)
    return dots(rows, "share, distance or area (0 to 1)", caption=caption, level=level)


def drift_sliders(model: nn.Module, reference: Split, examples: Split) -> Explorer:
    """Sliders that drift the examples; the picture shows what can be seen, and the true score.

    Parameters
    ----------
    model
        A classifier of images.
    reference, examples
        Labelled images like those that the model was trained for; not the training data.

    Explained in the lesson about drift.
    """

    def picture(**degrees: float) -> Picture:
        return drift_picture(model, reference, examples, **degrees)

    panel = explore(picture, **DEGREES)
    panel.panel.controls = [
        {**control, "texts": [*map(SAYS[kind], DEGREES[kind])]}
        for kind, control in zip(DEGREES, panel.panel.controls, strict=True)
    ]
    # Noise and the mix of classes begin at their first value: nothing has drifted yet.
    panel.panel.chosen = [values.index(0) for values in DEGREES.values()]
    return panel
