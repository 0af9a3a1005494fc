"""Exercises of lesson 09: the bytes of few bits, a share to prune, and rounding by hand."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kit.core.errors import KitError
from kit.inference import judge
from kit.techniques import pruned, size_on_disk
from kit.training import train
from kit.workloads import vision

WEIGHTS, BITS, GROUP, SCALE_BITS = 8e9, 4, 32, 16  # of the model asked for
GB = WEIGHTS * (BITS + SCALE_BITS / GROUP) / 8 / 1e9
SMALLER, MOST_LOST = 3.0, 0.02  # of the digits' CNN: so many times, and so much of the score
AFTER: dict[str, Any] = {"epochs": 5, "batch_size": 32, "lr": 1.5e-3}  # how it is trained on


def gigabytes(answer: Any) -> str | None:
    """4 bits for each weight, and for each 32 of them a scale of 16 bits; 8 bits are a byte."""
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        return f"Give a number of gigabytes; the answer is {answer!r}."
    if math.isclose(answer, GB, rel_tol=1e-3):
        return None
    if math.isclose(answer, WEIGHTS * BITS / 8 / 1e9, rel_tol=1e-3):
        return "That is the weights alone. Each group of 32 has a scale of 16 bits, too."
    if math.isclose(answer, 8 * GB, rel_tol=1e-3):
        return "That is gigabits. A byte has eight bits."
    if math.isclose(answer, GB * 1e9 / 2**30, rel_tol=1e-3):
        return "That is in units of 2³⁰ bytes. Here GB means 10⁹ bytes."
    if math.isclose(answer, GB * 1e9, rel_tol=1e-3):
        return "That is in bytes. A gigabyte is 10⁹ of them."
    return "Bits per weight: 4, and a 32nd part of a scale's 16. Times weights, divided by 8."


def prune(answer: Any) -> str | None:
    """The file falls with the square of what is left of each layer; the score stays for a while."""
    if isinstance(answer, bool) or not isinstance(answer, (int, float)) or not 0 < answer < 1:
        return f"Give a share between 0 and 1; the answer is {answer!r}."
    try:
        smaller, lost = _pruned_and_trained(float(answer))
    except KitError as error:
        return f"That cannot be pruned: {error}"
    told = (
        f"At {answer:g} the file is {smaller:.1f} × smaller and {100 * lost:.1f} points are lost."
    )
    if smaller < SMALLER:
        return (
            f"{told} Take more: both sides of a matrix shrink, so the bytes fall with the square."
        )
    if lost > MOST_LOST:
        return f"{told} That is too much of the score: take less, the file has room."
    return None


def _pruned_and_trained(share: float) -> tuple[float, float]:
    """How many times smaller, and how much of the score is lost."""
    work = vision()
    torch.manual_seed(0)
    model = work.model("cnn")
    train(model, work, live=False, **work.recipe)
    small = pruned(model, work.example(64)[0], share=share).requires_grad_(True)
    train(small, work, live=False, **AFTER)
    before, after = (judge(each, work)[0].mean.value for each in (model, small))
    return size_on_disk(model) / size_on_disk(small), before - after


def rounding(answer: Callable[[Tensor, int], Tensor]) -> str | None:
    """Most: 2 ** (bits - 1) - 1. Scale: the row's largest ÷ most. Then round(w / scale) × scale."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    weights = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    weights[1] *= 100  # a loud row
    weights[2] = 0.0
    for bits in (8, 4):
        given = answer(weights.clone(), bits)
        if not isinstance(given, Tensor) or given.shape != weights.shape:
            return f"It is to return a tensor of the shape {tuple(weights.shape)}."
        if not given.isfinite().all():
            return "A row of zeros gives NaN: its scale is 0. Keep the scale a little above."
        hint = _likely(given, weights, bits)
        if hint:
            return hint
    return None


def _likely(given: Tensor, weights: Tensor, bits: int) -> str | None:
    """The mistake that would give this, if it is not what is wanted."""
    most = 2 ** (bits - 1) - 1
    rows = weights.abs().amax(1, keepdim=True).clamp(min=1e-12)
    if torch.allclose(given, _by(weights, rows / most), atol=1e-4):
        return None
    if torch.allclose(given, _by(weights, weights.abs().max() / most), atol=1e-4):
        return "One loud row decides the scale of all others: give each row a scale of its own."
    if torch.allclose(given, weights):
        return "Nothing was rounded."
    if torch.allclose(given, (weights / (rows / most)).round()):
        return "These are the whole numbers. Multiply by the scale again, to get weights."
    return (
        f"With its sign, a number of {bits} bits goes from −{most} to {most}: the largest of each "
        f"row is to become {most} times its scale, no more and no less."
    )


def _by(weights: Tensor, scale: Tensor) -> Tensor:
    return (weights / scale).round() * scale


EXERCISES: dict[str, Callable[..., str | None]] = {
    "09-gigabytes": gigabytes,
    "09-prune": prune,
    "09-rounding": rounding,
}
