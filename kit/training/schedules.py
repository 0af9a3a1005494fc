"""Learning-rate schedules: by which share of `lr` each step is made, from 0 to 1.

constant    the same at every step
linear      down to 0 in a straight line
cosine      down to 0 along half a cosine (Loshchilov & Hutter, "SGDR", 2017)
trapezoid   constant, then down to 0 in a line over the last 40 % (Hägele et al., "Scaling Laws
            and Compute-Optimal Training Beyond Fixed Training Durations", 2024)

Large steps learn fast, but end up circling the minimum at a distance; small ones get closer. A
schedule takes large steps first. So it has to know from the start when the training will end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kit.core.errors import UnknownName

DECAY = 0.4  # the share of the steps in which a trapezoid falls

# Name -> share of `lr`, given the share of the training that is done (0 to 1).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    # Above 1 until the last 40 % begin: `min` makes that part flat.
    "trapezoid": lambda done: min(1.0, (1 - done) / DECAY),
}


def rate_at(step: int, total: int, schedule: str, warmup: int) -> float:
    """The factor of the learning rate at a step, counted from 0.

    During the first `warmup` steps it rises in a straight line; the schedule gets the remaining
    steps.

    >>> [rate_at(step, total=6, schedule="linear", warmup=2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]

    Explained in lesson 08.
    """
    if schedule not in SCHEDULES:
        raise UnknownName("schedule", schedule, SCHEDULES)
    # AdamW divides by a mean of squared gradients. After few steps that mean is unreliable, and a
    # full step could go far in a bad direction: so the first steps are small.
    if step < warmup:
        # With `step` alone, the first step would have the rate 0 and change nothing.
        return (step + 1) / warmup
    return SCHEDULES[schedule]((step - warmup) / max(total - warmup, 1))
