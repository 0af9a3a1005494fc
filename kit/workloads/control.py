"""Work against the clock: what is right now is wrong a moment later.

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
from kit.data.cart_pole import scaled
from kit.models import Policy
from kit.workloads.scores import is_right
from kit.workloads.workload import Workload

LONGEST = 500  # steps of 20 ms: Gymnasium ends an episode of CartPole-v1 there
EPISODES = 100  # of a trial; all at once, so that a training can afford ten trials
SEEDS = {"train": 0, "validation": 1, "test": 2}  # of the starts; each split has its own


def control() -> Workload:
    """Keep a pole upright on a cart: stands for decisions under a deadline.

    It is learnt from a computed controller and tried in Gymnasium's CartPole-v1. Of 500 steps,
    one who always pushes left stays upright for 2 %, one who pushes by chance for 4 %, one who
    pushes to the side to which the pole leans for 9 %; the controller, to the end.

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
        score=is_right,  # of the pushes; what counts is the trial
        measure=f"of {LONGEST} steps upright",
        target=0.95,
        recipe={"epochs": 5, "batch_size": 64, "lr": 1e-2},
        trial=upright_share,
    )


def upright_share(predict: Callable[[Tensor], Tensor], split: str) -> Tensor:
    """(E,) the share of 500 steps that each episode lasted, from the starts of a split."""
    if split not in SEEDS:
        raise UnknownName("split", split, SEEDS)
    return drive(predict, seed=SEEDS[split]) / LONGEST


def drive(
    predict: Callable[[Tensor], Tensor],
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    late: int = 0,
) -> Tensor:
    """How many steps each episode lasted, at most 500: (E,) int64; the step of the fall counts.

    All episodes go on at once, so each step is one call of `predict`.

    Parameters
    ----------
    predict
        From states divided by `kit.data.cart_pole.REACH`, (E, 4), on the CPU, to logits (E, 2).
    episodes
        How many, each from its own start near upright.
    seed
        Of the starts.
    late
        By how many periods of 20 ms each action comes too late. An answer is asked for in each
        period, also while others are on their way. Until the first comes, the cart is pushed left
        and right by turns, which is as near to nothing as can be.

    Raises
    ------
    ShapeMismatch
        The outputs are not two logits per episode.

    Explained in lesson 12.
    """
    check_whole("episodes", episodes)
    check_whole("late", late, low=0)
    world, states = _world(episodes, seed)
    coming = deque(np.full(episodes, period % 2) for period in range(late))
    going, steps = np.ones(episodes, dtype=bool), np.zeros(episodes, dtype=np.int64)
    while going.any():
        coming.append(_actions(predict, states))
        states, _, fallen, ended, _ = world.step(coming.popleft())
        steps += going
        going &= ~(fallen | ended)  # it starts anew by itself; only the first attempt counts
    return torch.from_numpy(steps)


def _world(episodes: int, seed: int) -> tuple[Any, np.ndarray]:
    """So many carts, and their first states (E, 4)."""
    import gymnasium

    world = gymnasium.make_vec(
        "CartPole-v1", num_envs=episodes, vectorization_mode="vector_entry_point"
    )
    states, _ = world.reset(seed=seed)
    return world, states


def _actions(predict: Callable[[Tensor], Tensor], states: np.ndarray) -> np.ndarray:
    """The action with the larger logit for each state: (E, 4) -> (E,)."""
    logits = predict(scaled(torch.from_numpy(states)))
    if logits.shape != (len(states), 2):
        raise ShapeMismatch(
            f"predict gave {tuple(logits.shape)}; needed ({len(states)}, 2): a logit for left "
            "and one for right in each episode."
        )
    return logits.argmax(-1).cpu().numpy()
