"""A model's outputs for a batch of inputs.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from kit.core.errors import DeviceMismatch, DeviceUnavailable
from kit.data.arguments import check_model, check_no_array
from kit.models.custom import Inputs, call_model, find_logits, tensors_in


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


def predict(model: nn.Module, inputs: Inputs) -> Tensor:
    """The model's outputs for the inputs, e.g. (B, 1, 8, 8) -> logits (B, C).

    In evaluation mode (dropout off, running statistics used) and without gradients recorded:
    nothing is kept for a backward pass, so no weight can be changed by it. The mode it found is
    put back. What the model makes meanwhile, such as the weights of lazy layers or a table that it
    caches, are ordinary tensors: it can be trained afterwards (`torch.inference_mode` would make
    tensors that no training can use).

    Parameters
    ----------
    model
        Any module. Of a dict or dataclass with `logits`, as models of Hugging Face return, these
        are taken; other outputs come back as they are.
    inputs
        A tensor; a tuple of arguments, or a dict of keyword arguments, for models with several.

    Raises
    ------
    BadValue
        What was given first is no model, or the inputs are no tensors.
    DeviceMismatch
        Model and inputs live on different devices: both, and the line that moves one.
    DeviceUnavailable
        The device failed or went away; what to do.

    Explained in lesson 01.
    """
    try:
        if isinstance(model, Runtime):  # which has no modes and no graph: to leave out what it
            return model.answer(inputs)  # does not need saves a third of its time
        learning = _put_in_evaluation(model)  # as `evaluating` does, a microsecond sooner
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(False)  # as `torch.no_grad()` does, a microsecond sooner
        try:
            outputs = model(inputs) if isinstance(inputs, Tensor) else call_model(model, inputs)
        finally:
            torch.set_grad_enabled(recording)
            _put_back(learning)
    except (TypeError, AttributeError):
        check_model("kit.predict", model, "kit.predict(model, inputs)")
        check_no_array(inputs)
        raise
    except RuntimeError as error:  # asked only now: it would double a tiny call's time
        explain(error, model, inputs)
        raise
    return outputs if isinstance(outputs, Tensor) else find_logits(outputs, outputs)


class Runtime(nn.Module):
    """A model that another program runs: `answer` gives its outputs, on the device `home`."""

    answer: Callable[[Tensor], Tensor]
    home: torch.device


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are, or its buffers; the CPU if it has neither."""
    if isinstance(model, Runtime):
        return model.home
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def explain(error: RuntimeError, model: nn.Module, inputs: Inputs) -> None:
    """Raise what says more than an error of PyTorch, where the device is to blame for it."""
    check_same_device(model, inputs)
    if isinstance(error, torch.AcceleratorError):
        raise DeviceUnavailable(
            f"{str(device_of(model))!r} failed, or went away while it computed: {error}. This "
            f"process cannot use it again. Save nothing from it; start anew and load the last "
            f"checkpoint, if need be with kit.load(path, 'cpu')."
        ) from error


def check_same_device(model: nn.Module, inputs: Inputs) -> None:
    """Refuse inputs on another device than the model's."""
    home = device_of(model)
    for tensor in tensors_in(inputs):
        if tensor.device.type != home.type:
            raise DeviceMismatch(
                f"the model is on {str(home)!r}, the inputs are on {str(tensor.device)!r}: "
                f"both must be on one device. Use inputs.to({str(home)!r})."
            )
