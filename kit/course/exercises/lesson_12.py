"""Exercises about deadlines: late answers per hour, the fit for a device, a look ahead."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from kit.course.exercises.registry import exercise, hint_for_number
from kit.data.cart_pole import PUSH_N, STATE_SCALE, expert_action, next_states
from kit.workloads import drive

# A controller asks 50 times a second, and one answer in 10,000 is late.
LATE_PER_HOUR = 50 * 3600 / 10_000
# name: (bytes of the file, resident bytes, share of late answers, accuracy)
CANDIDATES = {
    "tiny": (40_000, 55e6, 0.0, 0.91),
    "small": (120_000, 60e6, 0.001, 0.97),
    "wide": (900_000, 70e6, 0.004, 0.985),
    "slow": (1_500_000, 80e6, 0.2, 0.99),
    "large": (30_000_000, 180e6, 0.0, 0.995),
}
DELAY = 6  # periods of 20 ms, with which the controller alone falls


@exercise("12-hour", needs="number")
def hour(answer: float) -> str | None:
    """Answers per hour × the share of them that is late."""
    mistakes = {
        LATE_PER_HOUR / 3600: "That is per second. An hour has 3,600 seconds.",
        LATE_PER_HOUR / 60: "That is per minute.",
        50 * 3600: "That is how many answers there are in an hour. How many of them are late?",
    }
    hint = "50 answers a second × 3,600 seconds, and one in 10,000 of them is late."
    return hint_for_number(answer, LATE_PER_HOUR, mistakes, hint)


@exercise("12-fit", needs="function")
def fit(answer: Callable[..., Any]) -> str | None:
    """Leave out each model that breaks one of the limits; of the others, take the most accurate."""
    cases: tuple[tuple[Mapping[str, float], str | None, str], ...] = (
        ({}, "large", "Without a limit, the most accurate model is the best."),
        ({"file_bytes": 1e6}, "wide", "A file of 1 MB at most: large and slow are larger."),
        ({"resident_bytes": 65e6}, "small", "65 MB of memory at most: wide needs 70 MB."),
        ({"late": 0.002, "resident_bytes": 100e6}, "small", "Two limits hold at the same time."),
        ({"late": 0.004, "file_bytes": 1e6}, "wide", "A model at its limit still fits."),
        ({"file_bytes": 1_000}, None, "If no model fits, return None."),
    )
    for limits, right, hint in cases:
        models = [
            dict(
                zip(("name", "file_bytes", "resident_bytes", "late", "accuracy"), row, strict=True)
            )
            for row in ((name, *values) for name, values in CANDIDATES.items())
        ]
        given = answer(models, dict(limits))
        if given != right:
            return f"With the limits {dict(limits)} it returns {given!r}. {hint}"
    return None


@exercise("12-ahead", needs="function")
def ahead(answer: Callable[..., Any]) -> str | None:
    """Start from the state now, and let the model take one step for each push under way."""
    found = answer(0, [1, 2, 3], lambda state, push: 10 * state + push)
    mistakes: dict[int | None, str] = {
        0: "It returns the state now. The pushes that are under way will change it.",
        1: "It takes one step. Take one for each push that is under way.",
        3: "It starts each step from the state now. Go on from where the last step ended.",
        321: "It takes the newest push first. The oldest one acts first.",
    }
    if found != 123:
        case = "step(state, push) = 10·state + push, a state of 0 and the pushes [1, 2, 3]"
        key = found if isinstance(found, int) else None  # a list cannot be a key
        return mistakes.get(key, f"With {case}, it should give 123; it gives {found!r}.")
    stood = drive(_with_model(answer), episodes=20, delay=DELAY).double().mean() / 500
    if not stood > 0.8:
        return f"With six periods of delay, the pole stands for {stood:.0%} of the time only."
    return None


def _with_model(look_ahead: Callable[..., Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A controller that knows which of its pushes are under way."""
    under_way: list[torch.Tensor] = []

    def step(states: torch.Tensor, push: torch.Tensor) -> torch.Tensor:
        return next_states(states, PUSH_N * (2 * push - 1))

    def steer(inputs: torch.Tensor) -> torch.Tensor:
        states = inputs.double() * torch.tensor(STATE_SCALE, dtype=torch.float64)
        if not under_way:  # until the first answer arrives: left and right in turn
            under_way.extend(torch.full((len(inputs),), i % 2) for i in range(DELAY))
        pending: Sequence[torch.Tensor] = list(under_way)
        push = expert_action(look_ahead(states, pending, step))
        under_way.append(push)
        del under_way[0]
        return torch.nn.functional.one_hot(push, 2)

    return steer
