"""Checks of the first two arguments: the model first, then the workload, the rest by keyword.

A wrong call gets one line: what was given, what is needed, and the right call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from kit.core.errors import BadValue

OWN = "make one from your data: work = kit.workloads.from_data(train=(inputs, targets), model=Net)"
MODEL = "a model"  # what most calls take first
MAKER = "a function that makes a fresh model"


def is_workload(given: object) -> bool:
    """Whether this is a workload, with data, loss and score as in `kit.data.Task`; not a class."""
    names = ("batches", "loss", "score")
    return not isinstance(given, type) and all(hasattr(given, name) for name in names)


def check_pair(call: str, model: object, workload: object, first: str = MODEL) -> None:
    """Refuse anything but a model and a workload, in this order.

    Parameters
    ----------
    call
        The call as a notebook writes it: "kit.train".
    model, workload
        The first and second argument.
    first
        What the call needs first: `MODEL` or `MAKER`.

    Raises
    ------
    BadValue
        What was given, what is needed, and the right call.
    """
    right = f"{call}({'model' if first == MODEL else 'make'}, work)"
    if is_workload(model) and not isinstance(model, nn.Module):
        raise BadValue(f"{call}: given a workload first; needs {first} first: {right}.")
    if not (isinstance(model, nn.Module) if first == MODEL else _makes(model)):
        needs = f"needs {first}: {_model_advice(model, call)}"
        raise BadValue(f"{call}: given {described(model)} first; {needs}.")
    if not is_workload(workload):
        needs = f"needs a workload, which knows data, loss and score: {_workload_advice(workload)}"
        raise BadValue(f"{call}: given {described(workload)} second; {needs}, then {right}.")


def check_model(call: str, model: object, right: str) -> None:
    """Refuse anything but a model as the first argument.

    Parameters
    ----------
    call
        The call as a notebook writes it: "kit.predict".
    model
        The first argument.
    right
        The right call: "kit.predict(model, inputs)".

    Raises
    ------
    BadValue
        What was given, what is needed, and the right call.
    """
    if not isinstance(model, nn.Module):
        hint = f"make it first: work.model({model!r}), then " if isinstance(model, str) else ""
        if isinstance(model, type) and issubclass(model, nn.Module):
            hint = f"make one first: {model.__name__}(), then "
        needs = "needs a model, a torch.nn.Module"
        raise BadValue(f"{call}: given {described(model)} as the model; {needs}: {hint}{right}.")


def described(given: object) -> str:
    """An argument in a few words."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if isinstance(given, (str, int, float)) or given is None:
        return repr(given)
    if isinstance(given, Tensor):
        return f"a tensor {tuple(given.shape)}"
    if _makes(given):
        return f"the function {getattr(given, '__name__', repr(given))}"
    return f"{'the model' if isinstance(given, nn.Module) else 'a'} {type(given).__name__}"


def check_inputs(inputs: object) -> None:
    """Refuse a workload, a NumPy array or a list as inputs of a model."""
    if is_workload(inputs):
        raise BadValue(
            "kit.predict: given a workload as the inputs; needs a tensor, such as "
            "work.example(32)[0]. For the score on all examples use kit.evaluate(model, work)."
        )
    if isinstance(inputs, (np.ndarray, list)):
        shape = f" {inputs.dtype} {inputs.shape}" if isinstance(inputs, np.ndarray) else ""
        raise BadValue(
            f"inputs are {described(inputs)}{shape}; needs a tensor on the model's device: "
            f"torch.as_tensor(inputs, dtype=torch.float32), or dtype=torch.int64 for tokens."
        )


def _makes(given: object) -> bool:
    return callable(given) and not isinstance(given, nn.Module)


def _model_advice(given: Any, call: str) -> str:
    if isinstance(given, nn.Module):
        return f"each rung trains a fresh model, so give a function: {call}(lambda: Net(), work)"
    if isinstance(given, type) and issubclass(given, nn.Module):
        return f"make one: {call}({given.__name__}(), work)"
    if isinstance(given, str):
        return f"make it: {call}(work.model({given!r}), work)"
    return f"any torch.nn.Module: {call}(model, work)"


def _workload_advice(given: Any) -> str:
    if isinstance(given, str):
        return f"work = kit.workloads.get({given!r})"
    if callable(given) and getattr(given, "__module__", "").startswith("kit.workloads"):
        return f"work = kit.workloads.{given.__name__}()"
    return OWN
