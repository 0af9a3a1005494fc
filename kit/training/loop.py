"""The loop: batches, steps, and a look at the validation split now and then.

The order of a training:  `Setup` (model, optimizer, batches)  →  `step` again and again  →
`Progress` (losses, scores, seconds)  →  `History`, which you get back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kit import devices
from kit.core.errors import BadValue
from kit.data import Task
from kit.data.arguments import check_pair
from kit.inference import device_of
from kit.training.checkpointing import Checkpointing
from kit.training.history import History
from kit.training.hooks import Hook, StepInfo, check_hooks
from kit.training.loop_state import Progress, StopRule, total_steps
from kit.training.optimizers import Optimizer
from kit.training.recipe import Recipe
from kit.training.setup import Setup
from kit.training.steps import step


def train(
    model: nn.Module,
    workload: Task,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 32,
    lr: float = 3e-3,
    optimizer: Optimizer = "adamw",
    precision: str | None = None,
    compile: bool = False,
    accumulate: int = 1,
    clip: float | None = None,
    schedule: str = "constant",
    lr_warmup: int = 0,
    recompute: bool = False,
    sharded: bool = False,
    budget_s: float | None = None,
    target: float | None = None,
    target_loss: float | None = None,
    evaluate_every: int | None = None,
    checkpoint: str | Path | None = None,
    resume: dict[str, Any] | None = None,
    seed: int = 0,
    live: bool = True,
    after_step: Hook | Sequence[Hook] | None = None,
) -> History:
    """Train the model in place, and return what happened.

    You can interrupt it with the kernel's stop button or Ctrl-C. The weights then stay as they
    are, and you get the history up to there.

    Parameters
    ----------
    model
        Any module, on the device on which you want to train it. A model that you hand over in
        training mode keeps the modes of its parts: what you put in evaluation mode, such as a
        frozen BatchNorm, stays in it. A model in evaluation mode trains as a whole, except
        BatchNorm layers whose own weights are frozen. Afterwards all modes are as they were.
    workload
        Gives batches, loss and score.
    steps, epochs
        The length of the training, counted from the very first step. Give one of the two.
    batch_size
        Examples per step, of all processes together. 32 is large enough for a smooth loss and
        small enough for many updates.
    lr
        Learning rate. 3e-3 suits AdamW on models as small as the kit's.
    optimizer
        "adamw", "muon" (see `kit.training.muon`), or a function that makes an optimizer from
        named parameters and `lr`, such as `torch.optim.SGD`.
    precision
        "fp32", or "bf16": matmuls and convolutions in bfloat16, weights and sums in float32. None
        takes "bf16" on a TPU, whose matrix units multiply bfloat16, and "fp32" elsewhere.
    compile
        Compile forward pass, loss and backward pass with `torch.compile`. It takes seconds to
        minutes before the first step (`History.compile_s`).
    accumulate
        Cut each batch into this number of parts, and compute them one after the other. The update
        is the same within rounding; the memory is that of one part. BatchNorm would take its
        statistics from each part alone: a warning says so.
    clip
        Scale the gradient down to this length where it is longer; None leaves it.
    schedule, lr_warmup
        How the learning rate changes over the steps (see `kit.training.schedules`), and over how
        many steps it rises first.
    recompute
        Of layers that repeat, save the inputs only, and compute the rest again in the backward
        pass: less memory, about a third more work.
    sharded
        Under `torchrun`: spread weights, gradients and optimizer state over the processes (FSDP2,
        see `kit.training.sharding`), for models whose training does not fit on one device.
    budget_s
        Stop when the steps have taken this number of seconds; None makes all of them.
    target
        Stop at the first score (0 to 1) on the validation split that reaches it.
    target_loss
        Stop at the first loss on the validation split that is not above it.
    evaluate_every
        Steps between two scores on the validation split; None: ten scores in all, at least an
        epoch apart.
    checkpoint
        A file for model and training, written at each score and at the end. If it exists, the
        training goes on from it. So you can start a killed command again as it was. A checkpoint
        of another model, other data or other options is refused.
    resume
        The `.state` of a history or a checkpoint: go on exactly where it ended, with the same data
        and the weights that the model had then. On the CPU the result is bit-identical to a
        training that was never stopped.
    seed
        Decides the order of the examples.
    live
        Draw a loss curve during the training; it takes less than 1 % of the time.
    after_step
        A function, or a list of functions, called after each step with a `StepInfo`: step number,
        model, optimizer, loss and batch. The gradients can still be read. Use it for a metric or
        a log of your own. Its time counts as training time, up to a `with info.pause():`.

    Raises
    ------
    NonFiniteLoss
        A loss was NaN or infinite: at which step, with which learning rate, and what to try.

    Examples
    --------
    Log the length of the gradient at each step, without a change to the loop:

    >>> import kit, torch
    >>> work, lengths = kit.workloads.vision(), []
    >>> def log(info):
    ...     gradients = [weight.grad for weight in info.model.parameters()]
    ...     lengths.append(torch.nn.utils.get_total_norm(gradients))
    >>> history = kit.train(work.model("mlp"), work, steps=5, live=False, after_step=log)
    >>> history.steps, len(lengths)
    (5, 5)

    Explained in lesson 01; what makes it shorter, in lesson 08.
    """
    # Swapped arguments are named here, not by an error from deep inside PyTorch.
    check_pair("kit.train", model, workload)
    devices.threads_here()  # a thread that is new would take every core
    # What decides how the weights move is checked in one place and then frozen. A checkpoint saves
    # it, so that a training cannot go on with other options without a refusal.
    recipe = Recipe(
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        precision=precision or devices.backend_of(device_of(model)).precision,
        compile=compile,
        accumulate=accumulate,
        clip=clip,
        schedule=schedule,
        lr_warmup=lr_warmup,
        recompute=recompute,
        sharded=sharded,
        seed=seed,
    )
    stop_rule, hooks = StopRule(budget_s, target, target_loss), check_hooks(after_step)
    # The order of these lines matters: Checkpointing takes the fingerprints of the untouched model,
    # and `begin` may already fill it with the weights of a checkpoint.
    setup = Setup(model, workload, recipe)
    total = total_steps(steps, epochs, setup.steps_per_epoch)
    checkpointing = Checkpointing(setup, total, checkpoint)
    progress = Progress(setup, total, stop_rule, checkpointing, evaluate_every, live)
    progress.begin(resume)  # at step 0, or where the state ended

    # The loop itself. A step only starts work: on a GPU, Python runs ahead and queues the next
    # steps while the first still computes. So nothing in here may read a number from the device,
    # except about every 0.1 s. Watch this in a loop of your own: `loss.item()` at each step makes
    # the device wait for Python, and Python for the device.

    with setup.training_mode():
        progress.start_clock()
        try:
            # `batches` never ends: the number of steps does. After a resume it starts inside an
            # epoch.
            for batch in islice(setup.batches(progress.steps), progress.steps_left):
                # Before the step: a warm-up must already hold for the very first update.
                setup.set_learning_rate(progress.steps, total)
                # Forward, backward, update: the function that you can call yourself.
                loss = step(setup.net, setup.optimizer, *batch, workload.loss, **setup.step_options)
                progress.unread.append(loss)  # still on the device: nothing waits for it here
                # A hook that calls `info.loss.item()` waits for the device, here at every step.
                for hook in hooks:
                    made = progress.steps, setup.model, setup.optimizer, loss
                    hook(StepInfo(*made, *batch, total, progress.pause))
                if 0 < len(progress.unread) < progress.read_after:
                    continue  # about 0.1 s pass between two looks; none is unread after a pause
                progress.read_losses()  # waits for the device; a loss of NaN ends the training
                if progress.score_is_due:
                    progress.evaluate()  # on examples that no step has seen; writes the checkpoint
                if progress.must_stop():  # target reached or budget spent
                    break
                progress.draw()
                progress.restart_clock()  # evaluating and drawing is not training
        except KeyboardInterrupt:
            # Several processes are not all at the same step: their last checkpoint counts.
            if not setup.processes.alone:
                raise
            progress.interrupted = True
        finally:
            progress.end()
    # An interrupted training is saved, too. A loss of NaN raises above instead: then the file stays
    # as the last score left it.
    history = progress.history()
    checkpointing.save(history)
    return history


def updates(model: nn.Module, workload: Task, **options: Any) -> Iterator[Tensor]:
    """The bare steps of `kit.train`: each `next` makes one update and returns its loss.

    The steps go on without an end, a score or a checkpoint, and losses stay on the device. Use it
    to time one way of training against another. The `options` and the losses are those of
    `kit.train`.

    Raises
    ------
    BadValue
        A schedule or a warm-up was asked for: both need an end.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> steps = updates(work.model("mlp"), work, batch_size=64)
    >>> next(steps).shape, next(steps).shape
    (torch.Size([]), torch.Size([]))

    Explained in lesson 08.
    """
    own = devices.backend_of(device_of(model)).precision
    setup = Setup(model, workload, Recipe(**{"precision": own, **options}))
    if not setup.recipe.constant_rate:
        raise BadValue(
            "updates() has no end, but a schedule and a warm-up need one. Leave both out, or use "
            "kit.train."
        )

    # An inner generator, so that the checks above run at the call, not at the first `next`.
    def endless() -> Iterator[Tensor]:
        with setup.training_mode():
            for batch in setup.batches():
                # A GPU may still be computing when you get the loss: synchronise before you stop a
                # clock.
                yield step(setup.net, setup.optimizer, *batch, workload.loss, **setup.step_options)

    return endless()
