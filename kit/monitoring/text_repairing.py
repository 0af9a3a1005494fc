"""A pre-trained model after drift: does it go back to school, or is less enough?

A model that others trained turns texts into vectors, and a head, a linear layer, knows the classes.
The head learnt from texts without errors; then people make typing errors.

repair              needs     learns                         from
scratch             labels    a model of words, no vectors   old texts and the new ones
more old labels     labels    the head                       old texts and more of them
head, old and new   labels    the head                       old texts and the new ones
last layer          labels    the head                       the new texts alone
fine-tune           labels    the last block and the head    the new texts alone
recalibrate         labels    a scale, a shift per class     the new texts alone
fix the input       –         nothing                        words of the old texts

The second one repairs nothing: it says what as many labels bring that know nothing of the drift.

Shapes: N texts, T positions, d width, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kit.core.checks import check_whole
from kit.core.errors import BadValue
from kit.data import Split
from kit.data.docstrings import Texts
from kit.devices import metered
from kit.inference import predict
from kit.models.bert import BERT
from kit.models.fine_tuned import LastBlocks
from kit.monitoring.adjusting import recalibrated
from kit.monitoring.repair_result import Repair, Repairs
from kit.monitoring.repairing import FIX, NOTHING, changed_bytes
from kit.monitoring.text_drift import Read, TextDrift, read_before_and_after
from kit.training.fine_tuning import fine_tune

STRENGTH = 10  # of a linear model, as in lesson 15: chosen there on validation texts
TUNING: dict[str, Any] = {"steps": 30, "batch_size": 16, "lr": 1e-4}  # chosen on validation texts


class Given(NamedTuple):
    """What the repairs of one deployed head may use."""

    encoder: BERT
    head: nn.Linear
    old: Read  # what the head learnt from
    new: Read  # labelled texts with errors
    more: Read  # the same texts, with their labels, without errors
    seed: int


class Repaired(NamedTuple):
    """A repaired model: the logits (N, C) of texts, and the bytes that a device has to get."""

    logits: Callable[[Read], Tensor]
    sent_bytes: int


# --- The repairs ---------------------------------------------------------------------------------


def scratch(given: Given) -> Repaired:
    """A linear model of words, from the texts alone: it needs no pre-trained model."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    words, model = TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=STRENGTH)
    counts = words.fit_transform(given.old.texts + given.new.texts)
    with threadpool_limits(1, user_api="blas"):  # many small products: threads would wait
        model.fit(counts, torch.cat([given.old.labels, given.new.labels]).cpu().numpy())
    # Of each word: its letters, how rare it is, and a weight for each class.
    letters = sum(len(word.encode()) for word in words.vocabulary_)
    sent = letters + 4 * (len(words.vocabulary_) + model.coef_.size + model.intercept_.size)
    return Repaired(
        lambda read: torch.from_numpy(model.decision_function(words.transform(read.texts))), sent
    )


def more_old_labels(given: Given) -> Repaired:
    """A new head, from the old texts and more texts without errors."""
    return _head_of_both(given, given.more)


def head_of_both(given: Given) -> Repaired:
    """A new head, from the old texts and the new ones together."""
    return _head_of_both(given, given.new)


def last_layer(given: Given) -> Repaired:
    """A new head, from the new texts alone."""
    return _with_head(given, _head(given.new.vectors, given.new.labels))


def tune_last_block(given: Given) -> Repaired:
    """The last block of the encoder and the deployed head, trained further on the new texts."""
    start = given.head.weight.detach(), given.head.bias.detach()
    tuned = fine_tune(
        given.encoder, given.new.states, given.new.labels, head=start, seed=given.seed, **TUNING
    )
    before = LastBlocks(given.encoder, 1, *start).to(given.new.states.device)
    return Repaired(lambda read: predict(tuned, read.states), changed_bytes(before, tuned))


def recalibrate(given: Given) -> Repaired:
    """A scale and a shift per class for the deployed head's outputs."""
    return _with_head(given, recalibrated(given.head, Split(given.new.vectors, given.new.labels)))


def _head_of_both(given: Given, others: Read) -> Repaired:
    vectors = torch.cat([given.old.vectors, others.vectors])
    return _with_head(given, _head(vectors, torch.cat([given.old.labels, others.labels])))


