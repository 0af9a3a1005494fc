"""Hooks: your own metric, log or stop, called after each step of `kit.train`.

A hook is a function of one argument. So a new training metric needs no change to the loop:

>>> import kit
>>> norms = []
>>> def gradient_norm(info):
...     squares = [weight.grad.square().sum() for weight in info.model.parameters()]
...     norms.append(sum(squares).sqrt())  # a tensor: no `.item()`, so nothing waits
>>> work = kit.workloads.vision()
>>> history = kit.train(
...     work.model("mlp"), work, steps=5, live=False, after_step=gradient_norm
... )
>>> len(norms)
5
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue


class StepInfo(NamedTuple):
    """What a hook gets after each step.

    The gradients of the step are still there: `weight.grad` of the model's parameters (after
    clipping, if there is any).
    """

    step: int  # steps made so far, with this one: the first is 1
    model: nn.Module  # after the update
    optimizer: torch.optim.Optimizer
    loss: Tensor  # before the update; a scalar on the device: `.item()` waits for it
    inputs: Tensor  # the batch (B, …) of this process
    targets: Tensor
    total: int  # steps of the whole training, if nothing stops it earlier
    # `with info.pause():` waits for the steps so far. What is inside, and what follows before the
    # next step, does not count as training time. With several processes, each has to pause.
    pause: Callable[[], AbstractContextManager[None]] = nullcontext


Hook = Callable[[StepInfo], object]


def check_hooks(after_step: Hook | Sequence[Hook] | None) -> Sequence[Hook]:
    """The hooks as a sequence, which may be empty."""
    if after_step is None:
        return ()
    hooks = (after_step,) if callable(after_step) else after_step
    if not isinstance(hooks, (list, tuple)) or not all(map(callable, hooks)):
        raise BadValue(
            f"after_step={after_step!r}: needs a function of one argument, or a list of such. Each "
            f"is called after every step with a kit.training.StepInfo."
        )
    return hooks
