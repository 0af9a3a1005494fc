"""What a technique declares about itself, and the checks that every technique passes.

Shapes: B batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from kit.core.errors import BadValue, KitError, NotInstalled, NotSupported
from kit.data.arguments import check_model
from kit.inference import device_of, evaluating, predict
from kit.models.custom import (
    check_inputs_unchanged,
    copy_model,
    find_logits,
    output_tensor,
    versions_of,
)
from kit.techniques.runtimes import Exported

COLOUR = re.compile(r"\x1b\[\d*m")  # of a terminal
OPERATOR = re.compile(r"(?:aten|prims?|torchvision|torchao)(?:::|\.)\w+(?:\.\w+)?")


class UnsuitableModel(Exception):
    """A technique finds nothing to work on in this model; the text says why."""


@dataclass(frozen=True)
class Technique:
    """A way to run a trained model, and how much its outputs may differ from the model's own.

    Calling it with a model and a batch of real inputs returns a new model. The old one stays
    unchanged.
    """

    name: str
    summary: str
    apply: Callable[..., nn.Module]  # (a copy that it may change, example, **options) -> model
    tolerance: float | None  # largest difference of an output ÷ largest output; None: train it on
    why_not: Callable[[torch.device], str] = lambda device: ""  # why it cannot work on the device
    needs: tuple[str, ...] = ()  # modules of an optional extra
    extra: str = ""  # the extra that installs them
    alternative: str = "none"  # the technique to use where this one does not work
    precision: str = "fp32"  # of its multiplications; "fp32": that of the model
    next_step: str = "train it on"  # what to do with the new model if there is no tolerance

    def __post_init__(self) -> None:
        end = self.next_step if self.tolerance is None else f"within {self.tolerance:g}"
        first = f"{self.summary[0].upper()}{self.summary[1:]}; outputs: {end}."
        object.__setattr__(self, "__doc__", f"{first}\n\n{self.apply.__doc__}")  # for `half?`

    def check(self, device: torch.device | str) -> None:
        """Raise an error, before any work, if the technique cannot work on this computer.

        Raises
        ------
        NotInstalled
            It needs an optional extra. The message has the command that installs it.
        NotSupported
            It does not work on the device. The message says why, and what works instead.
        """
        missing = [module for module in self.needs if find_spec(module) is None]
        if missing:
            raise NotInstalled(f"the technique {self.name!r}", missing, self.extra)
        if reason := self.why_not(torch.device(device)):
            raise self._refused(device, reason)

    def __call__(self, model: nn.Module, example: Tensor, **options: Any) -> nn.Module:
        """Another form of the model, for inference. The model given stays unchanged.

        Parameters
        ----------
        model
            A trained model.
        example
            (B, …) real inputs, on the model's device. Exporters trace the model with them, int8
            takes its scales from them, and both forms must give the same outputs for them.
        options
            Options of the technique, such as the share that `pruned` removes.

        Raises
        ------
        BadValue
            Weights that are NaN or infinite; an example that is not a batch.
        NotInstalled, NotSupported
            See `check`. Also: the technique cannot be applied to this model, or the outputs would
            differ by more than the tolerance.
        """
        call = f"kit.techniques.{self.name}"
        check_model(call, model, f"{call}(model, example)")
        device = device_of(model)
        self.check(device)
        if not isinstance(example, Tensor):
            kind = type(example).__name__
            raise BadValue(
                f"example is a {kind}: needs one tensor. Techniques work on models with one input."
            )
        if example.ndim == 0 or not len(example):
            raise BadValue(
                f"example of shape {tuple(example.shape)}: needs a batch of real inputs."
            )
        # Also lets lazy layers find their sizes before anything is copied.
        versions = versions_of(example)
        answers = output_tensor(predict(model, example), model)
        check_inputs_unchanged(model, example, versions)
        _check_numbers(model)
        try:
            form = self.apply(self._copy(model, example), example, **options)
            difference = _difference(answers, predict(form, example))
            if isinstance(form, Exported):  # it must work for batches of any size, also of one
                alone = _difference(answers[:1], predict(form, example[:1]))
                difference = max(difference, alone)
        except KitError:
            raise
        except UnsuitableModel as reason:
            raise self._refused(device, str(reason)) from None
        except Exception as error:
            raise self._refused(
                device, _parametrised(model, error) or _first_line(error)
            ) from error
        if self.tolerance is not None and not difference <= self.tolerance:
            found = f"its outputs differ by {difference:.2g} of the largest"
            raise self._refused(device, f"{found}; at most {self.tolerance:g} is allowed")
        return form

    def _copy(self, model: nn.Module, example: Tensor) -> nn.Module:
        """A copy that returns one tensor; its weights have gradients if it will be trained on."""
        copy = inference_copy(model) if self.tolerance is not None else copy_model(model).eval()
        with evaluating(model), torch.no_grad():
            return copy if isinstance(model(example), Tensor) else Logits(copy)

    def _refused(self, device: torch.device | str, reason: str) -> NotSupported:
        works = "works everywhere" if self.alternative == "none" else "is the most similar one"
        message = (
            f"the technique {self.name!r} does not work on {device}: {reason}. "
            f"The technique {self.alternative!r} {works}."
        )
        return NotSupported(message, reason)


class Logits(nn.Module):
    """A model that returns several things at once; only its logits are used."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) as the model takes them -> its logits."""
        return find_logits(self.model(inputs))


