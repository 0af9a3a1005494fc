"""Activation checkpointing: save less for the backward pass, and compute it a second time."""

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
    """Within, layers that repeat save their input only, and recompute the rest when it is needed.

    This needs less memory and about a third more work, since each layer's forward pass runs twice
    (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).

    Raises
    ------
    BadValue
        The model has no `nn.ModuleList` of layers that repeat.
    """
    layers: list[Any] = layers_that_repeat(model) if wanted else []
    if wanted and not layers:
        raise BadValue(
            f"recompute=True: {model._get_name()} has no list of layers that repeat. It helps "
            f"deep models, such as the GPT; leave it out here."
        )
    for layer in layers:
        # On the instance, so that weights keep their names and checkpoints stay the same.
        # PyTorch also puts the random state back for the second pass: dropout drops the same
        # values. The older, reentrant way gives no gradients if no input of a layer needs one.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the method of the class is visible again


def layers_that_repeat(model: nn.Module) -> list[nn.Module]:
    """The layers in all `nn.ModuleList`s of the model, each once; none if it has no list."""
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    # Each once: a layer in two lists would be wrapped twice, and `del` above works only once.
    return list(dict.fromkeys(layer for part in lists for layer in part))
