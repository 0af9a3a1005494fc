"""Whether two ways to compute something give the same answer and do equal work.

Two programs may only be timed against each other if they agree: first the answers, then the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from kit.core.errors import NotComparable, UnknownName
from kit.core.results import Result
from kit.core.units import words
from kit.plots import Table

# Everything that may differ on purpose. Whatever is not named here has to be equal.
VARIED = ("answer", "shape", "dtype", "device", "mode", "threads", "work")


@dataclass(frozen=True)
class Agreement(Result):
    """How far two results differ."""

    largest_difference: float
    equal_argmax: float | None  # share of rows whose largest entry is at the same position
    atol: float

    @property
    def ok(self) -> bool:
        """Whether no entry differs by more than `atol`."""
        # Must be false for NaN too: `agree` turns NaN into infinity, which is above every `atol`.
        return self.largest_difference <= self.atol

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        word = "agree" if self.ok else "do not agree"
        return f"{word}: largest difference {self.largest_difference:.2g}, allowed {self.atol:.2g}"

    def table(self) -> Table:
        """One row, and the conclusion."""
        row = (f"{self.largest_difference:.2g}", f"{self.atol:.2g}", words(self.equal_argmax, "%"))
        header = ("largest difference", "allowed", "same answer")
        return Table(header, [row], "They agree." if self.ok else "They do not agree.")

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers."""
        return {
            "largest_difference": self.largest_difference,
            "equal_argmax_share": self.equal_argmax,
            "atol": self.atol,
            "agree": self.ok,
        }


def agree(a: Tensor, b: Tensor, *, atol: float = 1e-5) -> Agreement:
    """Whether two results are the same up to `atol`: check this before you time them.

    Compare with a tolerance, because the order of additions changes the last digits of a sum.

    >>> agree(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.000001]))
    agree: largest difference 9.5e-07, allowed 1e-05

    Raises
    ------
    NotComparable
        The shapes differ; the message gives both.
    """
    a, b = _tensor(a), _tensor(b)
    if a.shape != b.shape:
        raise NotComparable(
            f"given shapes {tuple(a.shape)} and {tuple(b.shape)}: needs two of the same shape."
        )
    # Compare in float64, or the comparison itself would round.
    x, y = _plain(a), _plain(b)
    gaps = (x - y).abs().masked_fill(x == y, 0)  # ∞ - ∞ is NaN, but ∞ equals ∞
    gaps = gaps.nan_to_num(float("inf"))  # a NaN in one answer agrees with nothing
    difference = float(gaps.max()) if x.numel() else 0.0
    # Rows of logits: what matters for a classifier is the position of the largest one.
    rows = x.ndim > 1 and x.numel() > 0 and not (x.is_complex() or y.is_complex())
    same = float((x.argmax(-1) == y.argmax(-1)).double().mean()) if rows else None
    return Agreement(difference, same, atol)


def _tensor(answer: Any) -> Tensor:
    """The answer, or the `logits` in it."""
    # Models return a tensor, a dict, or an object with fields, such as those of Hugging Face.
    named = answer.get("logits") if isinstance(answer, Mapping) else None
    for each in (answer, named, getattr(answer, "logits", None)):
        if isinstance(each, Tensor):
            return each
    raise NotComparable(
        f"given a {type(answer).__name__}: needs two tensors, or answers with `logits`. Choose one "
        f"part of it, such as answer[0]."
    )


def _plain(tensor: Tensor) -> Tensor:
    """The same numbers on the CPU, in the widest dtype, so that any two can be compared."""
    # Without `detach`, autograd would record the comparison and hold the graph of the answer.
    kind = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().to_dense().cpu().to(kind)


def varied_names(varied: str | Collection[str]) -> tuple[str, ...]:
    """The names in `varied`, each of which `compare` must know."""
    names = (varied,) if isinstance(varied, str) else tuple(varied)
    for name in names:
        if name not in VARIED:
            raise UnknownName("condition to vary", name, VARIED)
    return names


