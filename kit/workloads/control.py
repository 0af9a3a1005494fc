"""The workload `control`: balance a pole on a cart, one decision every 20 ms.

Shapes: E episodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kit.core.checks import check_whole
from kit.core.errors import ShapeMismatch, UnknownName
from kit.data import load_cart_pole
from kit.data.cart_pole import scale_states
from kit.models import Policy
from kit.workloads.workload import Workload, is_right

MAX_STEPS = 500  # of 20 ms: Gymnasium ends an episode of CartPole-v1 here
EPISODES = 100  # per trial; all run at once, so that a training can afford ten trials
SEEDS = {"train": 0, "validation": 1, "test": 2}  # of the starting states, one per split


def control() -> Workload:
    """Keep a pole upright on a cart: stands for decisions under a deadline.

    The policy learns from a computed controller and is tested in Gymnasium's CartPole-v1. Always
    pushing left keeps the pole upright for 2 % of 500 steps, random pushes for 4 %, and pushing to
    the side to which the pole leans for 9 %. The controller keeps it upright to the end.

    >>> control().model()
    Policy(hidden=16): 114 parameters
    """
    return Workload(
        name="control",
        stands_for="self-driving and drones: decisions under a deadline",
        differs="four exact numbers and two actions, on a track that never changes; a car has "
        "cameras, other people on the road, and no second try",
        load=load_cart_pole,
        models={"policy": lambda _: Policy()},
        loss=cross_entropy,
        score=is_right,  # of single pushes; the trial replaces it
        measure=f"of {MAX_STEPS} steps upright",
        target=0.95,
        recipe={"epochs": 5, "batch_size": 64, "lr": 1e-2},
        trial=upright_share,
    )


def upright_share(predict: Callable[[Tensor], Tensor], split: str) -> Tensor:
    """(E,) the share of 500 steps that each episode lasted, from the starting states of a split."""
    if split not in SEEDS:
        raise UnknownName("split", split, SEEDS)
    return drive(predict, seed=SEEDS[split]) / MAX_STEPS


def drive(
    predict: Callable[[Tensor], Tensor],
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    delay: int = 0,
) -> Tensor:
    """The number of steps that each episode lasted, at most 500, with the step of the fall: (E,).

    All episodes run at once, so each step is one call of `predict`.

    Parameters
    ----------
    predict
        From scaled states (E, 4) on the CPU, see `kit.data.cart_pole`, to logits (E, 2).
    episodes
        Their number; each has its own starting state near upright.
    seed
        Of the starting states.
    delay
        Periods of 20 ms between a state and the action for it. A new prediction starts in each
        period, also while earlier ones are under way. Until the first arrives, the cart is pushed
        left and right in turn, which comes closest to doing nothing.

    Raises
    ------
    ShapeMismatch
        The outputs are not two logits per episode.
    """
    check_whole("episodes", episodes)
    check_whole("delay", delay, low=0)
    world, states = _world(episodes, seed)
    pending = deque(np.full(episodes, period % 2) for period in range(delay))
    running, steps = np.ones(episodes, dtype=bool), np.zeros(episodes, dtype=np.int64)
    while running.any():
        pending.append(checked_actions(predict, torch.from_numpy(states)).numpy())
        states, _, fallen, ended, _ = world.step(pending.popleft())
        steps += running
        running &= ~(fallen | ended)  # Gymnasium restarts by itself; only the first attempt counts
    return torch.from_numpy(steps)


def _world(episodes: int, seed: int) -> tuple[Any, np.ndarray]:
    """E carts, and their first states (E, 4)."""
    import gymnasium

    world = gymnasium.make_vec(
        "CartPole-v1", num_envs=episodes, vectorization_mode="vector_entry_point"
    )
    states, _ = world.reset(seed=seed)
    return world, states


def checked_actions(predict: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """The action with the larger logit for each state: (E, 4) -> (E,)."""
    logits = predict(scale_states(states))
    if logits.shape != (len(states), 2):
        raise ShapeMismatch(
            f"predict returned {tuple(logits.shape)}; needed ({len(states)}, 2): a logit for left "
            "and one for right for each episode."
        )
    return logits.argmax(-1).cpu()
