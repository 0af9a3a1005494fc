"""Models that the kit did not write: how they are called, what they return, what trains in them.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from torch.utils._pytree import tree_leaves

from kit.core.errors import BadValue

Inputs = Any  # a tensor (B, …); a tuple of arguments; a dict of keyword arguments
LONGEST_NAME = 160  # characters; those of the kit's families are shorter
# How PyTorch's BatchNorm refuses a batch of one example.
TOO_FEW_VALUES = "Expected more than 1 value per channel"

WRAPPER = """\
    class OneTensor(torch.nn.Module):
        def __init__(self, model): super().__init__(); self.model = model
        def forward(self, inputs): return self.model(inputs){part}"""


def call_model(model: Any, inputs: Inputs) -> Any:
    """What the model returns: a tuple holds its arguments, a dict its keyword arguments.

    A model whose one argument is itself a dict or tuple takes a tuple of one: `(batch,)`.
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def find_logits(outputs: Any, otherwise: Any = None) -> Any:
    """The tensor called `logits` in a dict, dataclass or named tuple that a model returns.

    So models of Hugging Face answer, and others that return several things at once.
    """
    named = outputs.get("logits") if isinstance(outputs, Mapping) else None
    logits = getattr(outputs, "logits", None) if named is None else named
    return logits if isinstance(logits, Tensor) else otherwise


def output_tensor(outputs: Any, model: nn.Module) -> Tensor:
    """The one tensor that a loss or a score is computed from: the outputs, or their logits.

    Raises
    ------
    BadValue
        Several tensors and none called logits: the wrapper that chooses one of them.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if (logits := find_logits(outputs)) is not None:
        return logits
    told, part = f"a {type(outputs).__name__}", ".NAME"
    if isinstance(outputs, (tuple, list)):
        told, part = f"{told} of {len(outputs)}", "[0]"
    elif isinstance(outputs, Mapping):
        names = list(map(str, outputs))
        told, part = f"{told} with {', '.join(names) or 'nothing'}", f"[{(names or [''])[0]!r}]"
    raise BadValue(
        f"{type(model).__name__} returns {told}; needed is one tensor, or one called `logits`. "
        f"Wrap the model, and take the part that the loss is about:\n" + WRAPPER.format(part=part)
    )


def short_name(model: Any) -> str:
    """What a sentence calls a model: its repr if that is a short line, else its class and size."""
    told = repr(model)
    if "\n" not in told and len(told) <= LONGEST_NAME:
        return told
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    made = sum(weight.numel() for weight in weights if not is_lazy(weight))
    return f"{type(model).__name__}: {made:,} parameters"


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in a tensor, tuple, list, dict or dataclass of them, however deep."""
    return list(_tensors_in(tree))


def _tensors_in(tree: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, Mapping):  # of a class that PyTorch does not know
            yield from _tensors_in(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors_in(list(vars(leaf).values()))


# --- What trains in them -------------------------------------------------------------------------


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that has stored what it computed for a backward pass.

    PyTorch refuses to copy tensors with a graph, such as attention weights kept for a picture; the
    copy gets their numbers.
    """
    memo: dict[int, Any] = {}
    blank: Any = UninitializedBuffer
    for part in model.modules():
        for tensor in tensors_in(list(vars(part).values())):
            if isinstance(tensor, UninitializedBuffer):  # PyTorch copies lazy weights, not these
                memo[id(tensor)] = blank(device=tensor.device, dtype=tensor.dtype)
            elif not isinstance(tensor, UninitializedParameter) and not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return deepcopy(model, memo)


def set_training_mode(model: nn.Module) -> None:
    """Put the model in training mode, but for what its owner has frozen in evaluation mode.

    A model in training mode keeps the modes of its parts: those in evaluation mode were put there.
    A model that was handed over in evaluation mode, as a loaded one is, trains with all its parts,
    but for BatchNorm layers whose own weights are all frozen: their statistics are, too.
    """
    if model.training:
        return
    model.train()
    for part in batch_norms(model):
        own = list(part.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            part.eval()


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The layers in training mode whose outputs for an example depend on the rest of its batch."""
    return [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]


def training_copy(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, list[nn.Module]]:
    """A copy that trains on such inputs, after its first forward pass; the model stays as it is.

    Lazy layers have got their sizes, and tables that are made once are there. BatchNorm cannot
    train on one value per channel, such as of a single example: then it uses its running
    statistics, as in a prediction. The layers for which that is so come back as well.
    """
    learner = copy_model(model)
    set_training_mode(learner)
    with torch.random.fork_rng(), torch.inference_mode(False), torch.no_grad():
        try:
            call_model(learner, inputs)
        except ValueError as error:
            if TOO_FEW_VALUES not in str(error):
                raise
        else:
            return learner, []
        lonely = batch_norms(learner)
        for part in lonely:
            part.eval()
        call_model(learner, inputs)
    return learner, lonely
