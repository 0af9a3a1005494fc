"""A workload from the user's own data and model, with defaults for everything else.

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
from kit.data.custom import load_own_data
from kit.data.output_checks import Metric, checked_loss, checked_scores
from kit.data.packed_inputs import Layout, Packed
from kit.models.custom import check_inputs_unchanged, versions_of
from kit.workloads.workload import Workload

TRIED = 32  # examples that a new model is tried on
RECIPE = {"epochs": 10, "batch_size": 32, "lr": 3e-3}  # as `kit.train`'s own defaults
# The arguments of `kit.train` that a recipe may have. A workload must not import training, so a
# test compares the two lists.
ARGUMENTS = (
    *("steps", "epochs", "batch_size", "lr", "optimizer", "precision", "compile", "accumulate"),
    *("clip", "schedule", "lr_warmup", "recompute", "sharded", "budget_s", "target"),
    *("target_loss", "evaluate_every", "seed", "live"),
)
WITHIN = 0.25  # standard deviations: the error that still counts as right by default
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
    """Your own data and model as a workload, for every call of the kit.

    It is tried at once: a batch passes through a fresh model, the loss and the score.

    Parameters
    ----------
    train, validation, test
        Each a pair (inputs, targets) of arrays or tensors, (N, …) and (N, …), or a torch Dataset
        of such pairs. All are copied into memory. Floating-point numbers become float32, integers
        and bytes int64. For a model with several inputs, give a dict (keyword arguments) or a
        tuple. The kit stores them in one row per example, and `work.model()` unpacks the row for
        your model, which is its `.net`. Missing splits are cut from `train`: 15 % each, drawn by
        the seed. Validation is for choices during training, test for the final score.
    model
        A class, or a function without arguments, that makes a model. Or a model, which is copied
        for each training. Or a dict of several of these by name; the first is the default.
    loss
        A function of outputs and targets of a batch that returns one number to minimise. None:
        `cross_entropy` if the targets are integers, otherwise `mse_loss`.
    score
        A function of outputs (N, …) and targets (N, …) of a split that returns (N,) values from 0
        (wrong) to 1 (right). None: whether the largest logit is the target; for floating-point
        targets, whether the error is within a quarter of their standard deviation in training.
    measure
        What the score is a share of, as the end of a sentence: "right".
    target
        The score to reach on test, 0 to 1. None: one example more than the best constant answer
        gets on test and on validation. With a `score` of your own that is unknown: then 0.
    recipe
        Arguments of `kit.train` that differ from 10 epochs, batches of 32 and a rate of 3e-3.
    name
        In results and checkpoints.
    seed
        Of the split of `train`.

    Raises
    ------
    BadValue
        The data contain NaN, targets are not among the outputs, the loss is not one number, the
        score is outside 0 to 1, and so on. The message says what to do.
    ShapeMismatch
        The shapes of data, model and loss do not fit.

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
    data, layout = load_own_data(name, train, validation, test, seed)
    makers = _makers(model, layout)
    targets = data["train"].targets
    numbers = targets.is_floating_point()
    if not numbers and loss is None:
        _check_varied(targets, bool((targets == targets.flatten()[0]).all()))
    metric: Metric = score or (_near(targets) if numbers else is_each_right)
    cost: Metric = loss or (mse_loss if numbers else mean_cross_entropy)
    work = Workload(
        name=name,
        stands_for="data of your own",
        differs="nothing: these are the data",
        load=lambda: data,
        models={each: _for_data(make) for each, make in makers.items()},
        loss=cost,
        score=metric,
        measure=measure or ("of the score" if score else NEARNESS if numbers else "right"),
        target=_target(target, data, None if score else metric),
        recipe=_recipe(recipe or {}, work_size=len(data["train"].inputs)),
    )
    for each in makers:
        _try(work, each, own_loss=loss is not None)
    return work


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats per target: logits (N, C) or (N, T, C), classes (N,) or (N, T)."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def is_each_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) the share of an example's targets that have the largest logit: 0 or 1 for one target."""
    return (
        (logits.argmax(-1) == targets).float().flatten(1).mean(1)
        if targets.ndim > 1
        else (logits.argmax(-1) == targets)
    )


NEARNESS = "within a quarter of the targets' standard deviation"


