"""Models of the user's own: how to call them, read their outputs, copy them and train them.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from torch.utils._pytree import tree_leaves

from kit.core.errors import BadValue

Inputs = Any  # a tensor (B, …); a tuple of arguments; a dict of keyword arguments
LONGEST_NAME = 160  # characters; the kit's own families need fewer
# The start of PyTorch's message when BatchNorm gets a batch of one example.
TOO_FEW_VALUES = "Expected more than 1 value per channel"

WRAPPER = """\
    class OneTensor(torch.nn.Module):
        def __init__(self, model): super().__init__(); self.model = model
        def forward(self, inputs): return self.model(inputs){part}"""


def call_model(model: Any, inputs: Inputs) -> Any:
    """The model's outputs. A tuple of inputs is its arguments, a dict its keyword arguments.

    If the model's one argument is itself a dict or tuple, give a tuple of one: `(batch,)`.
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def find_logits(outputs: Any, otherwise: Any = None) -> Any:
    """The tensor called `logits` in a dict, dataclass or named tuple; `otherwise` without one.

    Hugging Face's models return such outputs, and so do other models with several outputs.
    """
    named = outputs.get("logits") if isinstance(outputs, Mapping) else None
    logits = getattr(outputs, "logits", None) if named is None else named
    return logits if isinstance(logits, Tensor) else otherwise


def output_tensor(outputs: Any, model: nn.Module) -> Tensor:
    """The one tensor that a loss or a score is computed from: the outputs, or their logits.

    Raises
    ------
    BadValue
        There are several tensors and none is called logits. The message shows a wrapper.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if (logits := find_logits(outputs)) is not None:
        return logits
    given, part = f"a {type(outputs).__name__}", ".NAME"
    if isinstance(outputs, (tuple, list)):
        given, part = f"{given} of {len(outputs)}", "[0]"
    elif isinstance(outputs, Mapping):
        names = list(map(str, outputs))
        given, part = f"{given} with {', '.join(names) or 'nothing'}", f"[{(names or [''])[0]!r}]"
    raise BadValue(
        f"{model._get_name()} returns {given}; the kit needs one tensor, or one called "
        f"`logits`. Wrap the model and return the part for the loss:\n" + WRAPPER.format(part=part)
    )


def check_inputs_unchanged(model: nn.Module, inputs: Any, versions: list[int]) -> None:
    """Refuse a model that writes into its inputs: the data would change with each look at them.

    Parameters
    ----------
    versions
        Of the inputs before the call, from `versions_of`.
    """
    if versions_of(inputs) != versions:
        raise BadValue(
            f"{model._get_name()} changes its inputs in place, such as by x.sub_(1), x -= 1 or "
            f"relu_(x): the same examples would be others at the next look. Let its forward "
            f"begin with x = x.clone(), or write x = x - 1. Examples that it has seen may be "
            f"changed already: load them again."
        )


def versions_of(inputs: Any) -> list[int]:
    """How often each tensor was written to: PyTorch counts it."""
    # In inference mode nothing is counted, and such tensors have no version.
    return [t._version for t in tensors_in(inputs) if not t.is_inference()]


def short_name(model: Any) -> str:
    """The model in a sentence: its repr if that is one short line, else its class and size."""
    name = repr(model)
    if "\n" not in name and len(name) <= LONGEST_NAME:
        return name
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    count = sum(weight.numel() for weight in weights if not is_lazy(weight))
    kind = model._get_name() if isinstance(model, nn.Module) else type(model).__name__
    return f"{kind}: {count:,} parameters"


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in a tensor, tuple, list, dict or dataclass, at any depth."""
    return list(_tensors_in(tree))


def _tensors_in(tree: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, Mapping):  # a class of mapping that PyTorch does not know
            yield from _tensors_in(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors_in(list(vars(leaf).values()))


# --- Copies, and what trains in them -------------------------------------------------------------


def copy_model(model: nn.Module, share_weights: bool = False) -> nn.Module:
    """A deep copy, also of a model that stores tensors with a graph, such as attention weights.

    PyTorch refuses to copy a tensor that has a graph. The copy gets its numbers without the graph.
    With `share_weights`, the copy's parameters and buffers lie where the model's do.
    """
    weights = chain(model.parameters(), model.buffers()) if share_weights else ()
    memo: dict[int, Any] = {id(tensor): _in_the_same_place(tensor) for tensor in weights}
    blank: Any = UninitializedBuffer
    for part in model.modules():
        for tensor in tensors_in(list(vars(part).values())):
            if isinstance(tensor, UninitializedBuffer):  # PyTorch copies lazy weights, not buffers
                memo[id(tensor)] = blank(device=tensor.device, dtype=tensor.dtype)
            elif not isinstance(tensor, UninitializedParameter) and not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return deepcopy(model, memo)


def _in_the_same_place(tensor: Tensor) -> Tensor:
    """Another tensor of the same numbers; what other libraries made stays itself."""
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.detach(), tensor.requires_grad)
    return tensor.detach() if type(tensor) is Tensor else tensor


def enter_training_mode(model: nn.Module) -> None:
    """Put the model in training mode, except parts that its owner froze in evaluation mode.

    A model in training mode keeps the modes of its parts: somebody chose those on purpose. In a
    model in evaluation mode, such as a loaded one, all parts train. The exception are BatchNorm
    layers whose weights are all frozen: their statistics stay frozen, too.
    """
    if model.training:
        return
    model.train()
    for part in batch_norms(model):
        own = list(part.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            part.eval()


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The BatchNorm layers in training mode: there, examples of a batch influence each other."""
    return [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]


def training_copy(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, list[nn.Module]]:
    """A copy in training mode, after a first forward pass; the model itself does not change.

    The first pass gives lazy layers their sizes and fills tables that are made once. BatchNorm
    cannot train on one value per channel, such as a single example gives. Then it uses its running
    statistics, as in a prediction; the second result lists the layers for which that is so.
    """
    learner = copy_model(model)
    enter_training_mode(learner)
    # Dropout in this pass must not move the random numbers of the training that follows.
    with torch.random.fork_rng(), torch.inference_mode(False), torch.no_grad():
        try:
            call_model(learner, inputs)
        except ValueError as error:
            if TOO_FEW_VALUES not in str(error):
                raise
        else:
            return learner, []
        untrainable = batch_norms(learner)
        for part in untrainable:
            part.eval()
        call_model(learner, inputs)
    return learner, untrainable
