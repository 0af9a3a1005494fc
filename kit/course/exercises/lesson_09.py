"""Exercises of lesson 09: the size of a 4-bit model, a share to prune, and rounding by hand."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.checks import is_number
from kit.core.errors import KitError
from kit.core.units import words
from kit.course.exercises.registry import WrongForm, exercise, hint_for_number
from kit.inference import judge
from kit.techniques import pruned, size_on_disk
from kit.training import train
from kit.workloads import vision

WEIGHTS, BITS, GROUP, SCALE_BITS = 8e9, 4, 32, 16  # of the model in the exercise
GB = WEIGHTS * (BITS + SCALE_BITS / GROUP) / 8 / 1e9
SMALLER, MOST_LOST = 3.0, 0.02  # how many times smaller, and how much of the score it may cost
AFTER: dict[str, Any] = {"epochs": 5, "batch_size": 32, "lr": 1.5e-3}  # fine-tuning after pruning


@exercise("09-gigabytes", needs="number")
def gigabytes(answer: float) -> str | None:
    """Each weight has 4 bits, each group of 32 weights a scale of 16 bits; a byte has 8 bits."""
    mistakes = {
        WEIGHTS * BITS / 8 / 1e9: (
            "That is only the weights. Each group of 32 also has a scale of 16 bits."
        ),
        8 * GB: "That is gigabits. A byte has eight bits.",
        GB * 1e9 / 2**30: "That is in units of 2³⁰ bytes. Here GB means 10⁹ bytes.",
        GB * 1e9: "That is in bytes. A gigabyte is 10⁹ bytes.",
    }
    hint = "Bits per weight: 4, plus 16 / 32 for the scale. Times the weights, divided by 8."
    return hint_for_number(answer, GB, mistakes, hint, within=1e-3)


@exercise("09-prune")
def prune(answer: Any) -> str | None:
    """The file shrinks with the square of the share that you keep; the score stays for a while."""
    if not is_number(answer) or not 0 < answer < 1:
        return WrongForm(f"Give a share between 0 and 1; yours is {answer!r}.")
    try:
        smaller, lost = _pruned_and_trained(float(answer))
    except KitError as error:
        return f"The model cannot be pruned by {answer!r}: {error}"
    found = f"At {answer:g}, the file is {smaller:.1f} × smaller, the score "
    found += f"{words(lost, 'points')} lower."
    if smaller < SMALLER:
        return f"{found} Take more: both sides of a matrix shrink, so its bytes fall quadratically."
    if lost > MOST_LOST:
        return f"{found} That is too much of the score: take less, the file may be larger."
    return None


@cache
def _trained() -> nn.Module:
    """The model before pruning: the same for each answer, and nobody changes it."""
    work = vision()
    torch.manual_seed(0)
    model = work.model("cnn")
    train(model, work, live=False, **work.recipe)
    return model


def _pruned_and_trained(share: float) -> tuple[float, float]:
    """How many times smaller the file is, and how much of the score is lost."""
    work, model = vision(), _trained()
    small = pruned(model, work.example(64)[0], share=share).requires_grad_(True)
    train(small, work, live=False, **AFTER)
    before, after = (judge(each, work)[0].mean.value for each in (model, small))
    return size_on_disk(model) / size_on_disk(small), before - after


@exercise("09-rounding", needs="function")
def rounding(answer: Callable[[Tensor, int], Tensor]) -> str | None:
    """Most: 2 ** (bits - 1) - 1. Scale: the row's largest ÷ most. Then round(w / scale) × scale."""
    weights = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    weights[1] *= 100  # a row of large weights
    weights[2] = 0.0
    for bits in (8, 4):
        given = answer(weights.clone(), bits)
        if not isinstance(given, Tensor) or given.shape != weights.shape:
            return f"It must return a tensor of the shape {tuple(weights.shape)}."
        if not given.isfinite().all():
            return "A row of zeros gives NaN, because its scale is 0. Keep the scale above 0."
        if hint := _rounding_hint(given, weights, bits):
            return hint
    return None


def _rounding_hint(given: Tensor, weights: Tensor, bits: int) -> str | None:
    """The mistake that gives this result; None if the result is right."""
    most = 2 ** (bits - 1) - 1
    rows = weights.abs().amax(1, keepdim=True).clamp(min=1e-12)
    if torch.allclose(given, _rounded(weights, rows / most), atol=1e-4):
        return None
    if torch.allclose(given, _rounded(weights, weights.abs().max() / most), atol=1e-4):
        return "The row of large weights sets the scale of all others: give each row its own scale."
    if torch.allclose(given, weights):
        return "Nothing was rounded."
    if torch.allclose(given, (weights / (rows / most)).round()):
        return "These are the whole numbers. Multiply them by the scale to get weights."
    return (
        f"A signed number of {bits} bits goes from −{most} to {most}: the largest weight of each "
        f"row must become {most} times its scale, no more and no less."
    )


def _rounded(weights: Tensor, scale: Tensor) -> Tensor:
    return (weights / scale).round() * scale
