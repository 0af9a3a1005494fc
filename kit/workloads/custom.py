"""A workload of the user's own: data and model, and what is the same for all where it is not given.

Shapes: B batch, N examples, C classes, T positions, K numbers of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from kit.core.checks import check_share
from kit.core.errors import BadValue, ShapeMismatch, UnknownName
from kit.data import Dataset
from kit.data.arguments import described
from kit.data.custom import own_data
from kit.data.output_checks import Metric, checked_loss, checked_scores
from kit.data.packed_inputs import Layout, Packed
from kit.workloads.workload import Workload

LOOKED_AT = 32  # examples that a new model is tried on
RECIPE = {"epochs": 10, "batch_size": 32, "lr": 3e-3}  # as `kit.train`'s own defaults
# Of a recipe: what `kit.train` takes, which a test compares. A workload knows of no training.
ARGUMENTS = (
    *("steps", "epochs", "batch_size", "lr", "optimizer", "precision", "compile", "accumulate"),
    *("clip", "schedule", "lr_warmup", "recompute", "sharded", "budget_s", "target"),
    *("target_loss", "evaluate_every", "seed", "live"),
)
WITHIN = 0.25  # standard deviations: how near counts as right, unless the user says it
Make = Callable[[], nn.Module]


def from_data(
    train: Any,
    validation: Any = None,
    test: Any = None,
    *,
    model: nn.Module | Make | Mapping[str, nn.Module | Make],
    loss: Metric | None = None,
    score: Metric | None = None,
    measure: str = "",
    target: float | None = None,
    recipe: Mapping[str, Any] | None = None,
    name: str = "own data",
    seed: int = 0,
) -> Workload:
    """Your own data and model as a workload, which everything in the kit takes.

    It is tried at once: a batch goes through a fresh model, the loss and the score.

    Parameters
    ----------
    train, validation, test
        Each a pair (inputs, targets) of arrays or tensors, (N, …) and (N, …), or a torch Dataset
        of such pairs; all in memory, and copied. Numbers with a point become float32, whole ones
        int64, also bytes. Several inputs are a dict, for keyword arguments of the model, or a
        tuple: they lie in one row of the data, which `work.model()` takes apart for the model in
        its `.net`. What is not given is cut from `train`: 15 % each, drawn by the seed.
        Validation chooses and stops, test judges.
    model
        What makes a model: its class, or a function without arguments. Or a model, of which each
        training gets a copy; or several of these by name, of which the first is the default.
    loss
        From outputs and targets of a batch to one number, which training makes smaller. None:
        `cross_entropy` where the targets are whole numbers, else `mse_loss`.
    score
        From outputs (N, …) and targets (N, …) of a split to (N,) values from 0 (wrong) to 1
        (right). None: whether the largest logit is the target; for numbers with a point, whether
        an output lies within a quarter of the training targets' standard deviation.
    measure
        What the score is a share of, as the end of a sentence: "right".
    target
        The score that is wanted on test, 0 to 1. None: one example more than the best answer that
        is the same for all gets on test and on validation, which is known where `score` is not
        given; otherwise 0.
    recipe
        Arguments of `kit.train` that differ from 10 epochs, batches of 32 and a rate of 3e-3.
    name
        In results and checkpoints.
    seed
        Of the cut.

    Raises
    ------
    BadValue
        What was given, what is needed, what to do: NaN in the data, targets that are not among
        the outputs, a loss that is not one number, a score outside 0 to 1, and so on.
    ShapeMismatch
        Shapes that do not go together.

    Examples
    --------
    >>> x = torch.rand(100, 4)
    >>> work = from_data((x, x.sum(1, keepdim=True)), model=lambda: nn.Linear(4, 1))
    >>> work.data
    Dataset own data: train 70, validation 15, test 15; own data; validation and test: \
