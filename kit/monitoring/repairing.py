"""Ways back for a model after drift: what each costs, what it regains and what it forgets.

repair         needs                 learns                       from
scratch        labels                all weights, from random     old data and the new labels
fine-tune      labels                all weights                  the new labels alone
last layer     labels                the last linear layer        the new labels alone
recalibrate    labels                a scale, a shift per class   the new labels alone
reweight       inputs alone          a shift per class            answers to the new inputs
fix the input  what went wrong       nothing                      –
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit.core.checks import check_whole
from kit.core.errors import BadValue, UnknownName
from kit.data import Split
from kit.devices import metered
from kit.inference import device_of
from kit.inference.evaluation import judge
from kit.monitoring.adjusting import recalibrated, reweighted
from kit.monitoring.repair_result import Repair, Repairs
from kit.monitoring.views import last_linear
from kit.training import train
from kit.workloads.workload import Workload

Undo = Callable[[Tensor], Tensor]
TUNING = {"steps": 150, "batch_size": 32, "lr": 1e-3}  # a third of a training's learning rate


@dataclass(frozen=True)
class Situation:
    """What a repair may use: the old workload, what comes now, a few labels of it, a seed."""

    old: Workload
    labelled: Split  # of now
    inputs: Tensor  # of now, without labels
    recipe: dict[str, Any]
    seed: int


def scratch(model: nn.Module, given: Situation) -> nn.Module:
    """A new model, trained on all old data and the new labels together."""
    fresh = deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(given.seed)
        for part in fresh.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    old = given.old.data["train"]
    both = Split(*(torch.cat(pair) for pair in zip(old, given.labelled, strict=True)))
    return _trained(fresh, given, both, given.recipe)


def fine_tune(model: nn.Module, given: Situation) -> nn.Module:
    """The deployed model, trained further on the new labels alone."""
    return _trained(deepcopy(model), given, given.labelled, TUNING)


def tune_last_layer(model: nn.Module, given: Situation) -> nn.Module:
    """The deployed model; only its last linear layer is trained further, on the new labels."""
    tuned = deepcopy(model)
    last = last_linear(tuned)
    if last is None:
        raise BadValue(f"{type(model).__name__} has no linear layer; leave out 'last layer'.")
    for weight in tuned.parameters():
        weight.requires_grad_(False)
    for weight in last.parameters():
        weight.requires_grad_(True)
    # Ten times the learning rate: a single layer is stable, and has to move further.
    _trained(tuned, given, given.labelled, TUNING | {"lr": 10 * TUNING["lr"]})
    return tuned.requires_grad_(True)


def _trained(
    model: nn.Module, given: Situation, examples: Split, recipe: dict[str, Any]
) -> nn.Module:
    work = given.old.with_split("train", examples)
    batch = min(int(recipe.get("batch_size", 32)), len(examples.inputs))
    options = {**recipe, "batch_size": batch, "seed": given.seed, "live": False}
    length = options.get("steps") or 1_000_000  # scores on the way cost time that is not asked for
    train(model, work, evaluate_every=length, **options)
    return model


def _recalibrate(model: nn.Module, given: Situation) -> nn.Module:
    return recalibrated(model, given.labelled)


def _reweight(model: nn.Module, given: Situation) -> nn.Module:
    return reweighted(model, given.old.data["validation"], given.inputs)


REPAIRS: dict[str, Callable[[nn.Module, Situation], nn.Module]] = {
    "scratch": scratch,
    "fine-tune": fine_tune,
    "last layer": tune_last_layer,
    "recalibrate": _recalibrate,
    "reweight": _reweight,
}
WITHOUT_LABELS = ("reweight",)
NOTHING, FIX = "nothing", "fix the input"


def repairs(
    models: Sequence[nn.Module],
    old: Workload,
    now: Workload,
    *,
    labels: int = 100,
    names: Sequence[str] = tuple(REPAIRS),
    undo: Undo | None = None,
    drift: str = "a drift",
    recipe: dict[str, Any] | None = None,
) -> Repairs:
    """Repair each model in each way, and score it on new and on old data.

    Parameters
    ----------
    models
        Trained models, at least two for an interval that covers chance in training. Each repair
        works on a copy, and has the number of its model as its seed.
    old, now
        The workload before and after the drift. Labels come from the split "train" of `now`;
        scores from the split "test" of both.
    labels
        Labelled examples from now, drawn at random, others for each model.
    names
        Which repairs, from `kit.monitoring.REPAIRS`.
    undo
        A function of new inputs that undoes what went wrong before the model: the row
        "fix the input". The weights stay. Old inputs come through the same function, because
        nobody sorts them: what that costs is forgotten, too.
    drift
        What happened, in words, for the caption.
    recipe
        Arguments of `kit.train` for "scratch"; by default those of the workload.

    Raises
    ------
    UnknownName
        An unknown repair; similar ones are listed.
    BadValue
        No models, or more labels than there are examples.

    Explained in the lesson about drift.

    Explained in lesson 13.
    """
    if not models or not all(isinstance(model, nn.Module) for model in models):
        raise BadValue("kit.monitoring.repairs: needs a list of trained models, such as [model].")
    for name in names:
        if name not in REPAIRS:
            raise UnknownName("repair", name, REPAIRS)
    check_whole("labels", labels, high=now.size("train"))
    recipe = dict(old.recipe) if recipe is None else recipe
    situations = [situation(old, now, labels, recipe, seed) for seed in range(len(models))]
    rows = [_tried(NOTHING, lambda model, _: model, models, situations, now, old, 0)]
    for name in names:
        used = 0 if name in WITHOUT_LABELS else labels
        rows.append(_tried(name, REPAIRS[name], models, situations, now, old, used))
    if undo:
        fixed = now.with_inputs(undo)
        through = old.with_inputs(undo)
        rows.append(_tried(FIX, lambda model, _: model, models, situations, fixed, through, 0))
    return Repairs(tuple(rows), drift, len(models))


def situation(
    old: Workload, now: Workload, labels: int, recipe: dict[str, Any], seed: int
) -> Situation:
    """What the repairs of one model may use."""
    inputs, targets = now.data["train"]
    drawn = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[:labels]
    return Situation(old, Split(inputs[drawn], targets[drawn]), inputs, recipe, seed)


def _tried(
    name: str,
    repair: Callable[[nn.Module, Situation], nn.Module],
    models: Sequence[nn.Module],
    situations: Sequence[Situation],
    now: Workload,
    old: Workload,
    labels: int,
) -> Repair:
    """One repair of all models."""
    seconds, joules, new_scores, old_scores, sent = [], [], [], [], 0
    for model, given in zip(models, situations, strict=True):
        with metered(device_of(model)) as meter:
            start = time.perf_counter()
            repaired = repair(model, given)
            seconds.append(time.perf_counter() - start)
        joules.append(meter.joules)
        new_scores.append(judge(repaired, now)[1].cpu().numpy())
        old_scores.append(judge(repaired, old)[1].cpu().numpy())
        sent = changed_bytes(model, repaired)
    scores = np.stack(new_scores), np.stack(old_scores)
    return Repair(name, labels, *scores, tuple(seconds), tuple(joules), sent)


def changed_bytes(deployed: nn.Module, repaired: nn.Module) -> int:
    """The bytes of all tensors that differ from the deployed model: what a device has to get."""
    before = {name.removeprefix("model."): t for name, t in deployed.state_dict().items()}
    after = {name.removeprefix("model."): t for name, t in repaired.state_dict().items()}
    return sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in after.items()
        if name not in before or not torch.equal(tensor, before[name])
    )
