"""The workload `language`: predict the next character of a text.

Shapes: N examples, T positions, V characters.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.data import Dataset, load_python_docs
from kit.models import GPT, GPTConfig
from kit.workloads.workload import Workload


def language(text: Dataset | None = None) -> Workload:
    """Predict the next character of a text: stands for chatbots.

    The text is Python's documentation, or another one: `kit.data.load_text_file("mine.txt")`. The
    target below holds only for the documentation.

    Baselines with Python 3.11, as the share of test characters that are right: always a space
    18 %, the most frequent character after the previous one 29 %, after the previous two 45 %. A
    table of up to eight previous characters reaches 67 %, more than this small GPT after its short
    training, but the table is larger than the text. Other versions of Python differ by a few
    points. No predictor can be right for all characters.

    >>> language().model().config.context
    128
    """
    return Workload(
        name="language",
        stands_for="chatbots, assistants, language processing",
        differs="one small book, in characters, with a context of 128; a chatbot is trained on a "
        "large part of all books, in pieces of words, with a context of many pages, and to give "
        "answers",
        load=load_python_docs if text is None else lambda: text,
        models={"gpt": _gpt, "gpt-small": _small_gpt},
        loss=mean_per_character,
        score=share_predicted,
        measure="of the next characters right",
        target=0.56,
        # About three epochs; the loss ends near 1.4 nats per character.
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


def share_predicted(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) the share of a window's characters (N, T) with the largest of the logits (N, T, V)."""
    return (logits.argmax(-1) == targets).float().mean(1)


def _gpt(data: Dataset) -> nn.Module:
    return GPT(GPTConfig(vocab_size=len(data.classes), context=data["train"].inputs.shape[1]))


def _small_gpt(data: Dataset) -> nn.Module:
    context = data["train"].inputs.shape[1]
    return GPT(GPTConfig(vocab_size=len(data.classes), context=context, d_model=48, n_heads=2))
