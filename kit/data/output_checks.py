"""What a loss and a score make of a model's outputs, checked: one number; one value per example.

Shapes: B batch, N examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kit.core.errors import BadValue, ShapeMismatch

Metric = Callable[[Tensor, Tensor], Any]  # a loss or a score: from outputs (N, …), targets (N, …)
FEW = 5  # examples: enough to see two shapes spread into each other
ROUNDING = 1e-6  # of a mean of float32 ones
CLOSE = "such as whether it is close enough, (outputs - targets).abs() < 0.1"


def checked_loss(loss: Metric, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of these outputs: a scalar.

    Raises
    ------
    BadValue
        It is no tensor, or more than one number.
    ShapeMismatch
        It compares the outputs of each example with the targets of all.
    """
    _check_spread("the loss", loss, outputs, targets)
    value = loss(outputs, targets)
    if not isinstance(value, Tensor):
        told = f"{type(value).__name__}, which gradients cannot pass"
        raise BadValue(f"the loss gave {told}; needs a tensor with one number: use torch alone.")
    if value.numel() != 1:
        raise BadValue(
            f"the loss gave a tensor {tuple(value.shape)}; needs one number, the mean over all "
            f"targets: add .mean()."
        )
    return value.reshape(())


def checked_scores(score: Metric, outputs: Tensor, targets: Tensor) -> Tensor:
    """(N,) float64 on the CPU, 0 to 1: what the score says that each example is worth.

    Raises
    ------
    BadValue
        It gives one value for all, none, NaN, or values outside 0 to 1.
    ShapeMismatch
        It compares the outputs of each example with the targets of all.
    """
    _check_spread("the score", score, outputs, targets)
    return check_scores(score(outputs, targets))


def check_scores(worth: Any) -> Tensor:
    """The values of a score or a trial, (N,) float64 on the CPU, if that is what they are."""
    if not isinstance(worth, (Tensor, np.ndarray, list, tuple, float, int, np.generic)):
        raise BadValue(f"the score gave {type(worth).__name__}; needs a tensor (N,).")
    values = torch.as_tensor(worth).detach().cpu().double()
    if values.ndim == 0:
        raise BadValue(
            f"the score gave one number, {values:.4g}; needs one value for each example, whose "
            f"mean the kit takes, with its interval: leave out .mean() or .sum()."
        )
    if values.ndim > 1 or not len(values):
        raise BadValue(
            f"the score gave {tuple(values.shape)}; needs one value for each example, (N,): "
            f"if an example has several, their mean: .flatten(1).mean(1)."
        )
    given = values.numpy()
    if not np.isfinite(given).all():
        lost = int((~np.isfinite(given)).sum())
        raise BadValue(
            f"the score gave NaN or infinity for {lost:,} of {len(values):,} examples; needs 0 to "
            f"1. Look for NaN in the outputs, and for a division by zero."
        )
    low, high = float(given.min()) + 0.0, float(given.max()) + 0.0  # -0 is 0
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise BadValue(
            f"the score gave values from {low:.4g} to {high:.4g}; needs 0 (wrong) to 1 (right) for "
            f"each example, {CLOSE}. An error without a limit belongs into the loss, which every "
            f"score shows beside it."
        )
    return values.clamp(0, 1)


# --- Outputs (B, 1) and targets (B,) -------------------------------------------------------------


class _Sizes(TorchDispatchMode):
    """Notes the most numbers that any operation has made."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.most = max(self.most, made.numel())
        return made


def _check_spread(what: str, judge: Metric, outputs: Tensor, targets: Tensor) -> None:
    """Refuse what PyTorch would spread to (B, B): each output against the targets of all.

    Only a look inside tells it: a mean at the end hides the shape. Nothing is looked at where the
    shapes are not (B, …, 1) and (B, …) or the other way round.
    """
    shapes = sorted((tuple(outputs.shape), tuple(targets.shape)), key=len)
    if shapes[1] != (*shapes[0], 1) or len(outputs) < 2:
        return
    few = outputs[:FEW].detach(), targets[:FEW]
    with torch.no_grad(), _Sizes() as sizes:
        judge(*few)
    if sizes.most > few[0].numel():
        raise ShapeMismatch(
            f"{what} was given outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}, "
            f"which PyTorch spreads to {(len(outputs), len(outputs))}: each output against all "
            f"targets. Give both one shape: targets[:, None] in the data, or a model that ends in "
            f".squeeze(-1)."
        )


__all__ = ["check_scores", "checked_loss", "checked_scores"]
