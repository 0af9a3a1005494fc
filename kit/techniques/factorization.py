"""Low-rank factorization: a large matrix as the product of two narrow ones.

Shapes: O outputs, I inputs, r rank.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from kit.core.checks import check_share
from kit.techniques.technique import UnsuitableModel


def low_rank(model: nn.Module, example: Tensor, share: float = 0.5) -> nn.Module:
    """Each linear layer becomes two narrow ones with at most `share` of its weights.

    The best approximation of a matrix by one of rank r keeps its r largest singular values
    (Eckart & Young, 1936). Layers that would not become smaller stay unchanged. So do layers that
    share their weights with another layer.
    """
    check_share("share", share, strict=True)
    factors: dict[int, nn.Module] = {}  # by layer: a layer that is used twice stays one layer
    shared = _shared_weights(model)
    for parent in list(model.modules()):
        if isinstance(parent, nn.RNNBase):
            continue
        for name, layer in list(parent._modules.items()):  # `named_children` names each once
            if not isinstance(layer, nn.Linear) or id(layer.weight) in shared:
                continue
            if rank := _rank(layer, share):
                if id(layer) not in factors:
                    factors[id(layer)] = _factorize(layer, rank)
                setattr(parent, name, factors[id(layer)])
    if not factors:
        raise UnsuitableModel("the model has no linear layer that two narrower ones could replace")
    return model


def _shared_weights(model: nn.Module) -> set[int]:
    """Weights of several layers, such as tied embeddings: factors would only be added to them."""
    owners = Counter(
        id(weight)
        for part in model.modules()
        for weight in part._parameters.values()
        if weight is not None
    )
    return {weight for weight, n in owners.items() if n > 1}


def _rank(layer: nn.Linear, share: float) -> int:
    """The rank at which two factors have that share of the weights; 0 if there is none."""
    rows, columns = layer.weight.shape
    return int(share * rows * columns / (rows + columns))


def _factorize(layer: nn.Linear, rank: int) -> nn.Sequential:
    """(O, I) ≈ (O, r) · (r, I)."""
    u, values, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    root = values[:rank].sqrt()
    first = nn.Linear(layer.in_features, rank, bias=False)
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    first.weight.data = root[:, None] * v[:rank]
    second.weight.data = u[:, :rank] * root
    if layer.bias is not None:
        second.bias.data = layer.bias.detach().clone()
    pair = nn.Sequential(first, second).to(layer.weight.device).eval()
    return pair.requires_grad_(layer.weight.requires_grad)
