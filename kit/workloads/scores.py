"""What an answer is worth: from all outputs and targets of a split to one value per example.

A value is 1 for right and 0 for wrong, or a share in between; a score is their mean. Losses are
here too where PyTorch's own do not fit: a scalar, mean per target.

Shapes: N examples of a split, C classes.
"""

import torch
from torch import Tensor


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether the class with the largest logit (N, C) is the target (N,)."""
    return logits.argmax(-1) == targets


def variance_explained(outputs: Tensor, targets: Tensor) -> Tensor:
    """(N,) the share of each example's variance that its copy explains, 0 to 1.

    1 − squared error ÷ squared distance from the mean example: 0 is what that mean gets, 1 a
    perfect copy. Worse than the mean counts as 0.
    """
    mean = targets.mean(0, keepdim=True)
    error = (outputs - targets).square().flatten(1).sum(1)
    departure = (targets - mean).square().flatten(1).sum(1)
    return torch.clamp(1 - error / departure, min=0.0)
