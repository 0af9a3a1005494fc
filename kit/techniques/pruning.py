"""Pruning: single weights set to zero, or whole channels removed.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kit.core.checks import check_share
from kit.core.errors import BadValue
from kit.core.silence import silenced
from kit.models import build, family_of
from kit.models.transformer import Attention
from kit.techniques.technique import UnsuitableModel

# Layers whose outputs cannot be removed one by one: heads, gates, the residual stream.
NOT_PRUNED = (nn.Embedding, nn.LayerNorm, nn.GRU, nn.LSTM, Attention)


def zeroed(model: nn.Module, example: Tensor, share: float = 0.8) -> nn.Module:
    """The smallest weights of all layers become zeros ("unstructured"): the share `share` of them.

    Train it on within `with kit.techniques.keep_zeros(model):`. Otherwise training fills the zeros
    again, and `kit.train` warns about it.

    Zeros are multiplied like all other weights, and take as many bytes. LeCun, Denker & Solla,
    "Optimal Brain Damage", 1989; by magnitude: Han et al., "Learning both Weights and Connections
    for Efficient Neural Networks", 2015.
    """
    check_share("share", share, strict=True)
    # Of the layers that share weights the first: a change of its weights changes them all.
    once = {id(getattr(part, name)): (part, name) for part, name in _weights(model)[::-1]}
    if not (weights := [*once.values()]):
        raise UnsuitableModel("it has no linear layer and no convolution")
    prune.global_unstructured(weights, prune.L1Unstructured, amount=share)
    for part, name in weights:
        prune.remove(part, name)  # leaves the zeros, as weights like others
        part.zeroed = True  # type: ignore[assignment]  # so that `kit.train` can warn
    return model


@contextmanager
def keep_zeros(model: nn.Module) -> Iterator[nn.Module]:
    """Within, weights that are zero stay zero while the model is trained; the others learn.

    Each layer multiplies its weights by a mask before it uses them. Masking the gradients would
    not be enough: each part of a Muon step depends on all parts of the gradient.
    """
    weights = _sharing(model)
    for part, name in weights:
        prune.custom_from_mask(part, name, getattr(part, name) != 0)
    try:
        yield model
    finally:
        for part, name in weights:
            prune.remove(part, name)


def _weights(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The layers whose weights may become zeros, and the names of these weights."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [(part, "weight") for part in model.modules() if isinstance(part, layers)]


def _sharing(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The layers of `_weights`, and those that share weights with them, such as tied embeddings."""
    shared = {id(getattr(part, name)) for part, name in _weights(model)}
    return [
        (part, name)
        for part in model.modules()
        for name, weight in part.named_parameters(recurse=False, remove_duplicate=False)
        if id(weight) in shared
    ]


@silenced()
def pruned(model: nn.Module, example: Tensor, share: float = 0.5) -> nn.Module:
    """Whole channels and units are removed ("structured"): the share `share` of each layer.

    It removes the channels with the smallest weights, and the weights of the next layer that read
    them. So the model becomes smaller and computes less. Fang et al., "DepGraph: Towards Any
    Structural Pruning", 2023.
    """
    import torch_pruning as tp

    check_share("share", share, strict=True)
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    before = sum(p.numel() for p in model.parameters())
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    pruner = tp.pruner.BasePruner(
        model.requires_grad_(True),  # torch_pruning follows the autograd graph
        example[:2],
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[p for p in model.modules() if isinstance(p, NOT_PRUNED)] + layers[-1:],
    )
    pruner.step()
    if sum(p.numel() for p in model.parameters()) == before:
        raise UnsuitableModel("it has no layer whose channels could be removed")
    _update_config(model, share)
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
    return model


def _update_config(model: Any, share: float) -> None:
    """Give the model a config of its new sizes, if there is one, so that it can be loaded again."""
    family = family_of(model)
    if family is None:
        return
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    sizes = {f.name: getattr(model.config, f.name) for f in fields(model.config)}
    # Words, such as a kind of positions, stay as they are.
    choices = [{v, v - int(v * share)} if isinstance(v, int) else {v} for v in sizes.values()]
    for values in product(*choices):
        try:
            config = replace(model.config, **dict(zip(sizes, values, strict=True)))
            with torch.device("meta"):
                other = build(family, vars(config))
        except BadValue:
            continue
        if {name: value.shape for name, value in other.state_dict().items()} == wanted:
            model.config = config
            return
