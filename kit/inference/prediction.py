"""A model's outputs for a batch of inputs.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, DeviceMismatch, DeviceUnavailable
from kit.data.arguments import check_inputs, check_model
from kit.devices import start_work
from kit.models.custom import Inputs, call_model, find_logits, tensors_in


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; each part's own mode is put back at the end."""
    # Modes belong to the model, not to the thread: a thread that trains it would see them, too.
    in_training = _leave_training_mode(model)
    try:
        yield model
    finally:
        _back_to_training_mode(in_training)


def predict(model: nn.Module, inputs: Inputs) -> Tensor:
    """The model's outputs for the inputs, e.g. (B, 1, 8, 8) -> logits (B, C).

    The model computes in evaluation mode (dropout off, BatchNorm with its running statistics) and
    without recording gradients. Nothing is saved for a backward pass, so no weight can change.
    Afterwards the model is in the mode in which it was.

    Tensors that the model creates meanwhile, such as the weights of lazy layers or a cached table,
    can be trained with later. With `torch.inference_mode` they could not.

    Parameters
    ----------
    model
        Any module. If it returns a dict or an object with `logits`, as Hugging Face models do, you
        get these. Other outputs come back as they are.
    inputs
        A tensor; for a model with several arguments a tuple, or a dict of keyword arguments.

    Raises
    ------
    BadValue
        The first argument is not a model, or the inputs are not tensors that the model takes.
    DeviceMismatch
        Model and inputs are on different devices: names both, and the line that moves one.
    DeviceUnavailable
        The device failed or went away: what to do.

    Examples
    --------
    >>> import torch, kit
    >>> model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
    >>> outputs = kit.predict(model, torch.ones(3, 4))
    >>> outputs.shape, outputs.requires_grad, model.training
    (torch.Size([3, 2]), False, True)

    Explained in lesson 01.
    """
    try:
        if isinstance(model, Runtime):  # another program computes: it has no modes and no graph
            return model.answer(inputs)
        outputs = _forward(model, inputs)
    # Errors are explained only now: to check every call first would double a tiny model's time.
    except (TypeError, AttributeError):
        check_model("kit.predict", model, "kit.predict(model, inputs)")
        check_inputs(inputs)
        check_arguments("kit.predict", model, inputs)
        raise
    except RuntimeError as error:
        explain(error, model, inputs)
        raise
    outputs = outputs if isinstance(outputs, Tensor) else find_logits(outputs, outputs)
    start_work(outputs)  # a lazy device has only noted the call
    return outputs


def _forward(model: nn.Module, inputs: Inputs) -> Any:
    """The fast path of `with evaluating(model), torch.no_grad(): call_model(model, inputs)`.

    It computes the same, bit for bit (a test holds both against each other), and saves the two
    context managers: 2 µs per call, which a model of a few µs would notice.
    """
    in_training = _leave_training_mode(model)
    recording = torch.is_grad_enabled()
    # This flag belongs to the thread: other threads go on recording. `torch.set_grad_enabled` makes
    # an object for a `with` block first, which takes four times as long.
    torch._C._set_grad_enabled(False)
    try:
        return model(inputs) if isinstance(inputs, Tensor) else call_model(model, inputs)
    finally:
        torch._C._set_grad_enabled(recording)
        _back_to_training_mode(in_training)


# --- Modes ---------------------------------------------------------------------------------------

FOUND = "_kit_found"  # where a model's own dict keeps its `_Parts`


def _leave_training_mode(model: nn.Module) -> Sequence[nn.Module]:
    """The fast path of `model.eval()`; returns the parts that were in training mode.

    It walks `_modules` (several times as fast as `model.modules()`) and writes `training` into the
    instance's dict (ten times as fast as `nn.Module.__setattr__`).
    """
    if _still_evaluates(model):
        return ()
    parts = [model]
    for part in parts:  # the list grows while the loop walks it
        # None is a part that was left out. A part that is used twice comes twice: no harm is done.
        parts += [each for each in part._modules.values() if each is not None]
    # Only these are changed and put back: a mixed model, such as one with a frozen BatchNorm, stays
    # mixed.
    in_training = [part for part in parts if part.training]
    for part in in_training:
        vars(part)["training"] = False
    if not in_training:
        _remember(model, parts)
    return in_training


def _back_to_training_mode(in_training: Sequence[nn.Module]) -> None:
    for part in in_training:
        vars(part)["training"] = True


