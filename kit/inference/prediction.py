"""A model's outputs for a batch of inputs.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kit.errors import DeviceMismatch, DeviceUnavailable


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; each part's own mode is put back at the end."""
    parts = [model]
    for part in parts:  # grows while it is walked; `model.modules()` takes several times as long
        parts.extend(part.children())
    learning = [part for part in parts if part.training]
    for part in learning:
        part.training = False
    try:
        yield model
    finally:
        for part in learning:
            part.training = True


def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's outputs for the inputs, e.g. (B, 1, 8, 8) -> logits (B, C).

    In evaluation mode (dropout off, running statistics used) and in inference mode: nothing is
    kept for a backward pass, so no weight can be changed by it. The mode it found is put back.

    Raises
    ------
    DeviceMismatch
        Model and inputs live on different devices: both, and the line that moves one.
    DeviceUnavailable
        The device failed or went away; what to do.

    Explained in lesson 01.
    """
    with evaluating(model), torch.inference_mode():
        try:
            return model(inputs)
        except RuntimeError as error:  # asked only now: it would double a tiny call's time
            explain(error, model, inputs)
            raise


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are; the CPU for a model without weights."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def explain(error: RuntimeError, model: nn.Module, inputs: Tensor) -> None:
    """Raise what says more than an error of PyTorch, where the device is to blame for it."""
    check_same_device(model, inputs)
    if isinstance(error, torch.AcceleratorError):
        raise DeviceUnavailable(
            f"{str(inputs.device)!r} failed, or went away while it computed: {error}. This process "
            f"cannot use it again. Save nothing from it; start anew and load the last checkpoint, "
            f"if need be with kit.load(path, 'cpu')."
        ) from error


def check_same_device(model: nn.Module, inputs: Tensor) -> None:
    """Refuse inputs on another device than the model's."""
    home = device_of(model)
    if inputs.device.type != home.type:
        raise DeviceMismatch(
            f"the model is on {str(home)!r}, the inputs are on {str(inputs.device)!r}: "
            f"both must be on one device. Use inputs.to({str(home)!r})."
        )
