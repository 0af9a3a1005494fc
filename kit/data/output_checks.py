"""Checked losses and scores: a loss must be one number, a score one value per example.

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

Metric = Callable[[Tensor, Tensor], Any]  # a loss or a score, of outputs and targets (N, …)
FEW = 5  # examples: enough to see that two shapes broadcast
ROUNDING = 1e-6  # a mean of ones in float32 can be above 1 by this
CLOSE = "such as (outputs - targets).abs() < 0.1"


def checked_loss(loss: Metric, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of these outputs: a scalar.

    Raises
    ------
    BadValue
        It is not a tensor, or has more than one number.
    ShapeMismatch
        Broadcasting compares each output with the targets of all examples.
    """
    _check_broadcast("the loss", loss, outputs, targets)
    value = loss(outputs, targets)
    if not isinstance(value, Tensor):
        kind = f"{type(value).__name__}, which gradients cannot pass"
        raise BadValue(f"the loss gave {kind}; needs a tensor with one number: use only torch.")
    if value.numel() != 1:
        raise BadValue(
            f"the loss gave a tensor {tuple(value.shape)}; needs one number, the mean over all "
            f"targets: add .mean()."
        )
    return value.reshape(())


def checked_scores(score: Metric, outputs: Tensor, targets: Tensor) -> Tensor:
    """The score of each example, 0 to 1: (N,) float64 on the CPU.

    Raises
    ------
    BadValue
        It returns one value for all, no value, NaN, or values outside 0 to 1.
    ShapeMismatch
        Broadcasting compares each output with the targets of all examples.
    """
    _check_broadcast("the score", score, outputs, targets)
    return check_scores(score(outputs, targets))


def check_scores(scores: Any) -> Tensor:
    """The values of a score or a trial, checked: (N,) float64 on the CPU."""
    if not isinstance(scores, (Tensor, np.ndarray, list, tuple, float, int, np.generic)):
        raise BadValue(f"the score gave {type(scores).__name__}; needs a tensor (N,).")
    values = torch.as_tensor(scores).detach().cpu().double()
    if values.ndim == 0:
        raise BadValue(
            f"the score gave one number, {values:.4g}; needs one value for each example, because "
            f"the kit computes the mean and its interval. Remove .mean() or .sum()."
        )
    if values.ndim > 1 or not len(values):
        raise BadValue(
            f"the score gave {tuple(values.shape)}; needs one value for each example, (N,). "
            f"If an example has several, take their mean: .flatten(1).mean(1)."
        )
    given = values.numpy()
    if not np.isfinite(given).all():
        bad = int((~np.isfinite(given)).sum())
        raise BadValue(
            f"the score gave NaN or infinity for {bad:,} of {len(values):,} examples; needs 0 to "
            f"1. Look for NaN in the outputs, and for a division by zero."
        )
    low, high = float(given.min()) + 0.0, float(given.max()) + 0.0  # -0 is 0
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise BadValue(
            f"the score gave values from {low:.4g} to {high:.4g}; needs 0 (wrong) to 1 (right) for "
            f"each example, {CLOSE}. An error without an upper limit is a "
            f"loss, which the kit reports beside the score."
        )
    return values.clamp(0, 1)


# --- Outputs (B, 1) and targets (B,) -------------------------------------------------------------


class _Sizes(TorchDispatchMode):
    """Records the size of the largest tensor that any operation creates."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.most = max(self.most, made.numel())
        return made


def _check_broadcast(what: str, judge: Metric, outputs: Tensor, targets: Tensor) -> None:
    """Refuse outputs and targets that PyTorch would broadcast to (B, B).

    A mean at the end hides the shape, so this watches the operations inside. It does so only for
    shapes (B, …, 1) and (B, …), in either order.
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
            f"which PyTorch broadcasts to {(len(outputs), len(outputs))}: each output with all "
            f"targets. Give both the same shape: targets[:, None] in the data, or .squeeze(-1) at "
            f"the end of the model."
        )
