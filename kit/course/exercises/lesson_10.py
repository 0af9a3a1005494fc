"""Exercises of lesson 10: the memory of a chat, the bound of a reader, and a draft of one's own."""

import math
from collections.abc import Callable, Sequence
from typing import Any

# A well-known size: 32 layers, 8 heads of 128 for keys and values, in 16-bit numbers.
LAYERS, KV_HEADS, HEAD, BYTES, TOKENS = 32, 8, 128, 2, 8_000
KV_GB = 2 * LAYERS * KV_HEADS * HEAD * BYTES * TOKENS / 1e9
# 7 billion weights of 2 bytes, and a memory that moves 100 GB each second.
BOUND = 100e9 / (7e9 * 2)


def memory(answer: Any) -> str | None:
    """Keys and values × layers × heads × numbers per head × bytes of a number × tokens."""
    if (hint := _number(answer, KV_GB)) is not None:
        return hint or None
    if math.isclose(answer, KV_GB / 2, rel_tol=1e-3):
        return "That is keys or values. Both are kept."
    if math.isclose(answer, KV_GB / LAYERS, rel_tol=1e-3):
        return "That is one layer. Each of the 32 layers keeps its own."
    if math.isclose(answer, KV_GB * 1e9, rel_tol=1e-3):
        return "That is in bytes. A gigabyte is 10⁹ of them."
    return "Per token: 2 × 32 × 8 × 128 numbers of 2 bytes. Times the tokens of the chat."


def bound(answer: Any) -> str | None:
    """For each token all weights are read once; how often a second is that possible?"""
    if (hint := _number(answer, BOUND)) is not None:
        return hint or None
    if math.isclose(answer, 1 / BOUND, rel_tol=1e-2):
        return "That is seconds per token. Asked for are tokens per second."
    if math.isclose(answer, 2 * BOUND, rel_tol=1e-3):
        return "Each weight has 2 bytes."
    return "Bytes per second of the memory ÷ bytes that one token needs: all weights, once."


def _number(answer: Any, wanted: float) -> str | None:
    """A hint, "" if it is right, None if it is another number."""
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        return f"Give a number; the answer is {answer!r}."
    return "" if math.isclose(answer, wanted, rel_tol=1e-2) else None


def draft(answer: Callable[[Sequence[int], int], Sequence[int]]) -> str | None:
    """Look for the last two tokens earlier in the text; guess what stood behind them."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    text = [3, 1, 4, 1, 5, 9, 2, 6, 3, 1]
    guesses = list(answer(list(text), 4))
    if len(guesses) > 4:
        return f"It was asked for at most 4 guesses and made {len(guesses)}."
    if not guesses:
        return "After 3, 1 … 3, 1 it has nothing to say. The first time, 4, 1, 5, 9 came next."
    if guesses[0] != 4:
        return (
            f"After 3, 1 it guesses {guesses[0]}; the last time that 3, 1 was there, 4 came next."
        )
    if list(answer([7, 8, 9], 4)):
        return "Of 7, 8, 9 nothing is there twice: to guess there only costs."
    return _pays(answer)


def _pays(answer: Callable[[Sequence[int], int], Sequence[int]]) -> str | None:
    """On a text that repeats itself the model is to be asked less often than once a token."""
    text, known, readings = [1, 2, 3, 4, 5] * 20, 40, 0
    while known < len(text):
        guesses = list(answer(text[:known], 4))[:4]
        pairs = zip(guesses, text[known:], strict=False)
        wrong = (i for i, (guess, true) in enumerate(pairs) if guess != true)
        known += 1 + next(wrong, len(guesses))  # the confirmed ones, and the model's own next
        readings += 1
    if readings > 0.4 * 60:
        return (
            f"On a text that repeats five tokens, the model was asked {readings} times for 60. "
            f"Guess all that stood behind the last match, not one token."
        )
    return None


EXERCISES: dict[str, Callable[..., str | None]] = {
    "10-memory": memory,
    "10-bound": bound,
    "10-draft": draft,
}
