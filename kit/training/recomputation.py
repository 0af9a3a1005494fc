"""Keep less for the backward pass, and compute it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from kit.core.errors import BadValue


@contextmanager
def recomputed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Layers that repeat keep their input alone, and compute the rest again in the backward pass.

    Less memory for about a third more work (Chen et al., "Training Deep Nets with Sublinear
    Memory Cost", 2016).

    Raises
    ------
    BadValue
        The model has no layers that repeat, as a list.
    """
    layers: list[Any] = layers_that_repeat(model) if wanted else []
    if wanted and not layers:
        told = f"recompute=True: {type(model).__name__} has no list of layers that repeat"
        raise BadValue(f"{told}. It helps deep models, such as the GPT; leave it out here.")
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own shows again


def layers_that_repeat(model: nn.Module) -> list[nn.Module]:
    """The layers of each list of them in the model, each once; none if it has no list."""
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    return list(dict.fromkeys(layer for part in lists for layer in part))
