"""Exercises of lesson 08: a batch in parts, a learning rate over time, and a budget to spend."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from kit.core.errors import KitError
from kit.data import Split
from kit.inference import evaluate
from kit.training import train
from kit.workloads import Workload, language

BATCH, ROOM = 512, 48  # windows of an update, and how many fit into the memory at once
BUDGET_S = 2.0
CLEARLY = 0.1  # nats: no luck of one training
NAIVE = {"batch_size": 16, "lr": 1e-3, "optimizer": torch.optim.AdamW}
PEAK, LAST = 1.0, 0.1  # of the schedule asked for


def parts(answer: Any) -> str | None:
    """512 must fall into equal parts, none larger than 48, and as few as possible."""
    if isinstance(answer, bool) or not isinstance(answer, int):
        return f"Give a whole number of parts; the answer is {answer!r}."
    if answer < 1 or BATCH % answer:
        return f"{BATCH} does not fall into {answer} equal parts."
    if BATCH // answer > ROOM:
        return f"Each part would have {BATCH // answer} windows; {ROOM} fit."
    if answer > 16:
        return "It fits, but fewer and larger parts fit too, and keep the processor busier."
    return None


def rate(answer: Callable[[int, int, int], float]) -> str | None:
    """(step + 1) / warmup at first; then 0.1 + 0.9 · (1 + cos(π · way)) / 2, way from 0 to 1."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    for total, warmup in ((100, 10), (30, 0)):
        given = [answer(step, total, warmup) for step in range(total)]
        if not all(isinstance(share, (int, float)) for share in given):
            return f"It is to return a number; for step 0 it returned {given[0]!r}."
        if warmup and given[0] == 0:
            return "The first step has a rate of 0: nothing is learnt in it. Begin at 1 / warmup."
        if any(not math.isclose(given[i], (i + 1) / warmup) for i in range(warmup)):
            return f"While it warms up, step i of {warmup} has (i + 1) / {warmup} of the rate."
        if not math.isclose(given[warmup], PEAK):
            return f"After the warm-up comes a step with the whole rate, yours {given[warmup]:.3g}."
        if min(given[warmup:]) < LAST:
            return f"It is to end at a tenth of the rate; yours falls to {min(given):.3g}."
        ways = [(step - warmup) / (total - warmup) for step in range(warmup, total)]
        wanted = [LAST + (PEAK - LAST) * (1 + math.cos(math.pi * way)) / 2 for way in ways]
        for step, (mine, theirs) in enumerate(zip(wanted, given[warmup:], strict=True), warmup):
            if not math.isclose(mine, theirs, abs_tol=1e-6):
                told = f"At step {step} of {total}, {warmup} of them warm-up,"
                return f"{told} {mine:.3f} is wanted; yours gives {theirs:.3f}."
    return None


def spend(answer: Mapping[str, Any]) -> str | None:
    """What did the ladder find? Optimizer, rate and batch size: dict(optimizer=..., lr=...)."""
    if not isinstance(answer, Mapping):
        return "Give options of kit.train as a dictionary, such as dict(lr=3e-3)."
    fixed = {"steps", "epochs", "budget_s", "resume", "checkpoint", "live"} & set(answer)
    if fixed:
        return f"{', '.join(sorted(fixed))}: these are the same for all; change the others."
    try:
        yours = _loss(answer)
    except (KitError, TypeError) as error:
        return f"kit.train refuses that: {error}"
    naive = _loss(NAIVE)
    if yours > naive - CLEARLY:
        told = f"Yours ends at {yours:.2f} nats, the tutorial's at {naive:.2f}"
        return f"{told}: that is not clearly better. Which rungs were faster?"
    return None


def _loss(options: Mapping[str, Any]) -> float:
    """On validation, after that many seconds of training."""
    work = _short(language())
    torch.manual_seed(0)
    model = work.model("gpt-small")
    most = {"steps": 100_000, "evaluate_every": 100_000, "budget_s": BUDGET_S, "live": False}
    train(model, work, **{**options, **most})
    return evaluate(model, work, "validation").loss


def _short(work: Workload) -> Workload:
    """With a validation split that is read in a moment."""
    part = work.data["validation"]
    return work.with_split("validation", Split(part.inputs[:64], part.targets[:64]))


EXERCISES: dict[str, Callable[..., str | None]] = {
    "08-parts": parts,
    "08-spend": spend,
    "08-rate": rate,
}
