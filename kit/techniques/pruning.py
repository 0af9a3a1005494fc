"""Less to keep: weights set to zero one by one, or whole channels taken out.

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
from kit.techniques.technique import Unsuitable

# Whose outputs have a meaning place by place: heads, gates, what is added up along the model.
WHOLE = (nn.Embedding, nn.LayerNorm, nn.GRU, nn.LSTM, Attention)


def zeroed(model: nn.Module, example: Tensor, share: float = 0.8) -> nn.Module:
    """The smallest weights of all layers become zeros ("unstructured"): as many as `share` says.

    Train it on within `with kit.techniques.zeros_kept(model):`; outside, training fills the zeros,
    and `kit.train` warns of it.

    They are multiplied like all others, and take as many bytes. LeCun, Denker & Solla, "Optimal
    Brain Damage", 1989; by magnitude: Han et al., "Learning both Weights and Connections for
    Efficient Neural Networks", 2015.
    """
    check_share("share", share, strict=True)
    weights = _once(_weights(model))
    if not weights:
        raise Unsuitable("it has no linear layer and no convolution")
    prune.global_unstructured(weights, prune.L1Unstructured, amount=share)
    for part, name in weights:
        prune.remove(part, name)  # leaves the zeros, as weights like others
        part.zeroed = True  # type: ignore[assignment]  # so that `kit.train` can warn
    return model


@contextmanager
def zeros_kept(model: nn.Module) -> Iterator[nn.Module]:
    """While it is trained on in here, its weights that are zero stay so, and the others learn.

    Each layer multiplies its weights by a mask before it uses them. To hold the gradients of the
    zeros at zero would not do: Muon makes each part of a step of all parts of the gradient.
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
    """The layers whose weights may become zeros, and what these are called there."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return [(part, "weight") for part in model.modules() if isinstance(part, layers)]


def _sharing(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """These layers, and those that share weights with one of them, such as a tied embedding."""
    shared = {id(getattr(part, name)) for part, name in _weights(model)}
    each = [
        (part, name)
        for part in model.modules()
        for name, weight in part.named_parameters(recurse=False, remove_duplicate=False)
        if id(weight) in shared
    ]
    return each


def _once(weights: list[tuple[nn.Module, str]]) -> list[tuple[nn.Module, str]]:
    """Of layers that share weights, the first: what is done to its weights is done to all."""
    return list({id(getattr(part, name)): (part, name) for part, name in weights[::-1]}.values())


def pruned(model: nn.Module, example: Tensor, share: float = 0.5) -> nn.Module:
    """Whole channels and units are taken out ("structured"), of each layer as many as `share` says.

    Those with the smallest weights go, and with them what the next layer had for them: the model
    is smaller and does less work. Fang et al., "DepGraph: Towards Any Structural Pruning", 2023.
    """
    check_share("share", share, strict=True)
    with silenced():
        return _without_channels(model, example, share)


def _without_channels(model: nn.Module, example: Tensor, share: float) -> nn.Module:
    import torch_pruning as tp

    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    before = sum(p.numel() for p in model.parameters())
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    pruner = tp.pruner.BasePruner(
        model.requires_grad_(True),  # it follows the graph of gradients
        example[:2],
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=[p for p in model.modules() if isinstance(p, WHOLE)] + layers[-1:],
    )
    pruner.step()
    if sum(p.numel() for p in model.parameters()) == before:
        raise Unsuitable("none of its layers has channels that could go alone")
    _tell_config(model, share)
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
    return model


def _tell_config(model: Any, share: float) -> None:
    """A config of its new sizes, if there is one: with it the model can be saved and loaded."""
    family = family_of(model)
    if family is None:
        return
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    sizes = {f.name: getattr(model.config, f.name) for f in fields(model.config)}
    choices = [{v, v - int(v * share)} for v in sizes.values()]
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
