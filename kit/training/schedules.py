"""How the learning rate goes over a training: as a share of `lr`, from 0 to 1.

constant    the same at every step
linear      down to 0 in a straight line
cosine      down to 0 along half a cosine (Loshchilov & Hutter, "SGDR", 2017)
trapezoid   constant, and down to 0 in a line over the last 40 % (Hägele et al., "Scaling Laws
            and Compute-Optimal Training Beyond Fixed Training Durations", 2024)

Large steps learn fast and end far from the minimum that they circle; small ones at the end reach
it. Which is why a training that decays its rate has to know from the start when it will end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kit.core.errors import UnknownName

DECAYING = 0.4  # the last part of a trapezoid

SCHEDULES: dict[str, Callable[[float], float]] = {  # of the share of the way behind it, 0 to 1
    "constant": lambda way: 1.0,
    "linear": lambda way: 1 - way,
    "cosine": lambda way: (1 + math.cos(math.pi * way)) / 2,
    "trapezoid": lambda way: min(1.0, (1 - way) / DECAYING),
}


def rate_at(step: int, total: int, schedule: str, warmup: int) -> float:
    """What the learning rate is multiplied with at a step, counted from 0.

    During the first `warmup` steps it rises in a line, since AdamW's means know nothing yet; the
    schedule has the steps that are left.

    >>> [rate_at(step, total=6, schedule="linear", warmup=2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]

    Explained in lesson 08.
    """
    if schedule not in SCHEDULES:
        raise UnknownName("schedule", schedule, SCHEDULES)
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[schedule]((step - warmup) / max(total - warmup, 1))
