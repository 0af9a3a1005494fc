"""One step, and the loop around it.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kit.data import Task
from kit.errors import ShapeMismatch
from kit.training.ends import Ends, total_steps
from kit.training.history import History
from kit.training.optimizers import Optimizer
from kit.training.run import Run

Loss = Callable[[Tensor, Tensor], Tensor]


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
    if autocast is None:
        value = loss(model(inputs), targets)  # forward
    else:  # a block of its own: what it casts, it forgets at its end, before the weights change
        with torch.autocast(inputs.device.type, autocast):
            value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value.detach()


def train(
    model: nn.Module,
    workload: Task,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 32,
    lr: float = 3e-3,
    optimizer: Optimizer = "adamw",
    precision: str = "fp32",
    budget_s: float | None = None,
    target: float | None = None,
    evaluate_every: int | None = None,
    resume: dict[str, Any] | None = None,
    seed: int = 0,
    live: bool = True,
) -> History:
    """Train the model in place and return what happened.

    Interrupting it (the kernel's stop button, Ctrl-C) keeps what was learnt: the weights stay as
    they are and the history up to there comes back.

    Parameters
    ----------
    model
        On the device it is to be trained on.
    workload
        Gives batches, loss and score.
    steps, epochs
        How long, counted from the very first step; give one of them.
    batch_size
        Examples per step. 32: large enough for a smooth loss, small enough for many updates.
    lr
        Learning rate. 3e-3 suits AdamW on models as small as the kit's.
    optimizer
        "adamw", "muon" (see `kit.training.muon`), or a class such as `torch.optim.SGD`.
    precision
        "fp32", or "bf16": matmuls and convolutions in bfloat16, weights and sums in float32.
    budget_s
        Stop when the steps have taken this many seconds; None: make all of them.
    target
        Stop at the first score (0 to 1) on the validation split that reaches it; None: go on.
    evaluate_every
        Steps between scores on the validation split; None: ten times in all, at
        least an epoch apart.
    resume
        A history's or a checkpoint's `.state`: go on exactly where it ended. On the CPU the
        result is bit-identical to a run that was never stopped.
    seed
        Of the order of the examples.
    live
        Draw a loss curve while it runs; it keeps itself below 1 % of the time.

    Raises
    ------
    NonFiniteLoss
        A loss was NaN or infinite: at which step, with which learning rate, and what to try.

    Explained in lesson 01.
    """
    ends = Ends(budget_s, target)
    run = Run(
        model, workload, batch_size, lr, optimizer, precision, ends, evaluate_every, seed, live
    )
    run.begin(total_steps(steps, epochs, run.steps_per_epoch), resume)
    try:
        for inputs, targets in run.batches():
            loss = step(model, run.optimizer, inputs, targets, workload.loss, run.autocast)
            run.unread.append(loss)
            if run.due() and run.look():
                break
    except KeyboardInterrupt:
        run.interrupted = True
    finally:
        run.end()
    return run.history()
