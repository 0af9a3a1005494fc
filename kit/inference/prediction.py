"""A model's outputs for a batch of inputs.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kit.data.asked import check_no_array
from kit.errors import DeviceMismatch, DeviceUnavailable


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; each part's own mode is put back at the end."""
    learning = _put_in_evaluation(model)
    try:
        yield model
    finally:
        _put_back(learning)


def _put_in_evaluation(model: nn.Module) -> list[nn.Module]:
    """Turn training mode off where it is on; where that was."""
    parts = [model]
    for part in parts:  # grows while it is walked; `model.modules()` takes several times as long
        parts.extend(filter(None, part._modules.values()))
    learning = [part for part in parts if part.training]
    for part in learning:  # a module's own way to set an attribute takes ten times as long
        vars(part)["training"] = False
    return learning


def _put_back(learning: list[nn.Module]) -> None:
    for part in learning:
        vars(part)["training"] = True


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
    try:
        if run := vars(model).get("answer"):  # another runtime's, which has no modes and no graph:
            return run(inputs)  # to leave out what it does not need saves a third of its time
        learning = _put_in_evaluation(model)  # as `evaluating` does, a microsecond sooner
        try:
            with torch.inference_mode():
                return model(inputs)
        finally:
            _put_back(learning)
    except (TypeError, AttributeError):
        check_no_array(inputs)
        raise
    except RuntimeError as error:  # asked only now: it would double a tiny call's time
        explain(error, model, inputs)
        raise


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are; without weights, its `home`, or else the CPU."""
    for p in model.parameters():
        return p.device
    return getattr(model, "home", torch.device("cpu"))


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
