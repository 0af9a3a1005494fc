"""The pole on a cart when answers come late: any delay, and another delay for each answer.

`kit.workloads.drive` counts delays in whole control periods. Here time passes in steps of 5 ms, so
that a delay of ten milliseconds differs from none, and each answer can have a delay of its own.

Shapes: E episodes, P control periods.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kit.core.checks import is_number
from kit.core.errors import BadValue
from kit.core.statistics import Estimate, average
from kit.data.cart_pole import PERIOD_S, PUSH_N, is_upright, next_states
from kit.workloads.control import EPISODES, MAX_STEPS, checked_actions

STEP_S = 0.005  # of the physics: a quarter of a control period
STEPS = round(PERIOD_S / STEP_S)  # per control period
START = 0.05  # the four numbers of a starting state lie within ± this, as in Gymnasium
LONGEST_S = 2.0  # of a delay

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Delays:
    """How late each answer is: a mean, and how far single answers are from it.

    Every answer of an erratic kind is either early or late, with equal chance: the mean less the
    jitter, or the mean plus the jitter.

    >>> Delays(0.03), Delays(0.03, jitter_s=0.02)
    (30 ms, steady, 30 ms on average, 10 or 50 ms)
    """

    mean_s: float
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("mean_s", self.mean_s), ("jitter_s", self.jitter_s)):
            steps = value / STEP_S if is_number(value) and 0 <= value <= LONGEST_S else math.nan
            if math.isnan(steps) or abs(steps - round(steps)) > 1e-6:
                raise BadValue(
                    f"{name}={value!r}: needs seconds from 0 to {LONGEST_S:g}, in steps of "
                    f"{STEP_S:g}, for example 0.01 for ten milliseconds."
                )
        if self.jitter_s > self.mean_s:
            raise BadValue(
                f"jitter_s={self.jitter_s:g} with mean_s={self.mean_s:g}: an answer would come "
                f"before its question. Needs a jitter of at most the mean."
            )

    def drawn(self, episodes: int, generator: torch.Generator) -> Tensor:
        """The delay of one answer per episode, in steps of the physics: (E,) int64."""
        mean, jitter = round(self.mean_s / STEP_S), round(self.jitter_s / STEP_S)
        sign = 2 * torch.randint(2, (episodes,), generator=generator) - 1
        return mean + jitter * sign

    def __repr__(self) -> str:
        low, mean, high = (
            f"{1000 * (self.mean_s + sign * self.jitter_s):.0f}" for sign in (-1, 0, 1)
        )
        return (
            f"{mean} ms on average, {low} or {high} ms" if self.jitter_s else f"{mean} ms, steady"
        )


@dataclass
class Answers:
    """The answers for the states of one period, on their way."""

    period: int
    pushes: Tensor  # (E,)
    steps: Tensor  # (E,) at which each arrives
    next_step: int  # at which the next of them arrives; -1: all have arrived


class LatePoles:
    """E poles on carts, each pushed by the newest answer that has arrived.

    Until the first answer arrives, the cart is pushed left and right in turn, which comes closest
    to doing nothing. An answer that arrives after a newer one is ignored.
    """

    def __init__(self, episodes: int = 1, seed: int = 0):
        self.random = torch.Generator().manual_seed(seed)
        start = torch.rand(episodes, 4, generator=self.random, dtype=torch.float64)
        self.states = START * (2 * start - 1)  # (E, 4)
        self.upright = torch.ones(episodes, dtype=torch.bool)
        self.periods = 0  # that have passed
        self._push = torch.zeros(episodes, dtype=torch.int64)  # (E,) in force now
        self._asked = torch.full((episodes,), -1)  # the period of the state that it answers
        self._coming: list[Answers] = []

    def period(self, predict: Predict, delays: Delays) -> Tensor:
        """Ask about the states now, and let 20 ms pass: whether each pole still stands, (E,)."""
        pushes, now = checked_actions(predict, self.states), self.periods * STEPS
        steps = now + delays.drawn(len(pushes), self.random)
        self._coming.append(Answers(self.periods, pushes, steps, int(steps.min())))
        self._push = torch.where(self._asked < 0, self.periods % 2, self._push)
        before, newtons = self.states, None
        for step in range(now, now + STEPS):
            if self._arrive(step) or newtons is None:
                newtons = PUSH_N * (2 * self._push - 1)
            self.states = next_states(self.states, newtons, STEP_S)
        # A pole that has fallen stays where it is. As in Gymnasium, one look per period decides.
        self.states = torch.where(self.upright.unsqueeze(1), self.states, before)
        self.upright = self.upright & is_upright(self.states)
        self.periods += 1
        return self.upright

    def _arrive(self, step: int) -> bool:
        """Put the answers in force that arrive at this step; whether there are any."""
        due = [each for each in self._coming if each.next_step <= step]
        for each in due:
            newer = (each.steps == step) & (each.period > self._asked)
            self._push = torch.where(newer, each.pushes, self._push)
            self._asked = torch.where(newer, each.period, self._asked)
            later = each.steps[each.steps > step]
            each.next_step = int(later.min()) if len(later) else -1
        self._coming = [each for each in self._coming if each.next_step >= 0]
        return bool(due)


def drive_late(
    predict: Predict,
    delays: Delays | float,
    *,
    episodes: int = EPISODES,
    periods: int = MAX_STEPS,
    seed: int = 0,
) -> Tensor:
    """The share of the periods for which each pole stood, when answers come late: (E,).

    Parameters
    ----------
    predict
        From scaled states (E, 4), see `kit.data.cart_pole`, to logits (E, 2). All episodes run at
        once, so it is called once per control period of 20 ms.
    delays
        `Delays`, or the seconds of a steady delay, in steps of 5 ms.
    episodes, periods, seed
        How many poles, for how many periods, and the seed of their starts and of the jitter.

    Raises
    ------
    BadValue
        A delay is not a multiple of 5 ms between 0 and 2 s.
    ShapeMismatch
        The outputs are not two logits per episode.

    Notes
    -----
    The equations are those of Gymnasium's CartPole-v1, which computes them in steps of 20 ms.

    Examples
    --------
    >>> from kit.data.cart_pole import STATE_SCALE, expert_action
    >>> def controller(inputs):
    ...     return torch.nn.functional.one_hot(expert_action(inputs * torch.tensor(STATE_SCALE)), 2)
    >>> drive_late(controller, 0.0, episodes=2, periods=50).tolist()
    [1.0, 1.0]

    Explained in lesson 12.
    """
    how = delays if isinstance(delays, Delays) else Delays(delays)
    poles, stood = LatePoles(episodes, seed), torch.zeros(episodes)
    for _ in range(periods):
        standing = poles.period(predict, how)
        stood += standing
        if not standing.any():
            break
    return stood / periods


def average_return(shares: Tensor) -> Estimate:
    """The mean of the shares (E,) of the periods for which poles stood, with its 95 % interval.

    >>> average_return(torch.ones(100)).value
    1.0
    """
    values = shares.double()
    total, squares = float(values.sum()), float(values.square().sum())
    return average(total, squares, len(values), limits=(0, 1))


def tilts(predict: Predict, delays: Delays | float, *, periods: int = 150, seed: int = 0) -> Tensor:
    """The tilt of one pole, in degrees, after each period until it falls: (P,) at most."""
    how = delays if isinstance(delays, Delays) else Delays(delays)
    pole, found = LatePoles(1, seed), []
    for _ in range(periods):
        standing = bool(pole.period(predict, how)[0])
        found.append(math.degrees(float(pole.states[0, 2])))
        if not standing:
            break
    return torch.tensor(found)
