"""Exercises of lesson 01: learning, and using what was learned."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kit.core.errors import NonFiniteLoss
from kit.core.units import words
from kit.course.exercises.registry import WrongForm, exercise
from kit.data import load_digits
from kit.inference import evaluate
from kit.models import MLP
from kit.training import History, train
from kit.workloads import vision


@exercise("01-first-good")
def first_good(answer: Any) -> str | None:
    """Look at history.scores: pairs of (step, score). Give (history, step of the first ≥ 90 %)."""
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], History)):
        return WrongForm("Give two things: (history, step).")
    history, step = answer
    good = [at for at, score in history.scores if score.accuracy.value >= 0.9]
    if step == (good[0] if good else None):
        return None
    if step in good:
        return "The score is at least 90 % there, but it was already so at an earlier step."
    return "At that step there is no score of at least 90 %. Try a loop over history.scores."


@exercise("01-learns-nothing", needs="number")
def learns_nothing(answer: float) -> str | None:
    """With a tiny learning rate the weights hardly move; with a huge one they jump around."""
    torch.manual_seed(0)
    model, work = MLP(), vision()
    try:
        train(model, work, steps=60, lr=answer, live=False)
    except NonFiniteLoss:
        return None
    right = evaluate(model, work, "validation").accuracy.value
    if right < 0.5:
        return None
    share = words(right, "%")
    return f"With lr={answer:g} the model still gets {share} right after 60 steps. Go further."


class _AlwaysThree(nn.Module):
    """Answers class 3 to every image, and notes the mode in which it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return nn.functional.one_hot(torch.full((len(images),), 3), 10).float()


@exercise("01-accuracy", needs="function")
def accuracy(answer: Callable[..., float]) -> str | None:
    """Write accuracy(model, inputs, targets): predict, take the largest logit, compare, average."""
    inputs, targets = load_digits()["validation"]
    model = _AlwaysThree().train()
    given = float(answer(model, inputs, targets))
    wanted = float((targets == 3).float().mean())
    if abs(given - 100 * wanted) < 1e-3:
        return "Return a share from 0 to 1, not percent."
    if abs(given - wanted) > 1e-6:
        return f"A model that always says 3 is right on {wanted:.3f} here; yours says {given:.3f}."
    if any(model.modes):
        return "The model was in training mode while it predicted. kit.predict takes care of that."
    if not model.training:
        return "Before the call, the model was in training mode. Restore it, or use kit.predict."
    return None
