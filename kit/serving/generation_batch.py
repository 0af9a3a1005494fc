"""The texts that a model generates together: each pass reads prompts or decodes one token of each.

Text             one text: its tokens so far, and how it is drawn
GenerationBatch  the slots, and what one step of all texts computes

Nothing here knows of threads, queues or readers: see `continuous_batching`.

Shapes: n texts of a pass, T new positions, V tokens of the vocabulary.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, KitError
from kit.inference.prediction import device_of
from kit.serving.batch_weights import for_batches
from kit.serving.batched_sampling import Sampling, draw
from kit.serving.slot_cache import Rows, SlotCache

# A logit of a batch may differ this much from the logit of a text alone, relative to the largest
# logit. With up to 85M parameters and random weights, 12 to 19 times the precision was seen.
ROUNDING = 32 * torch.finfo(torch.float32).eps
PROBE = 16  # tokens that the model reads at the start, alone and in a batch
FILLED = 2 / 3  # of the positions that prompts are computed with together; the rest is padding
CATCH_UP = 8  # steps of a text that is computed alone, between two steps of the batch

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Text:
    """One text that is being written."""

    row: list[int]  # the prompt, and the new tokens so far
    max_new_tokens: int
    endings: list[list[int]]  # after any of these the text ends
    sampling: Sampling
    alone: Generator[Tensor, None, None]  # `kit.generate`'s own loop, for tokens in doubt
    slot: int = -1
    cached: int = 0  # positions in the cache
    computed_alone: int = 0  # tokens that `alone` has given
    undecided: bool = False  # rounding could change the next token: `alone` decides
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.row)

    @property
    def pending(self) -> int:
        """Tokens that are not in the cache yet: one while the text is decoded, more before."""
        return len(self.row) - self.cached

    def append(self, token: int) -> None:
        """One more token; the text may end with it."""
        self.row.append(token)
        if any(self.row[-len(ending) :] == ending for ending in self.endings):
            self.finish_reason = "stop"
        elif len(self.row) == self.prompt_tokens + self.max_new_tokens:
            self.finish_reason = "length"


class News(NamedTuple):
    """A token of a text, or the error with which it ends."""

    text: Text
    token: int | Exception
    at_s: float  # by `time.monotonic`


class GenerationBatch:
    """Up to `slots` texts on one cache, each at a position of its own.

    Parameters
    ----------
    model
        A GPT of the kit, or a form of one, in evaluation mode. Its weights must not change.
    slots, context
        The sizes of the cache.
    prefill_chunk
        The most positions of a prompt that a step computes, and of all prompts together, with
        their padding, while more texts decode than read.
    """

    def __init__(self, model: nn.Module, slots: int, context: int, prefill_chunk: int):
        self.model: Any = model
        self.batched: Any = for_batches(model)
        self.cache, self.prefill_chunk = SlotCache(model, slots, context), prefill_chunk
        self.slots: list[Text | None] = [None] * slots
        self.rounding = 0.0  # see `find_rounding`; 0: no token is in doubt
        self.near_ties, self.passes = 0, 0
        self.decoded, self.decode_s = 0, 0.0  # texts and seconds of the last pass that decoded

    @property
    def texts(self) -> list[Text]:
        """The texts that have a slot."""
        return [text for text in self.slots if text is not None]

    def join(self, text: Text) -> None:
        """Give a text a slot; there must be a free one."""
        # The lowest one: neighbours in memory are read without a copy.
        text.slot = self.slots.index(None)
        self.slots[text.slot] = text

    def leave(self, text: Text) -> None:
        """Free a text's slot."""
        self.slots[text.slot] = None
        text.alone.close()
        if text.computed_alone or text.undecided:
            self.cache.erase(text.slot)  # perhaps it was in doubt because its logits were NaN

    def step(self) -> list[News]:
        """A chunk of the prompts, then one token of each text that has read its prompt."""
        self.decoded, news = 0, list[News]()
        sure = [text for text in self.texts if not text.undecided]
        # Chosen before the first pass: a text that has just got a token waits for the next step.
        decoding = [text for text in sure if text.pending == 1]
        reading = self._chunk([text for text in sure if text.pending > 1], len(decoding))
        for texts in self._of_similar_length(reading):
            news += _guarded(texts, partial(self._pass, texts))
        if decoding:
            began = time.monotonic()
            news += _guarded(decoding, partial(self._pass, decoding))
            self.decoded, self.decode_s = len(decoding), time.monotonic() - began
        for text in self.texts:
            if text.undecided:
                news += _guarded([text], partial(self._catch_up, text))
        return news

    def _chunk(self, reading: list[Text], decoding: int) -> list[Text]:
        """The texts, oldest first, whose prompts fit into a chunk together; at least one.

        A larger chunk lets those that decode wait longer, and those that read begin sooner. So
        the more texts read than decode, the larger it is.
        """
        chosen, widest = list[Text](), 0
        room = self.prefill_chunk * max(1, len(reading) - decoding)
        for text in sorted(reading, key=lambda text: -text.cached):
            widest = max(widest, min(text.pending, self.prefill_chunk))
            # All are padded to the longest: padding is computed, too.
            if chosen and widest * (len(chosen) + 1) > room:
                break
            chosen.append(text)
        return chosen

    def _of_similar_length(self, reading: list[Text]) -> list[list[Text]]:
        """The same texts in groups for a pass each: in a group, all are padded to the longest."""
        groups, widest = list[list[Text]](), 0
        for text in sorted(reading, key=lambda text: -text.pending):
            count = min(text.pending, self.prefill_chunk)
            if not groups or count < FILLED * widest:
                groups.append([])
                widest = count
            groups[-1].append(text)
        return groups

    def _pass(self, texts: list[Text]) -> list[News]:
        """The model reads these texts further; the next tokens of those that it has read."""
        counts = [min(text.pending, self.prefill_chunk) for text in texts]
        logits = self._logits(texts, counts)  # (n, V)
        self.passes += 1
        for text, count in zip(texts, counts, strict=True):
            text.cached += count
        read = [i for i, text in enumerate(texts) if text.pending == 0]
        if len(read) < len(texts):
            texts, logits = [texts[i] for i in read], logits[read]
        if not texts:
            return []
        tokens, certain = draw(logits, [text.sampling for text in texts], self.rounding)
        news, now = list[News](), time.monotonic()
        for text, token, is_certain in zip(texts, tokens, certain, strict=True):
            if is_certain:
                text.append(token)
                news.append(News(text, token, now))
            else:
                text.undecided, self.near_ties = True, self.near_ties + 1
        return news

    def _logits(self, texts: list[Text], counts: list[int]) -> Tensor:
        """Logits (n, V) of the last position that each text reads."""
        width, slots = max(counts), [text.slot for text in texts]
        starts = [text.cached for text in texts]
        tokens = [
            # Padded on the left, so that the last token of all is at the same index.
            [0] * (width - count) + text.row[start : start + count]
            for text, start, count in zip(texts, starts, counts, strict=True)
        ]
        rows: Rows = slots
        high = max(slots) + 1
        if width == 1 and 2 * len(slots) > high:
            # Neighbouring slots are views of the cache. A slot between them with nothing to
            # decode reads a token, too, into a position that is nobody's.
            rows, lies = slice(0, high), {slot: i for i, slot in enumerate(slots)}
            tokens = [tokens[lies[s]] if s in lies else [0] for s in range(high)]
            starts = [starts[lies[s]] if s in lies else 0 for s in range(high)]
            counts = [int(s in lies) for s in range(high)]
        ids = torch.tensor(tokens, device=self.cache.layers[0].device)  # (n, T)
        cache = self.cache.reading(rows, starts, counts)
        logits: Tensor = self.batched(ids, cache, last=1)[:, -1]
        in_order = rows == slots or slots == list(range(high))
        return logits if in_order else logits[slots]

    def _catch_up(self, text: Text) -> list[News]:
        """Compute a text alone, some steps further, up to the token that is in doubt."""
        for _ in range(CATCH_UP):
            token = int(next(text.alone)[0, 0])
            text.computed_alone += 1
            if text.computed_alone > len(text.row) - text.prompt_tokens:
                text.undecided = False
                text.append(token)
                return [News(text, token, time.monotonic())]
        return []

    def find_rounding(self) -> bool:
        """Whether a batch gives a text's own logits but for the rounding of float32.

        A few tokens are read both ways, which warms the model up, too. If they agree, tokens that
        this rounding could change are in doubt from now on. With rounded activations they
        disagree, and in half precision near ties are everywhere: then none is looked for.
        """
        vocabulary, slots = self.model.config.vocab_size, len(self.slots)
        length = min(PROBE, self.cache.context)
        alone = self.model.cache(1, length)
        agree = alone.layers[0].dtype in (torch.float32, torch.float64)
        for i in range(length):
            ids = torch.tensor([[(7 * i + 1) % vocabulary]], device=device_of(self.model))
            together = self.cache.reading(slice(0, slots), [i] * slots, [1] * slots)
            mine = self.model(ids, alone, last=1)[:, -1]  # (1, V)
            ours = self.batched(ids.expand(slots, 1), together, last=1)[:, -1]  # (N, V)
            # A comparison with NaN is False.
            agree &= bool((ours - mine).abs().max() <= ROUNDING * mine.abs().max())
        self.rounding = ROUNDING if agree else 0.0
        return agree


def _guarded(texts: list[Text], compute: Callable[[], list[News]]) -> list[News]:
    """What it computes; if it raises, an error for each of these texts."""
    try:
        return compute()
    except BadValue as problem:  # the kit's own words, such as: the logits are NaN
        error: Exception = problem
    except Exception as problem:
        _log.exception("a pass of the model failed")
        what = str(problem) if isinstance(problem, KitError) else type(problem).__name__
        error = RuntimeError(f"the model failed ({what}). The server's log has the details.")
    now = time.monotonic()
    return [News(text, error, now) for text in texts]
