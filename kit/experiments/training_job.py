"""A training that is described by names and numbers, so that another process can start it.

`kit train` runs it here; `kit.torchrun` starts it in several processes. Both use the one list of
options below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kit.core.errors import KitError, UnknownName
from kit.experiments.outputs import check_writable, save_text
from kit.experiments.parameters import Parameter

_LIST = (
    Parameter("model", str, None, "One of the workload's models. By default the first."),
    Parameter("steps", int, None, "Number of training steps."),
    Parameter("epochs", float, None, "Passes through the training examples, instead of --steps."),
    Parameter("batch_size", int, None, "Examples per step, over all processes together."),
    Parameter("lr", float, None, "Learning rate."),
    Parameter("optimizer", str, None, "adamw or muon."),
    Parameter("precision", str, None, "fp32 or bf16."),
    Parameter("schedule", str, None, "Learning rate: constant, linear, cosine or trapezoid."),
    Parameter("lr_warmup", int, None, "Steps in which the learning rate rises from 0 to --lr."),
    Parameter("accumulate", int, None, "Split each batch into N parts, computed in turn."),
    Parameter("clip", float, None, "Scale a gradient down if its norm is larger than this."),
    Parameter("compile", bool, False, "Compile the model with torch.compile before training."),
    Parameter("recompute", bool, False, "Recompute activations: less memory, more time."),
    Parameter("sharded", bool, False, "Spread the weights over the processes (FSDP2)."),
    Parameter("evaluate_every", int, None, "Steps between two evaluations."),
    Parameter("device", str, None, "Where to compute. By default the best device here."),
    Parameter("threads", int, None, "CPU threads of each process."),
    Parameter("seed", int, 0, "Start of the random generators."),
)
OPTIONS = {option.name: option for option in _LIST}


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as values of their types; those that are None are left out.

    Raises
    ------
    UnknownName
        The option does not exist.
    BadValue
        A value is of another type.
    """
    for name in options:
        if name not in OPTIONS:
            raise UnknownName("option of kit train", name, OPTIONS)
    given = {name: value for name, value in options.items() if value is not None}
    return {name: OPTIONS[name].value(str(value)) for name, value in given.items()}


def run_job(
    workload: str,
    model: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    history: Path | None = None,
    **options: Any,
) -> str:
    """Train, and return the result as a line of text; "" in all processes but the first.

    Parameters
    ----------
    workload, model
        Their names. By default the workload's first model.
    device, threads
        As for `kit.device`. By default the processes of one machine share its cores equally.
    history
        A JSON file for the raw numbers.
    options
        Of `kit.train`. The workload's recipe replaces those that are missing, None or False.
    """
    from kit import devices, workloads
    from kit.training import train
    from kit.training.distributed import Processes

    work = workloads.get(workload)
    settings = with_recipe(work.recipe, options)
    threads = _threads() if threads is None else threads
    processes = Processes.here(devices.device(device, threads=threads))
    if processes.keeps:
        for path in filter(None, (history, options.get("checkpoint"))):
            check_writable(path)
    devices.seed(seed)
    net = work.model(model).to(processes.device)
    result = train(net, work, **settings, seed=seed, live=False)
    if history and processes.keeps:
        try:
            save_text(json.dumps(result.to_dict()), history)
        except KitError as error:  # the training is done: show its result with the error
            raise KitError(f"{result!r}. {error}") from error
    return "" if processes.rank else repr(result)


@contextmanager
def failure_noted() -> Iterator[None]:
    """Inside, an error is also written where `torchrun` looks for the process that failed first."""
    try:
        yield
    except Exception as error:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)  # without `torchrun` this does nothing
        raise


def with_recipe(recipe: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, and the recipe's values for the others.

    >>> with_recipe({"epochs": 15, "lr": 0.003}, {"steps": 100, "epochs": None, "compile": False})
    {'lr': 0.003, 'steps': 100}
    """
    given = {k: v for k, v in options.items() if v is not None and v is not False}
    lengths = {"steps", "epochs"}
    replaced = given.keys() | (lengths if lengths & given.keys() else set())
    return {**{name: recipe[name] for name in recipe if name not in replaced}, **given}


def _threads() -> int | None:
    """An equal share of the cores for each process; alone, None: `kit.device` decides."""
    from kit.devices import cores_allowed

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, int(cores_allowed()) // here) if here > 1 else None
