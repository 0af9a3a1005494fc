"""Generating text: what a model wrote after a prompt, and when each token came.

Shapes: B texts, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kit.core.checks import is_whole
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.units import words
from kit.data import Text
from kit.inference.prediction import device_of
from kit.inference.streaming import NOTHING, stream
from kit.models.checks import check_generates
from kit.plots import Picture, Table, lines

Prompt = str | Sequence[int] | Tensor


@dataclass(frozen=True)
class Generation(Result):
    """What was written after one or more prompts, and when each token came."""

    prompts: tuple[tuple[int, ...], ...] = field(repr=False)
    tokens: tuple[tuple[int, ...], ...] = field(repr=False)  # the new ones of each text
    # Seconds since the call began, once per pass of the model: a pass gives one token of each
    # text, or several with drafts. `arrived` says how many tokens of a text came with it.
    arrivals_s: tuple[float, ...] = field(repr=False)
    arrived: tuple[int, ...] = field(repr=False)
    way: str  # how it was written: cache, draft, sampling
    device: str
    texts: tuple[str, ...] | None = field(default=None, repr=False)  # prompt and new text, decoded

    @property
    def text(self) -> str:
        """The first text, its prompt included.

        Raises
        ------
        BadValue
            It was written as tokens only.
        """
        if self.texts is None:
            raise BadValue(
                "there is only a list of tokens: decoding them needs a vocabulary. Call generate "
                "with text=, the data that the model learnt."
            )
        return self.texts[0]

    @property
    def ttft_s(self) -> float:
        """Time to the first token (TTFT): the pause before you see anything, most of it prefill."""
        # An arrival counts when the tokens are on the CPU, where somebody can read them.
        return self.arrivals_s[0]

    @property
    def latency_s(self) -> float:
        """Time to the last token."""
        return self.arrivals_s[-1]

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first (TPOT), the pace of decode; None for one token."""
        # The first tokens belong to TTFT: their time is mostly prefill, another kind of work.
        later = sum(self.arrived) - self.arrived[0]
        return (self.latency_s - self.ttft_s) / later if later else None

    @property
    def tokens_per_s(self) -> float:
        """New tokens of all texts together ÷ latency."""
        # Latency includes prefill: the pace of decode alone is in `tpot_s`.
        return sum(map(len, self.tokens)) / self.latency_s

    @property
    def tokens_per_pass(self) -> float:
        """Tokens of a text per pass of the model: more than 1 if drafted tokens were accepted."""
        return sum(self.arrived) / len(self.arrived)

    def __repr__(self) -> str:
        new, prompt = sum(self.arrived), max(map(len, self.prompts))
        return (
            f"{len(self.tokens)} × {new:,} tokens after {prompt:,}, {self.way}: the first after "
            f"{words(self.ttft_s, 's')}, then {words(self.tpot_s, 's')} each"
        )

    def table(self) -> Table:
        """Sizes and times in one row."""
        header = ("texts", "prompt", "new tokens", "first token", "each after", "tokens/s")
        row = (
            f"{len(self.tokens):,}",
            f"{max(map(len, self.prompts)):,}",
            f"{sum(self.arrived):,}",
            words(self.ttft_s, "s"),
            words(self.tpot_s, "s"),
            words(self.tokens_per_s),
        )
        caption = (
            f"{self.way[0].upper()}{self.way[1:]}, on {self.device}; each time was measured once."
        )
        if self.tokens_per_pass > 1:
            caption += f" {words(self.tokens_per_pass)} tokens per pass of the model."
        return Table(header, [row], caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers; texts as tokens."""
        return {
            "way": self.way,
            "device": self.device,
            "texts": len(self.tokens),
            "prompt_tokens": [len(prompt) for prompt in self.prompts],
            "new_tokens": [len(new) for new in self.tokens],
            "tokens": [list(new) for new in self.tokens],
            "arrivals_s": [round(t, 7) for t in self.arrivals_s],
            "arrived": list(self.arrived),
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "latency_s": self.latency_s,
            "tokens_per_s": self.tokens_per_s,
            "tokens_per_pass": self.tokens_per_pass,
        }

    def plot(self, reader: float | None = None) -> Picture:
        """Tokens of a text over time.

        Parameters
        ----------
        reader
            Tokens per second that a person reads: draws a line to compare with.
        """
        return timeline({self.way: self}, reader)


def timeline(generations: dict[str, Generation], reader: float | None = None) -> Picture:
    """Several generations in one picture: tokens of a text over the time since the request."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    sentences = []
    for name, each in generations.items():
        counts = [sum(each.arrived[: i + 1]) for i in range(len(each.arrived))]
        # From (0, 0), so that the first segment shows the wait for the first token.
        series[name] = ([0.0, *each.arrivals_s], [0, *counts])
        pause, pace = words(each.ttft_s, "s"), words(each.tpot_s, "s")
        sentences.append(f"{name}: the first token after {pause}, then {pace} each")
    if reader:
        end = max(each.latency_s for each in generations.values())
        series["a reader"] = ([0.0, end], [0, reader * end])
        sentences.append(f"a reader: {words(reader)} tokens per second")
    return lines(
        series,
        "time since the request (s)",
        "tokens",
        caption="; ".join(sentences) + ".",
        marks=False,
    )


def generate(
    model: nn.Module,
    prompt: Prompt | Sequence[Prompt],
    *,
    max_new_tokens: int,
    text: Text | None = None,
    stop: Prompt | None = None,
    on_tokens: Callable[[Tensor, float], object] | None = None,
    **options: Any,
) -> Generation:
    """Write a text after the prompt, token by token; the text, and when each token came.

    Parameters
    ----------
    model
        A GPT of the kit, or another form of one that can be called like it.
    prompt
        A text or tokens; or a list of texts or of tokens, which are continued together.
    max_new_tokens
        The greatest number of tokens to write.
    text
        The data with the vocabulary, which turns texts into tokens and tokens into texts.
    stop
        A text or tokens after which the text ends.
    on_tokens
        A function that is called with new tokens (B, k) as they come, and the seconds since the
        request: to show them. If it returns False, the text ends there.
    options
        As for `kit.stream`: cache, chunk, step, draft, drafted; temperature, top_k, top_p, seed.

    Raises
    ------
    BadValue
        The prompt is a text but `text` is missing or lacks one of its characters; and as for
        `kit.stream`.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.language()
    >>> written = generate(work.model(), "The ", text=work.data, max_new_tokens=8)
    >>> len(written.text), written.text[:4]
    (12, 'The ')

    Explained in lesson 10.
    """
    check_generates(model)
    config: Any = model.config
    # A token is only a number: with another vocabulary, it would be decoded to another character.
    if text is not None and len(text.classes) != config.vocab_size:
        raise BadValue(
            f"the vocabulary of {text.name!r} has {len(text.classes):,} tokens, the model "
            f"{config.vocab_size:,}: they must be the same. Give the data that the model learnt."
        )
    many = [prompt] if _is_one(prompt) else list(prompt)
    rows = [_tokens(each, text) for each in many]
    ending = None if stop is None else _tokens(stop, text)
    passes = stream(model, rows, max_new_tokens=max_new_tokens, stop=ending, **options)
    new: list[list[int]] = [[] for _ in rows]
    arrivals, arrived = [], []
    began = time.perf_counter()  # nothing is computed before the first token is asked for
    for tokens in passes:
        # `stream` returns tokens on the CPU, so the device has finished: no synchronisation here.
        # What `on_tokens` does below delays all later arrivals.
        arrivals.append(time.perf_counter() - began)
        arrived.append(tokens.shape[1])
        for row, each in zip(new, tokens.tolist(), strict=True):
            row += [token for token in each if token != NOTHING]  # texts end at different times
        if on_tokens and on_tokens(tokens, arrivals[-1]) is False:
            # Not left to Python's collector: `close` ends the generator's `with`, which puts the
            # model back in its mode.
            passes.close()
            break
    complete = [[*row, *more] for row, more in zip(rows, new, strict=True)]
    return Generation(
        prompts=tuple(map(tuple, rows)),
        tokens=tuple(map(tuple, new)),
        arrivals_s=tuple(arrivals),
        arrived=tuple(arrived),
        way=_way_in_words(**options),
        device=str(device_of(model)),
        texts=None if text is None else tuple(text.decode(row) for row in complete),
    )


def _is_one(prompt: Any) -> bool:
    """Whether it is one prompt, not a list of prompts."""
    if isinstance(prompt, Tensor):
        return prompt.ndim == 1
    # An empty list is one empty prompt: `stream` refuses it with a message that fits.
    return isinstance(prompt, str) or not prompt or is_whole(prompt[0])


def _tokens(prompt: Any, text: Text | None) -> list[int]:
    if isinstance(prompt, str):
        if text is None:
            raise BadValue(
                "the prompt is a text, and the model takes tokens: needs text=, the data that the "
                "model learnt. Add text=work.data, or give tokens."
            )
        prompt = text.encode(prompt)
    return prompt.tolist() if isinstance(prompt, Tensor) else list(prompt)


def _way_in_words(
    cache: bool = True,
    step: str = "auto",
    draft: Any = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    **_: Any,
) -> str:
    """How it is written, in words."""
    # The defaults above must be those of `stream` and `Sampler`: nothing checks that.
    way = "with a cache" if cache else "without a cache"
    if step != "auto" and cache:
        way += f", {step}"
    if draft is not None:
        way += f" and guesses by {draft if isinstance(draft, str) else 'a draft'}"
    way += ", the likeliest" if temperature == 0 else f", drawn at temperature {temperature:g}"
    limits = {"top_k": top_k, "top_p": top_p}
    return way + "".join(f", {name} {v:g}" for name, v in limits.items() if v is not None)
