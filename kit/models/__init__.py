"""Models: one file per family, each a plain `nn.Module` with a config.

To add a family: a file with a module X and its config dataclass XConfig, and one line below. The
line registers it. Tell `tests/families.py` what inputs it takes, and the tests of models, counting
and checkpoints check it.
"""

from typing import Any

from torch import nn

from kit.core.errors import BadValue, UnknownName

# isort: off
# One line per family: the model and its config.
from kit.models.mlp import MLP as MLP, MLPConfig as MLPConfig
from kit.models.cnn import CNN as CNN, CNNConfig as CNNConfig
from kit.models.autoencoder import (
    Autoencoder as Autoencoder,
    AutoencoderConfig as AutoencoderConfig,
)
from kit.models.cnn1d import CNN1d as CNN1d, CNN1dConfig as CNN1dConfig
from kit.models.rnn import RNN as RNN, RNNConfig as RNNConfig
from kit.models.transformer import (
    Transformer as Transformer,
    TransformerConfig as TransformerConfig,
)
from kit.models.gpt import GPT as GPT, GPTConfig as GPTConfig
from kit.models.bert import BERT as BERT, BERTConfig as BERTConfig
from kit.models.policy import Policy as Policy, PolicyConfig as PolicyConfig
from kit.models.seq2seq import Seq2Seq as Seq2Seq, Seq2SeqConfig as Seq2SeqConfig
from kit.models.two_tower import TwoTower as TwoTower, TwoTowerConfig as TwoTowerConfig
# isort: on

# Models that others have trained, from packages.
from kit.models.minilm import load_minilm as load_minilm
from kit.models.minilm import word_pieces as word_pieces

# Name -> (model, config), collected from the lines above: each XConfig belongs to an X.
FAMILIES: dict[str, tuple[type, type]] = {
    name.removesuffix("Config"): (globals()[name.removesuffix("Config")], config)
    for name, config in list(globals().items())
    if name.endswith("Config")
}

WIDTHS = ("hidden", "filters", "factors", "embedding", "d_model")  # the sizes that say how wide


def build(family: str, config: dict[str, Any]) -> nn.Module:
    """A fresh model of a family from its config. A checkpoint rebuilds its model this way.

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
    """The name of the model's family; None if it is not one of the kit's own classes."""
    # By class, not by name: somebody else's class may be called CNN, too.
    return next((name for name, (kind, _) in FAMILIES.items() if type(model) is kind), None)


def halved(model: nn.Module) -> nn.Module:
    """A fresh model of the same family, half as wide: with about a quarter of the weights.

    >>> halved(MLP())
    MLP(hidden=64, layers=2): 8,970 parameters
    """
    family = family_of(model)
    if family is None:
        raise BadValue(
            f"given {type(model).__name__}; halved() needs a model of the kit: "
            f"{', '.join(FAMILIES)}. Make the narrower one yourself."
        )
    config = vars(model.config)
    return build(family, {k: max(1, v // 2) if k in WIDTHS else v for k, v in config.items()})
