"""What an answer is worth: from all outputs and targets of a split to one value per example.

A value is 1 for right and 0 for wrong, or a share in between; a score is their mean. Losses are
here too where PyTorch's own do not fit: a scalar, mean per target.

Shapes: N examples of a split, C classes.
"""

from torch import Tensor


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether the class with the largest logit (N, C) is the target (N,)."""
    return logits.argmax(-1) == targets
