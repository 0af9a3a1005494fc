"""What every technique says of itself, and the one that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from kit.errors import NotSupported


@dataclass(frozen=True)
class Technique:
    """A way to run a trained model, and how far its answers may lie from the model's own."""

    name: str
    does: str
    apply: Callable[[nn.Module], nn.Module]
    tolerance: float  # largest difference of an output, as a share of the outputs' largest
    lacks: Callable[[torch.device], str] = lambda device: ""  # why it cannot work there

    def check(self, device: torch.device | str) -> None:
        """Refuse, before any work, a device that it does not work on.

        Raises
        ------
        NotSupported
            The device, the reason, and what works instead.
        """
        if reason := self.lacks(torch.device(device)):
            told = f"the technique {self.name!r} does not work on {device}: {reason}"
            raise NotSupported(f"{told}. The technique 'none' works everywhere.")

    def __call__(self, model: nn.Module) -> nn.Module:
        """A new model for use, made from a copy; the one given stays as it is."""
        self.check(next((p.device for p in model.parameters()), torch.device("cpu")))
        return self.apply(model)


def untouched(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, whose weights ask for no gradients."""
    return deepcopy(model).eval().requires_grad_(False)
