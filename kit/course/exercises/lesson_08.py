"""Exercises of lesson 08: a batch in parts, a learning-rate schedule, and a time budget."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from kit.core.checks import is_number
from kit.core.errors import KitError
from kit.course.exercises.registry import LastHint, WrongForm, exercise
from kit.data import Split
from kit.inference import evaluate
from kit.training import train
from kit.workloads import Workload, language

BATCH, MOST = 512, 48  # windows per update, and how many fit into memory at once
BUDGET_S = 2.0
CLEARLY = 0.1  # nats: more than two trainings differ by chance
NAIVE = {"batch_size": 8, "lr": 1e-3, "optimizer": torch.optim.AdamW}
PEAK, LAST = 1.0, 0.1  # of the schedule in the exercise


@exercise("08-parts", needs="whole number")
def parts(answer: int) -> str | None:
    """Divide 512 into equal parts, none larger than 48, and as few as possible."""
    if answer < 1 or BATCH % answer:
        return f"{BATCH} cannot be divided into {answer} equal parts."
    if BATCH // answer > MOST:
        return f"Each part would have {BATCH // answer} windows; {MOST} fit."
    if answer > 16:
        return "It fits, but fewer and larger parts fit too, and keep the processor busier."
    return None


@exercise("08-spend")
def spend(answer: Mapping[str, Any]) -> str | None:
    """Which optimizer needed the fewest steps, and at which rate? dict(optimizer=..., lr=...)."""
    if not isinstance(answer, Mapping):
        return WrongForm("Give options of kit.train as a dictionary, such as dict(lr=3e-3).")
    fixed = {"steps", "epochs", "budget_s", "resume", "checkpoint", "live"} & set(answer)
    if fixed:
        return f"{', '.join(sorted(fixed))}: keep these as they are; change the other options."
    try:
        yours = _loss(answer)
    except (KitError, TypeError) as error:
        return f"kit.train refuses these options: {error}"
    naive = _loss(NAIVE)
    if yours > naive - CLEARLY:
        losses = f"Yours ends at {yours:.2f} nats, plain AdamW's at {naive:.2f}"
        return f"{losses}: that is not clearly better. Which rungs were faster?"
    return None


def _loss(options: Mapping[str, Any]) -> float:
    """The validation loss after `BUDGET_S` seconds of training."""
    work = _short(language())
    torch.manual_seed(0)
    model = work.model("gpt-small")
    most = {"steps": 100_000, "evaluate_every": 100_000, "budget_s": BUDGET_S, "live": False}
    train(model, work, **{**options, **most})
    return evaluate(model, work, "validation").loss


def _short(work: Workload) -> Workload:
    """The workload with a small validation split, which is evaluated quickly."""
    part = work.data["validation"]
    return work.with_split("validation", Split(part.inputs[:64], part.targets[:64]))


@exercise("08-rate", needs="function")
def rate(answer: Callable[[int, int, int], float]) -> str | None:
    """First (step + 1) / warmup; then 0.1 + 0.9 · (1 + cos(π · t)) / 2, with t from 0 to 1."""
    for total, warmup in ((100, 10), (30, 0)):
        given = [answer(step, total, warmup) for step in range(total)]
        if not all(is_number(share) for share in given):
            return f"It must return a number; for step 0 it returned {given[0]!r}."
        if warmup and given[0] == 0:
            return "The first step has a rate of 0, so it learns nothing. Begin at 1 / warmup."
        if any(not math.isclose(given[i], (i + 1) / warmup) for i in range(warmup)):
            return LastHint(f"During the warm-up, step i has (i + 1) / {warmup} of the rate.")
        if not math.isclose(given[warmup], PEAK):
            return (
                f"The step after the warm-up has the full rate, 1; yours has {given[warmup]:.3g}."
            )
        if min(given[warmup:]) < LAST:
            return f"The rate must end at a tenth; yours falls to {min(given):.3g}."
        shares = [(step - warmup) / (total - warmup) for step in range(warmup, total)]
        wanted = [LAST + (PEAK - LAST) * (1 + math.cos(math.pi * t)) / 2 for t in shares]
        for step, (right, yours) in enumerate(zip(wanted, given[warmup:], strict=True), warmup):
            if not math.isclose(right, yours, abs_tol=1e-6):
                where = f"At step {step} of {total}, with {warmup} steps of warm-up"
                return f"{where}, {right:.6f} is wanted; yours gives {yours:.6f}."
    return None