def inference_copy(model: nn.Module, example: Tensor | None = None) -> nn.Module:
    """A copy in evaluation mode, whose weights have no gradients."""
    return copy_model(model).eval().requires_grad_(False)


def _difference(answers: Tensor, others: Tensor) -> float:
    """The largest difference as a share of the largest output; ∞ if only one of two is finite."""
    a, b = answers.double(), others.double().to(answers.device)
    if a.shape != b.shape:
        raise UnsuitableModel(f"its answers have the shape {tuple(b.shape)}, not {tuple(a.shape)}")
    same = a == b  # also where both are −∞, which means "impossible"
    largest = a[a.isfinite()].abs().max().item() if a.isfinite().any() else 0.0
    gap = (a - b).abs().masked_fill(same, 0.0).nan_to_num(float("inf"), float("inf"))
    return float(gap.max()) / max(largest, 1e-30)


def _check_numbers(model: nn.Module) -> None:
    """Refuse a model whose weights are NaN or infinite: so would be all of its outputs."""
    for name, weights in [*model.named_parameters(), *model.named_buffers()]:
        if weights.is_floating_point() and not bool(weights.isfinite().all()):
            raise BadValue(
                f"{name!r} holds NaN or ∞: the model needs finite weights. Train it again."
            )


def _parametrised(model: nn.Module, error: Exception) -> str:
    """Whether it failed at weights that a layer computes, and what to do; "" if it did not."""
    name = next((name for name, part in model.named_modules() if is_parametrized(part)), None)
    if name is None or not re.search("already exists|cannot assign", str(error)):
        return ""
    return (
        f"it cannot change the weights of {name!r}, which are computed (weight_norm or another "
        f"parametrisation). Make them plain weights first: "
        f"torch.nn.utils.parametrize.remove_parametrizations(model.{name}, 'weight')"
    )


def _first_line(error: BaseException) -> str:
    """A library's error in one line: the operator that is missing, or the first cause."""
    chain = _chain(error)
    if operator := OPERATOR.search(" ".join(map(str, chain))):
        return f"it lacks the operator {operator[0]}"
    lines = [line.strip() for line in str(chain[-1]).splitlines() if line.strip()]
    return f"{type(chain[-1]).__name__}: {COLOUR.sub('', lines[0])[:160] if lines else ''}"


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]
