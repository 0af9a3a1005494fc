"""What each family of models takes: the tests of models, counting and checkpoints ask here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kit.models import FAMILIES


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def images(config: Any, n: int) -> Tensor:
    return torch.rand(n, config.channels, config.height, config.width, generator=_seeded())


def rows(config: Any, n: int) -> Tensor:
    return torch.rand(n, config.features, generator=_seeded())


def sequences(config: Any, n: int, steps: int = 12) -> Tensor:
    return torch.rand(n, steps, config.features, generator=_seeded())


# Family -> from its config and a batch size to inputs. A new family needs a line here.
INPUTS: dict[str, Callable[[Any, int], Tensor]] = {
    "MLP": rows,
    "CNN": images,
    "RNN": sequences,
}


def fresh(family: str, seed: int = 0, **options: Any) -> nn.Module:
    """A model of the family, always the same for a seed."""
    model, config = FAMILIES[family]
    torch.manual_seed(seed)
    return model(config(**options))


def inputs_for(model: nn.Module, n: int) -> Tensor:
    """A batch of n examples that the model takes."""
    return INPUTS[type(model).__name__](model.config, n)
