"""One update of the weights: a forward pass, a backward pass, and a step of the optimizer.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.devices import start_work
from kit.models.custom import find_logits
from kit.training.distributed import without_messages

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> a scalar
Forward = Callable[[nn.Module, Tensor, Tensor, Loss], Tensor]


def loss_of_batch(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """The forward pass: the loss of the model's outputs for a batch, a scalar."""
    # Targets go to the loss only. So the same forward pass later serves for inference.
    outputs = model(inputs)
    if not isinstance(outputs, Tensor):  # Hugging Face models return an object with `.logits`
        outputs = find_logits(outputs, outputs)
    return loss(outputs, targets)


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    autocast: torch.dtype | None = None,
    *,
    accumulate: int = 1,
    clip: float | None = None,
    forward: Forward = loss_of_batch,
) -> Tensor:
    """Make one update of the weights, and return the loss from before the update.

    `kit.train` is a loop around this function.

    Parameters
    ----------
    model, optimizer
        What learns, and the rule that moves its weights.
    inputs, targets
        One batch: (B, …) and (B, …), on the model's device.
    loss
        A function of outputs and targets, such as `torch.nn.functional.cross_entropy`.
    autocast
        The dtype in which matmuls and convolutions compute; the weights keep theirs.
    accumulate
        Compute the batch in this number of parts, to save memory.
    clip
        The greatest length of the gradient; a longer one is scaled down to it.
    forward
        The forward pass, if another one is to be used: `kit.train` may pass a compiled one.

    Returns
    -------
    Tensor
        A scalar that is still on the device. Reading it with `.item()` waits for the device, so
        the function leaves that to you.

    Raises
    ------
    ShapeMismatch
        The numbers of inputs and targets differ.

    Examples
    --------
    >>> import torch, kit
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(model.weight, 2.0)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x, y = torch.tensor([[3.0]]), torch.tensor([[5.0]])
    >>> kit.step(model, optimizer, x, y, torch.nn.functional.mse_loss)  # (2·3 - 5)²
    tensor(1.)
    >>> round(model.weight.item(), 3)  # 2 - 0.1 · 2·(2·3 - 5)·3
    1.4

    Explained in lesson 01, taken apart in lesson 02.
    """
    # Broadcasting can hide a mismatch: 8 outputs against 1 target give a loss, but a wrong one.
    if inputs.shape[0] != targets.shape[0]:
        raise ShapeMismatch(
            f"given inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)}: "
            f"the first sizes must be equal. Give one target per example."
        )
    # `backward` adds to the gradients that are there: without this, old batches would count again.
    clear_gradients(optimizer)

    if accumulate > 1:
        value = accumulate_gradients(
            model, inputs, targets, loss, autocast, parts=accumulate, forward=forward
        )
    else:
        # Forward: how wrong is the model here? Autograd records every operation on the way, and
        # keeps what it will need to go back. That is most of the memory that training takes.
        with casting(inputs.device, autocast):
            value = forward(model, inputs, targets, loss)
        # Backward: by the chain rule, how does the loss change with each weight? About twice the
        # work of the forward pass. Afterwards each weight has its answer in `.grad`.
        value.backward()

    if clip is not None:  # stays on the device: nothing waits here for the gradient's length
        # All gradients count as one vector, so its direction stays (Pascanu, Mikolov & Bengio, "On
        # the difficulty of training recurrent neural networks", 2013).
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    # Update: move each weight a little against its gradient. `.grad` stays until the next step.
    optimizer.step()
    start_work(value)  # a lazy device, such as a TPU, would only note the next step, too
    return value.detach()  # without its graph, which would keep memory alive


def casting(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """A context in which matmuls compute in that dtype; with None, one that changes nothing.

    Autocast caches the weights that it has cast until the context ends. So it must end before
    the optimizer changes the weights.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """The fast path of `optimizer.zero_grad()`: the same effect, 20 µs sooner.

    PyTorch's method first tells profilers about the call. On a small model that costs as much as
    a layer. A test holds both ways against each other, bit for bit.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            # None, not zeros: nothing is computed, the memory is free, and the optimizer skips
            # weights that get no gradient. With zeros, AdamW would go on moving them by its running
            # means.
            weight.grad = None


def accumulate_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    autocast: torch.dtype | None = None,
    *,
    parts: int,
    forward: Forward = loss_of_batch,
) -> Tensor:
    """Forward and backward pass of a batch in equal parts, one after the other; its loss.

    Memory holds the activations of one part at a time. Each part's loss is divided by the number
    of parts, so the gradients add up to that of the batch's mean loss (within rounding).
    """
    values = []
    # Views of the batch, (B / parts, …) each: nothing is copied.
    pairs = zip(inputs.chunk(parts), targets.chunk(parts), strict=True)
    for number, (x, y) in enumerate(pairs, 1):
        # Processes that train together exchange the sum only, during the last backward pass.
        with nullcontext() if number == parts else without_messages(model):
            with casting(x.device, autocast):
                # Without the division, the gradient would be `parts` times as long, and `clip`
                # would cut it sooner.
                value = forward(model, x, y, loss) / parts
            # Inside the loop: it frees the activations of this part before the next part makes its
            # own.
            value.backward()
        values.append(value.detach())
    # The mean over the complete batch, since each value was divided by `parts`.
    return torch.stack(values).sum()