15 % of train each, drawn with seed 0
    >>> work.measure
    "within a quarter of the targets' standard deviation"
    """
    name = str(name)
    data, layout = own_data(name, train, validation, test, seed)
    makers = _makers(model, layout)
    learnt = data["train"].targets
    numbers = learnt.is_floating_point()
    if not numbers and loss is None:
        _check_spread(learnt, bool((learnt == learnt.flatten()[0]).all()))
    judge: Metric = score or (_near(learnt) if numbers else is_each_right)
    cost: Metric = loss or (mse_loss if numbers else mean_cross_entropy)
    work = Workload(
        name=name,
        stands_for="data of your own",
        differs="nothing: these are the data",
        load=lambda: data,
        models={each: _for_data(make) for each, make in makers.items()},
        loss=cost,
        score=judge,
        measure=measure or ("of the score" if score else NEARNESS if numbers else "right"),
        target=_target(target, data, None if score else judge),
        recipe=_recipe(recipe or {}, work_size=len(data["train"].inputs)),
    )
    for each in makers:
        _try(work, each, own_loss=loss is not None)
    return work


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats per target: logits (N, C) or (N, T, C), classes (N,) or (N, T)."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def is_each_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) the share of an example's targets that are its largest logits: 0 or 1 if it has one."""
    return (
        (logits.argmax(-1) == targets).float().flatten(1).mean(1)
        if targets.ndim > 1
        else (logits.argmax(-1) == targets)
    )


NEARNESS = "within a quarter of the targets' standard deviation"


@dataclass(frozen=True)
class Near:
    """(N,) the share of an example's numbers (N, K) that the outputs come near to."""

    tolerance: Tensor  # (…) of each number

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        right = (outputs - targets).abs() <= self.tolerance.to(outputs.device)
        return right.float().reshape(len(right), -1).mean(1)


def _near(targets: Tensor) -> Near:
    spread = targets.std(0, correction=0)
    _check_spread(targets, bool((spread == 0).all()))
    return Near(WITHIN * spread)


def _check_spread(targets: Tensor, same: bool) -> None:
    if same:
        raise BadValue(
            f"all targets of train are {float(targets.flatten()[0]):g}: nothing can be learnt."
        )


def _target(target: float | None, data: Dataset, judge: Metric | None) -> float:
    """As given, or more than the best answer that is the same for all examples gets.

    On test, which judges, and on validation, where `kit.train` stops by it: one example more.
    """
    if target is not None:
        return check_share("target", target, "a score", hint="None sets one from the data.")
    if judge is None:
        return 0.0
    asked = [data[split].targets for split in ("validation", "test")]
    return min(1.0, max((_best_constant(each, judge) + 1) / len(each) for each in asked))


def _best_constant(targets: Tensor, judge: Metric) -> float:
    """How many of the targets (N, …) the best answer that is the same for all gets right."""
    flat = targets.reshape(len(targets), -1)
    if not isinstance(judge, Near):
        return float((flat == flat.mode(0).values).double().mean(1).sum())
    ordered = flat.double().sort(0).values.T.contiguous()  # (K, N)
    reach = ordered + 2 * judge.tolerance.double().reshape(-1, 1)  # from the lowest that is near
    ends = torch.searchsorted(ordered, reach, right=True)
    most = (ends - torch.arange(len(flat))).max(1).values
    return float(most.double().mean())


def _recipe(given: Mapping[str, Any], work_size: int) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise BadValue(f"recipe={given!r}: needs arguments of kit.train: {{'epochs': 20}}.")
    recipe = {**RECIPE, **given}
    if "steps" in given and "epochs" not in given:
        del recipe["epochs"]
    if "batch_size" not in given:
        recipe["batch_size"] = min(RECIPE["batch_size"], work_size)
    for name in recipe:
        if name not in ARGUMENTS:
            raise UnknownName("argument of kit.train that a recipe can have", name, ARGUMENTS)
    return recipe


def _makers(model: Any, layout: Layout | None) -> dict[str, Make]:
    named = model if isinstance(model, Mapping) else {"": model}
    if not named:
        raise BadValue("model={}: needs at least one model by name.")
    return {str(each or _name_of(given)): _maker(given, layout) for each, given in named.items()}


def _name_of(given: Any) -> str:
    kind = type(given) if isinstance(given, nn.Module) else given
    name = getattr(kind, "__name__", "model")
    return name.lower() if name.isidentifier() else "model"  # not <lambda>


