"""The loop: a model, a workload, and steps until the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from kit.data import Task
from kit.data.arguments import check_pair
from kit.training.engine import Engine
from kit.training.history import History
from kit.training.optimizers import Optimizer
from kit.training.recipe import Recipe
from kit.training.run import Run
from kit.training.stopping import Ends, total_steps


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
) -> History:
    """Train the model in place and return what happened.

    Interrupting it (the kernel's stop button, Ctrl-C) keeps what was learnt: the weights stay as
    they are and the history up to there comes back.

    Parameters
    ----------
    model
        Any module, on the device it is to be trained on. Handed over in training mode, its parts
        keep their own modes: what you put in evaluation mode stays in it, such as a frozen
        BatchNorm. In evaluation mode as a whole, all of it trains but BatchNorm layers whose own
        weights are frozen. Afterwards all modes are as they were.
    workload
        Gives batches, loss and score.
    steps, epochs
        How long, counted from the very first step; give one of them.
    batch_size
        Examples per step, of all processes together. 32: large enough for a smooth loss, small
        enough for many updates.
    lr
        Learning rate. 3e-3 suits AdamW on models as small as the kit's.
    optimizer
        "adamw", "muon" (see `kit.training.muon`), or what makes one from named parameters and
        `lr`, such as `torch.optim.SGD`.
    precision
        "fp32", or "bf16": matmuls and convolutions in bfloat16, weights and sums in float32.
    compile
        Let PyTorch's compiler make one program of forward pass and loss, and one of the backward
        pass. It takes seconds to minutes before the first step (`History.compile_s`).
    accumulate
        Cut each batch into so many parts and compute them one after the other: the same update
        within rounding, with the memory of one part. Not with BatchNorm, which takes statistics
        of each part alone: a warning says so.
    clip
        Scale the gradient down to this length where it is longer; None: leave it.
    schedule, lr_warmup
        How the rate goes over the steps: see `kit.training.schedules`; and over how many steps it
        rises first.
    recompute
        Of layers that repeat keep the inputs alone, and compute the rest again in the backward
        pass: less memory, about a third more work.
    sharded
        Under `torchrun`: spread weights, gradients and the optimizer's state over the processes
        (FSDP2, see `kit.training.sharding`), for models whose training fits no single one.
    budget_s
        Stop when the steps have taken this many seconds; None: make all of them.
    target
        Stop at the first score (0 to 1) on the validation split that reaches it; None: go on.
    target_loss
        Stop at the first loss on the validation split that is at most that; None: go on.
    evaluate_every
        Steps between scores on the validation split; None: ten times in all, at
        least an epoch apart.
    checkpoint
        A file to keep model and training in, at each score and at the end. If it is there
        already, training goes on from it: so a run that was killed needs to be started again.
        It is refused if it was kept with another model, other data or other options.
    resume
        A history's or a checkpoint's `.state`: go on exactly where it ended, with the same data
        and the weights that the model had then. On the CPU the result is bit-identical to a run
        that was never stopped.
    seed
        Of the order of the examples.
    live
        Draw a loss curve while it runs; it keeps itself below 1 % of the time.

    Raises
    ------
    NonFiniteLoss
        A loss was NaN or infinite: at which step, with which learning rate, and what to try.

    Explained in lesson 01; what makes it shorter, in lesson 08.
    """
    check_pair("kit.train", model, workload)
    recipe = Recipe(
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        precision=precision,
        compile=compile,
        accumulate=accumulate,
        clip=clip,
        schedule=schedule,
        lr_warmup=lr_warmup,
        recompute=recompute,
        sharded=sharded,
        seed=seed,
    )
    ends = Ends(budget_s, target, target_loss)
    engine = Engine(model, workload, recipe)
    run = Run(engine, ends, evaluate_every, checkpoint, live)
    run.begin(total_steps(steps, epochs, engine.steps_per_epoch), resume)
    with engine.at_work():
        run.start()
        try:
            for done, (inputs, targets) in run.batches():
                run.unread.append(engine.update(inputs, targets, done, run.total))
                if run.due() and run.look():
                    break
        except KeyboardInterrupt:
            if not engine.processes.alone:  # not all at the same step: what was kept last stays
                raise
            run.interrupted = True
        finally:
            run.end()
    return run.kept()
