"""The workload `language`: the next character of a text.

Shapes: N examples, T positions, V characters.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.data import Dataset, load_python_docs
from kit.models import GPT, GPTConfig
from kit.workloads.workload import Workload


def language(text: Dataset | None = None) -> Workload:
    """Say what comes next in a text, by characters: stands for chatbots.

    The text is Python's documentation, or another: `kit.data.load_text_file("mine.txt")`, of which
    the target below says nothing.

    With Python 3.11, always saying a space is right for 18 % of the characters of the test, the
    commonest one after the one before for 29 %, after the two before for 45 %; with others, a few
    more or less. After as many as eight before that the training text has, it is 67 %, more than a
    GPT so small and so briefly trained; but that table is larger than the text. Nobody can be
    right always.

    >>> language().model().config.context
    128
    """
    return Workload(
        name="language",
        stands_for="chatbots, assistants, language processing",
        differs="one small book, by characters, looking back 128 of them; a chatbot reads a good "
        "part of all books, in pieces of words, looks back many pages, and is taught to answer",
        load=load_python_docs if text is None else lambda: text,
        models={"gpt": _gpt, "gpt-small": _small_gpt},
        loss=mean_per_character,
        score=share_foreseen,
        measure="of the next characters right",
        target=0.56,
        # The text is read three times over; at the end a character costs about 1.4 nats.
        recipe={
            "steps": 500,
            "batch_size": 16,
            "lr": 6e-3,
            "optimizer": "muon",
            "schedule": "trapezoid",
            "evaluate_every": 100,
        },
    )


def mean_per_character(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (N, T, V), mean over all targets (N, T): nats per character."""
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def share_foreseen(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) the share of a window's characters (N, T) to which the logits (N, T, V) gave most."""
    return (logits.argmax(-1) == targets).float().mean(1)


def _gpt(data: Dataset) -> nn.Module:
    return GPT(GPTConfig(vocab_size=len(data.classes), context=data["train"].inputs.shape[1]))


def _small_gpt(data: Dataset) -> nn.Module:
    context = data["train"].inputs.shape[1]
    return GPT(GPTConfig(vocab_size=len(data.classes), context=context, d_model=48, n_heads=2))