def _head(vectors: Tensor, labels: Tensor) -> nn.Linear:
    """A linear layer (d -> C) that was trained on vectors (N, d)."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        model = LogisticRegression(C=STRENGTH, max_iter=500)
        model.fit(vectors.cpu().numpy(), labels.cpu().numpy())
    head = nn.Linear(vectors.shape[1], len(model.classes_))
    head.weight.data = torch.from_numpy(model.coef_).float()
    head.bias.data = torch.from_numpy(model.intercept_).float()
    return head.to(vectors.device)


def _with_head(given: Given, head: nn.Module) -> Repaired:
    return Repaired(lambda read: predict(head, read.vectors), changed_bytes(given.head, head))


TEXT_REPAIRS: dict[str, Callable[[Given], Repaired]] = {
    "scratch": scratch,
    "more old labels": more_old_labels,
    "head, old and new": head_of_both,
    "last layer": last_layer,
    "fine-tune": tune_last_block,
    "recalibrate": recalibrate,
}


# --- Each of several models, repaired in each way -------------------------------------------------


def text_repairs(
    *,
    errors: float = 0.3,
    labels: int = 10,
    old_labels: int = 16,
    tests: int = 30,
    trainings: int = 3,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Repairs:
    """Repair a head on a frozen pre-trained model after typing errors, and score it.

    The texts are docstrings of ten modules, and the classes are the modules, as in lesson 15.

    Parameters
    ----------
    errors
        The share of the words, of three letters or more, that get one typing error.
    labels, old_labels
        Labelled texts of each class: with errors, for the repairs; without, for the first head.
    tests
        Test texts of each class, the same with and without errors.
    trainings
        First heads, each with other labelled texts; each is repaired in each way.
    device
        Where to compute.
    seed
        Of the errors and of what is drawn at random.

    Raises
    ------
    NotInstalled
        The extra `pretrained` is not installed.
    BadValue
        A number is out of range, such as more labels than there are texts.

    Explained in lesson 13.
    """
    check_whole("trainings", trainings, 2), check_whole("seed", seed, 0)
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise BadValue(f"device={device!r}: needs one that kit.device() returns.") from error
    old_labels, labels = check_whole("old_labels", old_labels), check_whole("labels", labels)
    pools = _half_more(old_labels), _half_more(labels)
    drift = read_before_and_after(errors, *pools, tests, device, seed)
    every = [_given(drift, old_labels, labels, seed + i) for i in range(trainings)]
    rows = [_row(NOTHING, _deployed, every, drift, learns=False)]
    rows += [_row(name, repair, every, drift) for name, repair in TEXT_REPAIRS.items()]
    rows.append(_row(FIX, _deployed, every, drift, learns=False, fixed="fixed "))
    return Repairs(tuple(rows), f"typing errors in {errors:.0%} of the words", trainings)


def _given(drift: TextDrift, old_labels: int, labels: int, seed: int) -> Given:
    """Labelled texts drawn at random, and a head that learnt from the old ones."""
    per_class = {"learnt": old_labels, "labelled": labels, "more": labels}
    drawn = []
    for name, n in per_class.items():
        part = drift.read[name]
        drawn.append(part.some(Texts(part.texts, part.labels.cpu().numpy()).draw(n, seed)))
    old, new, more = drawn
    return Given(drift.encoder, _head(old.vectors, old.labels), old, new, more, seed)


def _deployed(given: Given) -> Repaired:
    return _with_head(given, given.head)


def _row(
    name: str,
    repair: Callable[[Given], Repaired],
    every: Sequence[Given],
    drift: TextDrift,
    *,
    learns: bool = True,
    fixed: str = "",
) -> Repair:
    """One repair of all heads; reading the new texts is part of its time, unless words suffice."""
    reads = len(every[0].new.texts) if learns and repair is not scratch else 0
    right: dict[str, list[np.ndarray]] = {"new": [], "old": []}
    seconds: list[float] = []
    joules: list[float | None] = []
    for given in every:
        with metered(given.new.vectors.device) as meter:
            start = time.perf_counter()
            repaired = repair(given)
            took_s = time.perf_counter() - start
        seconds.append(took_s + reads * drift.seconds)
        joules.append(_sum(meter.joules, reads, drift.joules))
        for name_of, scores in right.items():
            read = drift.read[fixed + name_of]
            answers = repaired.logits(read).argmax(-1).to(read.labels.device)
            scores.append((answers == read.labels).cpu().numpy().astype(float))
    labels = len(every[0].new.texts) if learns else 0
    both = np.stack(right["new"]), np.stack(right["old"])
    return Repair(name, labels, *both, tuple(seconds), tuple(joules), repaired.sent_bytes)


def _sum(joules: float | None, reads: int, each: float | None) -> float | None:
    """The energy of a repair and of reading its texts; None without a meter."""
    return None if joules is None or each is None else joules + reads * each


def _half_more(n: int) -> int:
    return n + (n + 1) // 2  # of each class, so that each draw is another one
