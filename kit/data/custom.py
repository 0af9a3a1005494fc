"""Data of the user's own: arrays, tensors or a torch Dataset, checked and split.

Shapes: N examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from kit.core.checks import check_whole
from kit.core.errors import BadValue, KitError, ShapeMismatch
from kit.data.batching import as_tokens
from kit.data.dataset import Dataset, Split
from kit.data.packed_inputs import Layout, pack

SHARE = 0.15  # of the examples, for each of validation and test if they are not given


def load_own_data(
    name: str, train: Any, validation: Any, test: Any, seed: int
) -> tuple[Dataset, Layout | None]:
    """The three splits, and the layout of several inputs per example (None for one input).

    Missing splits are cut from `train`, at random by the seed.

    Raises
    ------
    BadValue
        The data are not numbers, contain NaN, are empty, or are too few to cut.
    ShapeMismatch
        Inputs and targets differ in length, or splits differ in shape or type.
    """
    given = {"train": train, "validation": validation, "test": test}
    read = {part: as_split(part, value) for part, value in given.items() if value is not None}
    if "train" not in read:
        raise BadValue("train=None: needs (inputs, targets), two arrays or tensors.")
    missing = [part for part in given if part not in read]
    splits = {part: Split(*map(torch.clone, split)) for part, (split, _) in read.items()}
    layout = read["train"][1]
    for part, (_, other) in read.items():
        if other != layout:
            raise ShapeMismatch(
                f"inputs of train are {layout}, of {part} {other}; needs the same layout in both."
            )
    _check_alike(splits)
    splits = _cut(splits, missing, seed)
    origin = "own data"
    if missing:
        names = " and ".join(missing)
        origin += f"; {names}: {SHARE * 100:.0f} % of train each, drawn with seed {seed}"
    targets = splits["train"].targets
    labels = targets.ndim == 1 and not targets.is_floating_point()
    classes = tuple(map(str, range(int(targets.max()) + 1))) if labels else ()
    ordered = {part: splits[part] for part in given}
    return Dataset(name, ordered, classes, origin, licence="the user's own"), layout


def as_split(part: str, given: Any) -> tuple[Split, Layout | None]:
    """A pair of arrays, or a torch Dataset of pairs, as float32 and int64 tensors in memory."""
    if isinstance(given, DataLoader):
        raise BadValue(
            f"{part}= a DataLoader, which returns batches; needs all examples, because the kit "
            f"makes the batches. Give the loader's dataset: {part}=loader.dataset."
        )
    elif isinstance(given, TorchDataset):
        given = _collected(part, given)
    if isinstance(given, Mapping) or not isinstance(given, (tuple, list)) or len(given) != 2:
        raise BadValue(
            f"{part}={_shown(given)}: needs a pair (inputs, targets) of arrays or tensors, each "
            f"(N, …), or a torch Dataset of such pairs.{_pair_hint(given)}"
        )
    inputs, layout = _inputs(f"inputs of {part}", given[0])
    targets = as_numbers(f"targets of {part}", given[1])
    if len(inputs) != len(targets) or not len(inputs):
        raise ShapeMismatch(
            f"{part}: inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)}; needs the "
            f"same number of examples in both, at least one."
        )
    if not targets.is_floating_point():
        targets = targets.long()  # bytes would be treated as tokens
    return Split(inputs, targets), layout


def _inputs(what: str, given: Any) -> tuple[Tensor, Layout | None]:
    """One input as (N, …); a dict or tuple of several as rows (N, K), and their layout."""
    if isinstance(given, Mapping):
        parts = {n: as_tokens(as_numbers(f"{n!r} of {what}", part)) for n, part in given.items()}
        return pack(what, parts)
    if isinstance(given, tuple):
        several = (as_tokens(as_numbers(f"a part of {what}", part)) for part in given)
        return pack(what, tuple(several))
    return as_numbers(what, given), None


def as_numbers(what: str, given: Any) -> Tensor:
    """A tensor (N, …): floating-point numbers become float32, integers int64, bytes stay bytes."""
    if isinstance(given, Mapping):
        raise BadValue(
            f"{what} are a dict of {', '.join(map(str, given))}; needs one array (N, …), such as "
            f"one of them."
        )
    try:
        tensor = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError) as error:
        raise BadValue(
            f"{what} cannot be an array of numbers ({error}). Convert text and categories to "
            f"integers, and pad sequences to one length."
        ) from error
    if tensor.ndim == 0 or tensor.is_complex() or tensor.layout != torch.strided:
        kind = f"{str(tensor.dtype)[6:]} {tuple(tensor.shape)}, {str(tensor.layout)[6:]}"
        raise BadValue(f"{what} are {kind}; needs a dense array (N, …) of real numbers.")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
        bad = ~tensor.isfinite()
        if bool(bad.any()):
            examples = bad.flatten(1).any(1) if bad.ndim > 1 else bad
            first = int(examples.nonzero()[0])
            raise BadValue(
                f"{what}: NaN or infinity in {int(examples.sum()):,} of {len(tensor):,} examples, "
                f"the first is number {first}. Remove these examples or fill the gaps."
            )
    elif tensor.dtype != torch.uint8:  # whose batches are int64
        tensor = tensor if tensor.dtype == torch.bool else tensor.long()
    return tensor


def _collected(part: str, given: Any) -> Any:
    """All examples of a torch Dataset in memory: its tensors, or its pairs, stacked."""
    if hasattr(given, "tensors"):
        return given.tensors
    try:
        return default_collate([given[i] for i in range(len(given))])
    except KitError:
        raise
    except Exception as error:  # a user's Dataset can raise anything
        raise BadValue(
            f"{part}: the {type(given).__name__} cannot be read as pairs of equal shapes "
            f"({error}). Give (inputs, targets) as two arrays."
        ) from error


def _pair_hint(given: Any) -> str:
    """How a dict, or more than two parts, become a pair."""
    if isinstance(given, Mapping) and len(given) > 1:
        *inputs, last = map(str, given)
        several = ", ".join(f"{name!r}: d[{name!r}]" for name in inputs)
        return f" If the targets are {last!r}: ({{{several}}}, d[{last!r}])."
    if isinstance(given, (tuple, list)) and 2 < len(given) < 10:
        return " For several inputs, the first of the pair is a tuple: ((a, b), targets)."
    return ""


def _shown(given: Any) -> str:
    if isinstance(given, Mapping):
        return f"a dict of {', '.join(map(str, given))}"
    if isinstance(given, (tuple, list)):
        return f"{type(given).__name__} of {len(given)}"
    return (
        f"{type(given).__name__} {tuple(given.shape)}" if hasattr(given, "shape") else repr(given)
    )


def _check_alike(splits: Mapping[str, Split]) -> None:
    first = splits["train"]
    for part, split in splits.items():
        for what, one, other in zip(("inputs", "targets"), first, split, strict=True):
            if one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
                raise ShapeMismatch(
                    f"{what} of train are {_kind(one)}, of {part} {_kind(other)}; needs the same "
                    f"shape after the first dimension, and the same type."
                )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype)[6:]} (N{''.join(f', {n}' for n in tensor.shape[1:])})"


def _cut(splits: dict[str, Split], missing: list[str], seed: int) -> dict[str, Split]:
    """The splits, with the missing ones cut from `train`: different examples in each."""
    inputs, targets = splits["train"]
    n = len(inputs)
    each = max(1, round(SHARE * n))
    if missing and n <= len(missing) * each:
        raise BadValue(
            f"train has {n} examples, too few to cut {' and '.join(missing)} from it; needs at "
            f"least {len(missing) + 1}. Give more examples, or the other splits."
        )
    shuffle = torch.Generator().manual_seed(check_whole("seed", seed, low=-math.inf) % 2**63)
    drawn = torch.randperm(n, generator=shuffle)
    for part in missing:
        chosen, drawn = drawn[:each], drawn[each:]
        splits = {**splits, part: Split(inputs[chosen], targets[chosen])}
    if missing:
        splits["train"] = Split(inputs[drawn], targets[drawn])
    return splits