def tensors_of(answer: Any) -> list[Tensor]:
    """Copies of all tensors, arrays and numbers in an answer.

    They are copies because the next call may write its answer into the same memory.
    """
    found = []
    for leaf in tree_leaves(answer):
        if isinstance(leaf, Tensor):
            # `detach` lets go of the graph and its activations. The flag is set again, because the
            # condition "mode" reads it: recording gradients is work that the other call may not do.
            found.append(leaf.detach().clone().requires_grad_(leaf.requires_grad))
        elif isinstance(leaf, Mapping):  # such as the outputs of Hugging Face's models
            found += tensors_of(dict(leaf))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += tensors_of(vars(leaf))
        elif isinstance(leaf, (np.ndarray, np.generic, int, float, complex)):
            array = np.asarray(leaf)
            with suppress(TypeError):  # text, dates and huge integers do not become tensors
                # PyTorch refuses foreign byte orders and negative strides, as of `array[::-1]`.
                native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
                found.append(torch.as_tensor(native))
    return found


def check_equal_work(
    answers: Mapping[str, list[Tensor]], varied: tuple[str, ...]
) -> Agreement | None:
    """Refuse calls whose answers show that they did unequal work.

    Parameters
    ----------
    answers
        Name of the call -> its answer, see `tensors_of`. The first is the baseline.
    varied
        What differs on purpose, from `VARIED`.

    Returns
    -------
    The agreement of the two answers that differ most; None if there were no numbers to compare.

    Raises
    ------
    NotComparable
        The condition that differs, both its values, and how to allow it.
    """
    # Different tasks on purpose: there is nothing to compare.
    if "work" in varied:
        return None
    (first, wanted), *others = answers.items()
    worst: Agreement | None = None
    for name, given in others:
        # Conditions first: a float32 answer may agree with a bfloat16 one, yet took more work.
        for condition, of in CONDITIONS.items():
            a, b = of(wanted), of(given)
            # All tensors at once, in order: an answer with one tensor more is a difference, too.
            if a != b and condition not in varied:
                raise NotComparable(
                    f"{first!r} and {name!r} do unequal work: {condition} {_listed(a)} and "
                    f"{_listed(b)}. Make it equal. If you want to compare just that, give "
                    f"varied={condition!r}."
                )
        if shapes_of(wanted) != shapes_of(given) or "answer" in varied:
            continue
        for x, y in zip(wanted, given, strict=True):
            if x.is_meta or y.is_meta:  # meta tensors have shapes but no numbers
                continue
            # Compare the tensors one by one, in the order in which they were returned.
            found = agree(x, y, atol=_half_the_digits(x, y))
            if not found:
                raise NotComparable(
                    f"{first!r} and {name!r} give answers that differ by up to "
                    f"{found.largest_difference:.2g}, allowed {found.atol:.2g} (half the digits). "
                    f"Find out which is right. If they are meant to differ, give varied='answer'."
                )
            # Report the worst pair: the best one would say nothing about the others.
            if worst is None or found.largest_difference > worst.largest_difference:
                worst = found
    return worst


def shapes_of(tensors: list[Tensor]) -> list[Any]:
    """The shapes of all tensors in an answer."""
    return [tuple(t.shape) for t in tensors]


CONDITIONS = {
    "shape": shapes_of,
    "dtype": lambda tensors: [str(t.dtype).removeprefix("torch.") for t in tensors],
    # The type without the index: two GPUs of one computer count as the same device.
    "device": lambda tensors: [t.device.type for t in tensors],
    "mode": lambda tensors: [
        "with gradients recorded" if t.requires_grad else "without gradients" for t in tensors
    ],
}


def _half_the_digits(a: Tensor, b: Tensor) -> float:
    """How far two right answers may differ: half the digits of the coarser dtype.

    Rounding errors grow with the number of operations. Half of the digits leave room for that,
    and a wrong formula still shows.
    """
    # Integers and booleans must be equal: they do not round.
    kinds = [t.dtype for t in (a, b) if t.is_floating_point() or t.is_complex()]
    if not kinds or not a.numel():
        return 0.0
    # Relative to the largest entry: small entries of a large sum carry its rounding error.
    largest = _plain(a).abs().nan_to_num(0, 0, 0).max()
    # √eps is 3.5e-4 for float32 and 0.09 for bfloat16, so bfloat16 hides much larger mistakes.
    return float(max(torch.finfo(kind).eps for kind in kinds) ** 0.5 * largest)


def _listed(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values) if values else "of nothing"
