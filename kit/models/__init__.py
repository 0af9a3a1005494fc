"""What computes: one file per family, each a plain `nn.Module` with a config.

To add a model: a file here with a config dataclass and a module that keeps it as `.config`, and
its name in `FAMILIES`; the tests of this room, of counting and of checkpoints then check it.
"""

from typing import Any

from torch import nn

from kit.errors import BadValue, UnknownName
from kit.models.cnn import CNN, CNNConfig
from kit.models.mlp import MLP, MLPConfig
from kit.models.rnn import RNN, RNNConfig

FAMILIES: dict[str, tuple[type, type]] = {
    "MLP": (MLP, MLPConfig),
    "CNN": (CNN, CNNConfig),
    "RNN": (RNN, RNNConfig),
}


def build(family: str, config: dict[str, Any]) -> nn.Module:
    """A fresh model of a family from its config: how a checkpoint makes its model again.

    >>> build("MLP", {"hidden": 16, "layers": 1})
    MLP(hidden=16, layers=1): 1,210 parameters
    """
    if family not in FAMILIES:
        raise UnknownName("model family", family, FAMILIES)
    model, options = FAMILIES[family]
    try:
        return model(options(**config))
    except TypeError as error:
        raise BadValue(f"{family} cannot be built from {config}: {error}.") from error


__all__ = ["CNN", "FAMILIES", "MLP", "RNN", "CNNConfig", "MLPConfig", "RNNConfig", "build"]
