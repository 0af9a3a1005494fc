"""The workload `translation`: translate German number words into English.

Shapes: N examples, T positions, V symbols.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.data import Dataset, load_number_words
from kit.data.number_words import PADDING, SOURCE, TARGET
from kit.models import Seq2Seq, Seq2SeqConfig
from kit.workloads.workload import Workload


def translation() -> Workload:
    """Translate German number words into English: stands for real-time translation.

    No number of the test split occurs in training, so memorising does not help. A perfect score
    is possible, because both languages follow rules.
    """
    return Workload(
        name="translation",
        stands_for="real-time translation",
        differs="number words in characters, each with one right translation; a product translates "
        "sentences about everything, each with many right translations",
        load=load_number_words,
        models={"seq2seq": _seq2seq},
        loss=mean_per_symbol,
        score=is_translated_exactly,
        measure="translated exactly",
        target=0.97,
        recipe={"epochs": 1.5, "batch_size": 32, "lr": 5e-3},
    )


def mean_per_symbol(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (N, T, V), mean over the targets (N, T) except padding."""
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING)


def is_translated_exactly(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether every symbol up to the end is right: logits (N, T, V), targets (N, T).

    Here the decoder reads the right translation up to each position; in use, it reads what it has
    generated itself. The score is the same: both read the same symbols up to the first mistake,
    and after one mistake the translation is wrong in both.
    """
    return ((logits.argmax(-1) == targets) | (targets == PADDING)).all(1)


def _seq2seq(data: Dataset) -> nn.Module:
    return Seq2Seq(Seq2SeqConfig(symbols=len(data.classes), source=SOURCE, longest=TARGET))