def _maker(given: Any, layout: Layout | None) -> Make:
    if layout:
        make = _maker(given, None)
        return lambda: Packed(make(), layout)
    if isinstance(given, nn.Module):
        kept = deepcopy(given)  # what its owner does to it later does not change the workload
        return lambda: deepcopy(kept)
    if callable(given):
        return given
    raise BadValue(
        f"model={described(given)}: needs a torch.nn.Module, its class, or a function without "
        f"arguments that makes one: model=lambda: Net(64)."
    )


def _for_data(make: Make) -> Callable[[Dataset], nn.Module]:
    return lambda _: make()


# --- A batch through it --------------------------------------------------------------------------


def _try(work: Workload, name: str, own_loss: bool) -> None:
    """Refuse what does not go together, with a batch through a fresh model; draws no numbers."""
    with torch.random.fork_rng(devices=[]):
        model = _made(work, name)
        home = next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
        inputs, targets = work.example(min(LOOKED_AT, work.size("train")), home)
        outputs = _outputs(model, inputs)
        if not own_loss:
            _check_fit(outputs, targets, work.data)
        value = checked_loss(work.loss, outputs, targets)
        if not bool(value.isfinite()):
            raise BadValue(
                f"the loss of a fresh {name} is {value.item()} on the first {len(targets)} "
                f"examples; needs a finite number. Scale the inputs to about −1 to 1."
            )
        if not value.requires_grad:
            raise BadValue(
                "the loss has no gradient, so nothing can be learnt from it: compute it with "
                "torch from the outputs, without .detach(), .item(), .argmax() or numpy."
            )
        checked_scores(work.score, outputs.detach(), targets)


def _made(work: Workload, name: str) -> nn.Module:
    try:
        model = work.model(name)
    except TypeError as error:
        raise BadValue(
            f"model: {error}; needs a function without arguments: model=lambda: Net(64)."
        ) from error
    if not isinstance(model, nn.Module):
        raise BadValue(f"model made {described(model)}; needs a torch.nn.Module.")
    return model


def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    try:
        outputs = model.eval()(inputs)
    except Exception as error:  # whatever a model of the user's can raise
        hint = ""
        if not inputs.is_floating_point():
            hint = " Whole numbers are indices to PyTorch; for pixels give inputs.float() / 255."
        raise BadValue(
            f"{type(model).__name__} does not take inputs {str(inputs.dtype)[6:]} "
            f"{tuple(inputs.shape)}: {type(error).__name__}: {error}.{hint}"
        ) from error
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits", outputs)
    outputs = getattr(outputs, "logits", outputs)
    if not isinstance(outputs, Tensor):
        raise BadValue(
            f"{type(model).__name__} gives {type(outputs).__name__}; needs one tensor: return that "
            f"alone, from a module around it whose forward ends in [0] or ['logits']."
        )
    if len(outputs) != len(inputs):
        raise ShapeMismatch(
            f"{type(model).__name__} makes {tuple(outputs.shape)} of {tuple(inputs.shape)}; needs "
            f"the examples in the first dimension of both."
        )
    return outputs


def _check_fit(outputs: Tensor, targets: Tensor, data: Dataset) -> None:
    """Whether outputs and targets suit the loss that is taken where none is given."""
    shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
    if targets.is_floating_point():
        if outputs.shape != targets.shape:
            raise ShapeMismatch(
                f"{shapes} with a point; needs the same shape of both: targets[:, None] where the "
                f"model has one output, or whole numbers (targets.long()) where they are classes."
            )
        return
    if outputs.shape[:-1] != targets.shape or outputs.ndim < 2:
        raise ShapeMismatch(
            f"{shapes} of whole numbers, which are classes; needs outputs (N, …, C) for targets "
            f"(N, …). To predict a number, give targets.float()."
        )
    all_targets = torch.cat([split.targets.flatten() for split in data.splits.values()])
    low, high, classes = int(all_targets.min()), int(all_targets.max()), outputs.shape[-1]
    if low < 0 or high >= classes:
        raise BadValue(
            f"targets go from {low} to {high}, and the model has {classes} outputs; needs classes "
            f"from 0 to {classes - 1}, or {high + 1} outputs. To predict a number, give "
            f"targets.float()."
        )


__all__ = ["from_data"]
