"""A training by a command, alone or as one of the processes that `torchrun` starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.experiments.outputs import check_place, keep_text


def trained(
    workload: str,
    model: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    history: Path | None = None,
    **options: Any,
) -> str:
    """What came of it in a line, from the first process; "" from the others.

    Parameters
    ----------
    workload, model
        By name; the workload's first model if none is named.
    device, threads
        As for `kit.device`; processes of one machine share its cores unless told otherwise.
    history
        A file for the raw numbers, as JSON.
    options
        Of `kit.train`; what is left out, or None or False, is as the workload's recipe has it.
    """
    from kit import devices, workloads
    from kit.training import train
    from kit.training.distributed import Processes

    work = workloads.get(workload)
    settings = with_recipe(work.recipe, options)
    processes = Processes.here(devices.device(device, threads=threads or _threads()))
    if processes.keeps:
        for path in filter(None, (history, options.get("checkpoint"))):
            check_place(path)
    devices.seed(seed)
    net = work.model(model).to(processes.device)
    told = train(net, work, **settings, seed=seed, live=False)
    if history and processes.keeps:
        try:
            keep_text(json.dumps(told.to_dict()), history)
        except KitError as error:
            raise KitError(f"{told!r}. {error}") from error  # the result is worth more
    return "" if processes.rank else repr(told)


@contextmanager
def failure_noted() -> Iterator[None]:
    """Within, an error is noted where `torchrun` looks: it tells which process failed first."""
    try:
        yield
    except Exception as error:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)  # which without `torchrun` does nothing
        raise


def with_recipe(recipe: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, and the recipe's for the others.

    >>> with_recipe({"epochs": 15, "lr": 0.003}, {"steps": 100, "epochs": None, "compile": False})
    {'lr': 0.003, 'steps': 100}
    """
    given = {k: v for k, v in options.items() if v is not None and v is not False}
    lengths = {"steps", "epochs"}
    replaced = given.keys() | (lengths if lengths & given.keys() else set())
    return {**{name: recipe[name] for name in recipe if name not in replaced}, **given}


def _threads() -> int | None:
    """Each process's share of the cores; alone: as `kit.device` finds it best."""
    from kit.devices import cores_allowed

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, int(cores_allowed()) // here) if here > 1 else None
