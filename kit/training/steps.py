"""One update of the weights, and the gradient that it goes along.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.models.custom import find_logits

Loss = Callable[[Tensor, Tensor], Tensor]  # of outputs and targets, or of inputs and targets


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    autocast: torch.dtype | None = None,
) -> Tensor:
    """One update of the weights; the mirror of `predict`.

    With `autocast`, matmuls and convolutions compute in that dtype; weights stay as they are.

    Returns
    -------
    Tensor
        The loss before the update, a scalar still on the device: reading it with `.item()`
        would wait for the device, so that is left to the caller.

    Raises
    ------
    ShapeMismatch
        As many targets as inputs are needed.

    Explained in lesson 01, taken apart in lesson 02.
    """
    if inputs.shape[0] != targets.shape[0]:
        raise ShapeMismatch(
            f"given inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)}: "
            f"the first sizes must be equal, one target per example."
        )
    optimizer.zero_grad()

    def cost(inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = model(inputs)
        return loss(
            outputs if isinstance(outputs, Tensor) else find_logits(outputs, outputs), targets
        )

    value = backward(cost, inputs, targets, autocast)
    optimizer.step()
    return value


def backward(
    cost: Loss,
    inputs: Tensor,
    targets: Tensor,
    autocast: torch.dtype | None,
    parts: int = 1,
    silent: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """The loss of a batch, its gradient added to what the weights' `.grad` hold.

    With `parts`, the batch is cut into so many, one after the other. What the forward pass keeps
    for the backward pass is then kept for one part at a time; the sum of their gradients, each
    divided by their number, is the gradient of the whole. All but the last are computed within
    `silent`: processes that train together send each other the sum alone.
    """
    if parts > 1:
        *most, last = zip(inputs.chunk(parts), targets.chunk(parts), strict=True)
        shared = lambda x, y: cost(x, y) / parts  # noqa: E731
        with silent():
            values = [backward(shared, *part, autocast) for part in most]
        return torch.stack([*values, backward(shared, *last, autocast)]).sum()
    if autocast is None:
        value = cost(inputs, targets)  # forward
    else:  # a block of its own: what it casts, it forgets at its end, before the weights change
        with torch.autocast(inputs.device.type, autocast):
            value = cost(inputs, targets)
    value.backward()
    return value.detach()
