"""What computes: one file per family, each a plain `nn.Module` with a config.

To add a model: a file here with a config dataclass and a module that keeps it as `.config`, and
its name in `FAMILIES`; the tests of this room, of counting and of checkpoints then check it.
"""

from typing import Any

from torch import nn

from kit.core.errors import BadValue, UnknownName
from kit.models.autoencoder import Autoencoder, AutoencoderConfig
from kit.models.cnn import CNN, CNNConfig
from kit.models.cnn1d import CNN1d, CNN1dConfig
from kit.models.gpt import GPT, GPTConfig
from kit.models.mlp import MLP, MLPConfig
from kit.models.policy import Policy, PolicyConfig
from kit.models.rnn import RNN, RNNConfig
from kit.models.seq2seq import Seq2Seq, Seq2SeqConfig
from kit.models.transformer import Transformer, TransformerConfig
from kit.models.two_tower import TwoTower, TwoTowerConfig

FAMILIES: dict[str, tuple[type, type]] = {
    "MLP": (MLP, MLPConfig),
    "CNN": (CNN, CNNConfig),
    "Autoencoder": (Autoencoder, AutoencoderConfig),
    "CNN1d": (CNN1d, CNN1dConfig),
    "RNN": (RNN, RNNConfig),
    "Transformer": (Transformer, TransformerConfig),
    "GPT": (GPT, GPTConfig),
    "Policy": (Policy, PolicyConfig),
    "Seq2Seq": (Seq2Seq, Seq2SeqConfig),
    "TwoTower": (TwoTower, TwoTowerConfig),
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


def family_of(model: object) -> str | None:
    """The name of the model's family; None if the kit did not write it, whatever it is called."""
    own = ((name, family) for name, (family, _) in FAMILIES.items())
    return next((name for name, family in own if type(model) is family), None)


WIDTHS = ("hidden", "filters", "factors", "embedding", "d_model")  # the sizes that say how wide


def halved(model: nn.Module) -> nn.Module:
    """A fresh model of the same family, half as wide: with about a quarter of the weights.

    >>> halved(MLP())
    MLP(hidden=64, layers=2): 8,970 parameters
    """
    family = family_of(model)
    if family is None:
        raise BadValue(
            f"{type(model).__name__} is none of {', '.join(FAMILIES)}: nothing to halve."
        )
    config = vars(model.config)
    return build(family, {k: max(1, v // 2) if k in WIDTHS else v for k, v in config.items()})


__all__ = [
    "CNN",
    "FAMILIES",
    "GPT",
    "MLP",
    "RNN",
    "Autoencoder",
    "AutoencoderConfig",
    "CNN1d",
    "CNN1dConfig",
    "CNNConfig",
    "GPTConfig",
    "MLPConfig",
    "Policy",
    "PolicyConfig",
    "RNNConfig",
    "Seq2Seq",
    "Seq2SeqConfig",
    "Transformer",
    "TransformerConfig",
    "TwoTower",
    "TwoTowerConfig",
    "build",
    "family_of",
    "halved",
]