class _Parts:
    """The dicts of a model's parts, as they were when none of them was in training mode.

    To look at them once more takes less than half of the time of the walk that found them, because
    PyTorch's modules look up their attributes slowly, and dicts do not. A part that was taken out
    of the model stays in memory until the next prediction.
    """

    __slots__ = ("inner", "leaves", "own")

    def __init__(self, model: nn.Module, parts: Sequence[nn.Module]):
        # Without the model's own dict, which holds this object: the two would wait for Python's
        # garbage collector, and the weights with them.
        others = [vars(part) for part in parts if part is not model]
        self.own = dict(model._modules)
        self.inner = [(part, dict(part["_modules"])) for part in others if part["_modules"]]
        self.leaves = [part for part in others if not part["_modules"]]

    def __reduce__(self) -> tuple[Any, ...]:
        """None: a copy of the model has other parts, and so has one that is read from a file."""
        return type(None), ()


def _still_evaluates(model: nn.Module) -> bool:
    """Whether the model has the parts that were found last, and still none is in training mode."""
    own = model.__dict__
    found = own.get(FOUND)
    if found is None:
        return False
    for part in found.leaves:
        if part["training"] or part["_modules"]:
            return False
    for part, parts in found.inner:
        if part["training"] or part["_modules"] != parts:
            return False
    return not own["training"] and own["_modules"] == found.own


def _remember(model: nn.Module, parts: Sequence[nn.Module]) -> None:
    """Save what was found, if a look at the dicts is enough to see a change."""
    # The mode of a TorchScript module is not in its dict; modules with a `==` of their own may call
    # another one equal.
    if all("training" in vars(part) and type(part).__eq__ is object.__eq__ for part in parts):
        vars(model)[FOUND] = _Parts(model, parts)


class Runtime(nn.Module):
    """A model that another program runs, such as ONNX Runtime; `answer` returns its outputs."""

    answer: Callable[[Tensor], Tensor]
    home: torch.device


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's weights, or of its buffers; the CPU if it has neither."""
    if isinstance(model, Runtime):
        return model.home
    # The first tensor decides: a model that is spread over devices takes its inputs there.
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def explain(error: RuntimeError, model: nn.Module, inputs: Inputs) -> None:
    """Raise an error that says more than PyTorch's, if a device or a dtype caused it."""
    # First the mistake that is far more common than a broken device.
    check_same_device(model, inputs)
    _check_same_dtype(error, model, inputs)
    if "does not require grad" in str(error):
        raise BadValue(
            f"{type(model).__name__} computes gradients in its forward, and kit.predict records "
            f"none. Put that part into `with torch.enable_grad():`, in the forward."
        ) from error
    if isinstance(error, torch.AcceleratorError):
        raise DeviceUnavailable(
            f"{str(device_of(model))!r} failed, or went away while it computed: {error}. This "
            f"process cannot use it again, and its tensors are lost. Start a new process, and load "
            f"the last checkpoint, if need be with kit.load(path, 'cpu')."
        ) from error


def check_same_device(model: nn.Module, inputs: Inputs) -> None:
    """Refuse inputs on another device than the model's."""
    home = device_of(model)
    for tensor in tensors_in(inputs):
        # Types only: "cuda" and "cuda:0" mean the same GPU, but are not equal as devices.
        if tensor.device.type != home.type:
            raise DeviceMismatch(
                f"the model is on {str(home)!r}, the inputs are on {str(tensor.device)!r}: "
                f"they must be on the same device. Use inputs.to({str(home)!r})."
            )


def _check_same_dtype(error: RuntimeError, model: nn.Module, inputs: Inputs) -> None:
    """Refuse inputs of another dtype than the weights, if PyTorch complained about dtypes."""
    weight = next((w for w in model.parameters() if w.is_floating_point()), None)
    # Token ids are whole numbers on purpose: behind an embedding, the fault lies elsewhere.
    if weight is None or any(isinstance(part, nn.Embedding) for part in model.modules()):
        return
    for tensor in tensors_in(inputs):
        if tensor.dtype != weight.dtype and re.search("same|scalar type ", str(error)):
            raise BadValue(
                f"the inputs are {tensor.dtype}, the model's weights are {weight.dtype}: "
                f"they must have the same dtype. Use inputs.to({weight.dtype})."
            ) from error


def check_arguments(call: str, model: nn.Module, inputs: Inputs) -> None:
    """Refuse inputs that do not fit the arguments of the model's `forward`."""
    try:
        takes = signature(model.forward)
    except (TypeError, ValueError):  # compiled code may have none
        return
    try:
        call_model(takes.bind, inputs)
    except TypeError as error:
        raise BadValue(
            f"{call}: given a {type(inputs).__name__} of inputs: {error}; "
            f"{type(model).__name__} takes {', '.join(takes.parameters)}. A tuple holds arguments "
            f"in order, a dict by name; give a single tensor as it is. If the model takes one "
            f"dict, give a tuple of it: (inputs,)."
        ) from error
