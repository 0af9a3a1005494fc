"""What every technique says of itself, and what it is held to.

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

from kit.core.errors import BadValue, KitError, NotInstalled, NotSupported
from kit.data.arguments import check_model
from kit.inference import device_of, evaluating, predict
from kit.models.custom import copy_model, find_logits, output_tensor
from kit.techniques.runtimes import Exported

COLOUR = re.compile(r"\x1b\[\d*m")  # of a terminal
OPERATOR = re.compile(r"(?:aten|prims?|torchvision|torchao)(?:::|\.)\w+(?:\.\w+)?")


class Unsuitable(Exception):
    """Raised by a technique that finds nothing to work on in this model; the words say why."""


@dataclass(frozen=True)
class Technique:
    """A way to run a trained model, and how far its answers may lie from the model's own.

    Called with a model and a batch of real inputs, it gives a new model and leaves the old one
    as it is.
    """

    name: str
    does: str
    apply: Callable[..., nn.Module]  # (a copy that is its own, example, **options) -> model
    tolerance: float | None  # largest difference of an output ÷ the largest; None: train it on
    lacks: Callable[[torch.device], str] = lambda device: ""  # why it cannot work there
    needs: tuple[str, ...] = ()  # modules of an optional extra
    extra: str = ""  # the extra that brings them
    instead: str = "none"  # the technique to take where this one does not work
    computes: str = "fp32"  # what it multiplies in; "fp32": as the model does
    after: str = "train it on"  # what to do with it where it has no tolerance

    def __post_init__(self) -> None:
        end = self.after if self.tolerance is None else f"within {self.tolerance:g}"
        told = f"{self.does[0].upper()}{self.does[1:]}; answers: {end}.\n\n{self.apply.__doc__}"
        object.__setattr__(self, "__doc__", told)  # what `kit.techniques.half?` shows

    def check(self, device: torch.device | str) -> None:
        """Refuse, before any work, a device that it does not work on, or what is not installed.

        Raises
        ------
        NotInstalled
            It needs an optional extra: the command that installs it.
        NotSupported
            The device, the reason, and what works instead.
        """
        missing = [module for module in self.needs if find_spec(module) is None]
        if missing:
            raise NotInstalled(f"the technique {self.name!r}", missing, self.extra)
        if reason := self.lacks(torch.device(device)):
            raise self._refused(device, reason)

    def __call__(self, model: nn.Module, example: Tensor, **options: Any) -> nn.Module:
        """Another form of the model, for use; the one given stays as it is.

        Parameters
        ----------
        model
            A trained one.
        example
            (B, …) real inputs, on the model's device. Exporters follow them through the model,
            int8 learns from them how large numbers get, and both forms have to agree on them.
        options
            Of the technique, such as how much `pruned` takes away.

        Raises
        ------
        BadValue
            Weights that are no numbers, an example without a batch.
        NotInstalled, NotSupported
            See `check`; or it cannot be done to this model, or its answers would differ by more
            than the tolerance.
        """
        call = f"kit.techniques.{self.name}"
        check_model(call, model, f"{call}(model, example)")
        device = device_of(model)
        self.check(device)
        if not isinstance(example, Tensor):
            kind = type(example).__name__
            raise BadValue(f"example is a {kind}: forms are made of models that take one tensor.")
        if example.ndim == 0 or not len(example):
            raise BadValue(
                f"example of shape {tuple(example.shape)}: needs a batch of real inputs."
            )
        # Lazy layers get their sizes in this first call.
        answers = output_tensor(predict(model, example), model)
        _check_numbers(model)
        try:
            form = self.apply(self._own(model, example), example, **options)
            difference = _difference(answers, predict(form, example))
            if isinstance(form, Exported):  # made for batches of any size, one example too
                alone = _difference(answers[:1], predict(form, example[:1]))
                difference = max(difference, alone)
        except KitError:
            raise
        except Unsuitable as reason:
            raise self._refused(device, str(reason)) from None
        except Exception as error:
            raise self._refused(device, _told(error)) from error
        if self.tolerance is not None and not difference <= self.tolerance:
            told = f"its answers differ by {difference:.2g} of the largest"
            raise self._refused(device, f"{told}, allowed are {self.tolerance:g}")
        return form

    def _own(self, model: nn.Module, example: Tensor) -> nn.Module:
        """A copy to change, which returns one tensor; with gradients, if it is to be trained on."""
        own = untouched(model) if self.tolerance is not None else copy_model(model).eval()
        with evaluating(model), torch.no_grad():
            return own if isinstance(model(example), Tensor) else Logits(own)

    def _refused(self, device: torch.device | str, reason: str) -> NotSupported:
        told = f"the technique {self.name!r} does not work on {device}: {reason}"
        works = "works everywhere" if self.instead == "none" else "is near to it"
        return NotSupported(f"{told}. The technique {self.instead!r} {works}.", reason)


class Logits(nn.Module):
    """A model that returns several things at once, of which the logits are used."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) as the model takes them -> its logits."""
        return find_logits(self.model(inputs))


def untouched(model: nn.Module, example: Tensor | None = None) -> nn.Module:
    """A copy in evaluation mode, whose weights ask for no gradients."""
    return copy_model(model).eval().requires_grad_(False)


def _difference(answers: Tensor, others: Tensor) -> float:
    """The largest difference as a share of the largest answer; ∞ where one of them is no number."""
    a, b = answers.double(), others.double().to(answers.device)
    if a.shape != b.shape:
        raise Unsuitable(f"its answers have the shape {tuple(b.shape)}, not {tuple(a.shape)}")
    same = a == b  # −∞, "impossible", is a fine answer
    largest = a[a.isfinite()].abs().max().item() if a.isfinite().any() else 0.0
    gap = (a - b).abs().masked_fill(same, 0.0).nan_to_num(float("inf"), float("inf"))
    return float(gap.max()) / max(largest, 1e-30)


def _check_numbers(model: nn.Module) -> None:
    """Refuse weights that are no numbers: what is made of them would be none either."""
    for name, weights in [*model.named_parameters(), *model.named_buffers()]:
        if weights.is_floating_point() and not bool(weights.isfinite().all()):
            raise BadValue(f"{name!r} holds NaN or ∞: a model that cannot be used. Train it anew.")


def _told(error: BaseException) -> str:
    """An error of a library in a line: the operator that is lacking, or else its root's words."""
    chain = _chain(error)
    if operator := OPERATOR.search(" ".join(map(str, chain))):
        return f"it lacks the operator {operator[0]}"
    lines = [line.strip() for line in str(chain[-1]).splitlines() if line.strip()]
    return f"{type(chain[-1]).__name__}: {COLOUR.sub('', lines[0])[:160] if lines else ''}"


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]
