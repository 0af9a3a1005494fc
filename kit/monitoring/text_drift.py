"""Texts before and after typing errors, each read once by a frozen pre-trained encoder.

Shapes: N texts, T positions, d width.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import BadValue
from kit.data.docstrings import Texts, read_docstrings
from kit.devices import metered
from kit.inference import predict
from kit.models import load_minilm, word_pieces
from kit.models.bert import BERT
from kit.models.fine_tuned import LastBlocks, lower_states
from kit.monitoring.typing_errors import Spelling, with_typing_errors

LONGEST = 48  # tokens of a text; a longer one is cut
BATCH = 256  # texts at once: it changes memory and time, not the numbers


class Read(NamedTuple):
    """Texts as the frozen encoder reads them."""

    texts: tuple[str, ...]
    labels: Tensor  # (N,) int64
    states: Tensor  # (N, T, d), before the last block
    vectors: Tensor  # (N, d)

    def some(self, rows: np.ndarray) -> Read:
        """The texts of these rows."""
        texts = tuple(self.texts[row] for row in rows)
        return Read(texts, self.labels[rows], self.states[rows], self.vectors[rows])


@dataclass(frozen=True)
class TextDrift:
    """The same texts before and after the errors, read once, and what reading cost."""

    encoder: BERT
    read: dict[str, Read]  # by the names of `read_before_and_after`
    seconds: float  # to read one text
    joules: float | None


def read_before_and_after(
    errors: float, old: int, new: int, tests: int, device: torch.device | str, seed: int
) -> TextDrift:
    """Draw the texts, change them, repair the changed ones, and read each text once.

    Of each class: `old` texts to learn from, `new` ones for labels after the drift, and `tests`.

    Raises
    ------
    BadValue
        A class has fewer texts.
    """
    docs = read_docstrings()
    check_whole("tests", tests, high=int(np.bincount(docs.test.labels).min()))
    most = int(np.bincount(docs.train.labels).min())
    if old + new > most:
        raise BadValue(
            f"{old} old and {new} new texts of each class; the smallest class has {most}. A draw "
            f"takes two thirds of them: use fewer old_labels or labels."
        )
    pool, test = docs.train.first(old + new), docs.test.first(tests)
    mine = np.concatenate([_of_class(pool, c)[:old] for c in range(len(docs.classes))])
    theirs = np.setdiff1d(np.arange(len(pool)), mine)
    spelling = Spelling([pool.texts[row] for row in mine])
    more = [pool.texts[row] for row in theirs]
    wrong = with_typing_errors(test.texts, errors, seed)
    parts = {
        "learnt": [pool.texts[row] for row in mine],
        "labelled": with_typing_errors(more, errors, seed + 1),
        "more": more,
        "old": test.texts,
        "new": wrong,
        "fixed old": spelling.repaired(test.texts),
        "fixed new": spelling.repaired(wrong),
    }
    drawn = {"learnt": mine, "labelled": theirs, "more": theirs}
    labels = {
        name: torch.from_numpy(pool.labels[drawn[name]] if name in drawn else test.labels)
        for name in parts
    }
    encoder = load_minilm().to(device)
    with metered(device) as meter:
        start = time.perf_counter()
        read = _read(encoder, parts, labels)
        seconds = time.perf_counter() - start
    each = len({text for part in parts.values() for text in part})
    joules = None if meter.joules is None else meter.joules / each
    return TextDrift(encoder, read, seconds / each, joules)


def _read(
    encoder: BERT, parts: dict[str, Sequence[str]], labels: dict[str, Tensor]
) -> dict[str, Read]:
    """What the frozen blocks make of each text, computed once for equal texts."""
    index = {text: i for i, text in enumerate(dict.fromkeys(t for p in parts.values() for t in p))}
    device = encoder.token_embedding.weight.device
    states = lower_states(encoder, word_pieces(list(index), LONGEST).to(device), 1)
    width = encoder.config.d_model
    last = LastBlocks(encoder, 1, torch.eye(width), torch.zeros(width)).to(device)
    vectors = torch.cat([predict(last, some) for some in states.split(BATCH)])
    rows = {name: [index[text] for text in part] for name, part in parts.items()}
    return {
        name: Read(tuple(part), labels[name].to(device), states[rows[name]], vectors[rows[name]])
        for name, part in parts.items()
    }


def _of_class(texts: Texts, c: int) -> np.ndarray:
    return np.flatnonzero(texts.labels == c)