@dataclass(frozen=True)
class Near:
    """(N,) the share of an example's numbers (N, K) whose error is within the tolerance."""

    tolerance: Tensor  # (…) of each number

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The share for each example."""
        right = (outputs - targets).abs() <= self.tolerance.to(outputs.device)
        return right.float().reshape(len(right), -1).mean(1)


def _near(targets: Tensor) -> Near:
    spread = targets.std(0, correction=0)
    _check_varied(targets, bool((spread == 0).all()))
    return Near(WITHIN * spread)


def _check_varied(targets: Tensor, same: bool) -> None:
    if same:
        raise BadValue(
            f"all targets of train are {float(targets.flatten()[0]):g}: nothing can be learnt. "
            f"Give examples with different targets."
        )


def _target(target: float | None, data: Dataset, metric: Metric | None) -> float:
    """The given target, or one example more than the best constant answer gets.

    On test, for the final score, and on validation, where `kit.train` stops when it is reached.
    """
    if target is not None:
        return check_share("target", target, "a score", hint="None sets one from the data.")
    if metric is None:
        return 0.0
    held_out = [data[split].targets for split in ("validation", "test")]
    return min(1.0, max((_best_constant(each, metric) + 1) / len(each) for each in held_out))


def _best_constant(targets: Tensor, metric: Metric) -> float:
    """The number of targets (N, …) that the best constant answer gets right."""
    flat = targets.reshape(len(targets), -1)
    if not isinstance(metric, Near):
        return float((flat == flat.mode(0).values).double().mean(1).sum())
    ordered = flat.double().sort(0).values.T.contiguous()  # (K, N)
    reach = ordered + 2 * metric.tolerance.double().reshape(
        -1, 1
    )  # from the smallest target within reach
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
        original = deepcopy(given)  # later changes by its owner do not change the workload
        return lambda: deepcopy(original)
    if callable(given):
        return given
    raise BadValue(
        f"model={described(given)}: needs a torch.nn.Module, its class, or a function without "
        f"arguments that makes one: model=lambda: Net(64)."
    )


def _for_data(make: Make) -> Callable[[Dataset], nn.Module]:
    return lambda _: make()


# --- Trying it on a batch ------------------------------------------------------------------------


def _try(work: Workload, name: str, own_loss: bool) -> None:
    """Refuse parts that do not fit, by a batch through a fresh model; draws no random numbers."""
    with torch.random.fork_rng(devices=[]):
        model = _made(work, name)
        home = next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
        inputs, targets = work.example(min(TRIED, work.size("train")), home)
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
                "the loss has no gradient, so nothing can be learnt from it. Compute it with torch "
                "from the outputs, without .detach(), .item(), .argmax() or numpy."
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
    tried = inputs.clone()  # a model that is refused has not changed the data
    versions = versions_of(tried)
    try:
        outputs = model.eval()(tried)
    except Exception as error:  # a user's model can raise anything
        hint = ""
        if not inputs.is_floating_point():
            hint = " PyTorch treats integers as indices; for pixels give inputs.float() / 255."
        raise BadValue(
            f"{model._get_name()} does not take inputs {str(inputs.dtype)[6:]} "
            f"{tuple(inputs.shape)}: {type(error).__name__}: {error}.{hint}"
        ) from error
    check_inputs_unchanged(model, tried, versions)
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits", outputs)
    outputs = getattr(outputs, "logits", outputs)
    if not isinstance(outputs, Tensor):
        raise BadValue(
            f"{model._get_name()} gives {type(outputs).__name__}; needs one tensor. Wrap it in "
            f"a module whose forward returns only that: end it with [0] or ['logits']."
        )
    if len(outputs) != len(inputs):
        raise ShapeMismatch(
            f"{model._get_name()} returns {tuple(outputs.shape)} for {tuple(inputs.shape)}; "
            f"needs one output per example, in the first dimension."
        )
    return outputs


def _check_fit(outputs: Tensor, targets: Tensor, data: Dataset) -> None:
    """Refuse outputs and targets that do not fit the default loss."""
    shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
    if targets.is_floating_point():
        if outputs.shape != targets.shape:
            raise ShapeMismatch(
                f"{shapes} of floating-point numbers; needs the same shape in both. If the model "
                f"has one output, give targets[:, None]; if they are classes, targets.long()."
            )
        return
    if outputs.shape[:-1] != targets.shape or outputs.ndim < 2:
        raise ShapeMismatch(
            f"{shapes} of integers, which are classes; needs outputs (N, …, C) for targets "
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
