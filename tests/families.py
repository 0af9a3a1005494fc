"""What each family of models takes, and a GPT for tests of writing."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from kit.models import FAMILIES, GPT, GPTConfig


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def images(config: Any, n: int) -> Tensor:
    return torch.rand(n, config.channels, config.height, config.width, generator=_seeded())


def rows(config: Any, n: int) -> Tensor:
    return torch.rand(n, config.features, generator=_seeded())


def sequences(config: Any, n: int, steps: int = 12) -> Tensor:
    return torch.rand(n, steps, config.features, generator=_seeded())


def histories(config: Any, n: int) -> Tensor:
    """Rows of five item numbers, the last one padding."""
    items = torch.randperm(config.items, generator=_seeded())[:4] + torch.arange(n).unsqueeze(1)
    return torch.nn.functional.pad(items % config.items + 1, (0, 1))


def pairs(config: Any, n: int, places: int = 7) -> Tensor:
    """A source whose last place is padding, the start, and the translation so far."""
    words = torch.randint(3, config.symbols, (n, config.source + places), generator=_seeded())
    if config.source > 1:
        words[:, config.source - 1] = 0
    words[:, config.source] = 1
    return words


def texts(config: Any, n: int, places: int = 32) -> Tensor:
    """Tokens of the vocabulary."""
    return torch.randint(config.vocab_size, (n, places), generator=_seeded())


# Family -> from its config and a batch size to inputs. A new family needs a line here.
INPUTS: dict[str, Callable[[Any, int], Tensor]] = {
    "MLP": rows,
    "CNN": images,
    "Autoencoder": images,
    "CNN1d": sequences,
    "RNN": sequences,
    "Transformer": sequences,
    "GPT": texts,
    "BERT": texts,
    "Policy": rows,
    "Seq2Seq": pairs,
    "TwoTower": histories,
}

# How far the memory that is counted may lie from what the profiler sees, where a tenth is not to
# be had. Others keep to a tenth.
MEMORY_WITHIN = {
    "CNN1d": 0.5,  # oneDNN convolves over time in scratch memory of its own, which is not seen
}


def fresh(family: str, seed: int = 0, **options: Any) -> nn.Module:
    """A model of the family, always the same for a seed."""
    model, config = FAMILIES[family]
    torch.manual_seed(seed)
    return model(config(**options))


def sizes(config: Any) -> dict[str, int]:
    """The whole numbers of a config, by name: what a family checks to be at least 1."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: value for name, value in values.items() if type(value) is int}


def larger(family: str) -> nn.Module:
    """A model twice as large as the default in everything."""
    config = FAMILIES[family][1]()
    return fresh(family, **{name: 2 * value for name, value in sizes(config).items()})


def inputs_for(model: nn.Module, n: int) -> Tensor:
    """A batch of n examples that the model takes."""
    return INPUTS[type(model).__name__](model.config, n)


def loss_of(outputs: Tensor, targets: Tensor | None = None) -> Tensor:
    """How far the outputs are from made-up numbers: each has a say, but for −∞, "impossible"."""
    wanted = torch.randn(outputs.shape, generator=_seeded())
    return torch.where(outputs.isfinite(), outputs - wanted, 0.0).square().mean()


def untrained_gpt(config: GPTConfig, kind: type[GPT] = GPT) -> GPT:
    """A GPT that has learnt nothing, with weights so large that each position says its own."""
    torch.manual_seed(0)
    model = kind(config).eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(4 if p.ndim > 1 else 1)
    return model
