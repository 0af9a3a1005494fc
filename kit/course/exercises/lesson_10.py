"""Exercises of lesson 10: the memory of a chat, the fastest possible decode, your own draft."""

from collections.abc import Callable, Sequence

from kit.course.exercises.registry import exercise, hint_for_number

# A common model size: 32 layers, 8 key-value heads of 128, 16-bit numbers.
LAYERS, KV_HEADS, HEAD, BYTES, TOKENS = 32, 8, 128, 2, 8_000
KV_GB = 2 * LAYERS * KV_HEADS * HEAD * BYTES * TOKENS / 1e9
# 7 billion weights of 2 bytes, and a memory that moves 100 GB per second.
BOUND = 100e9 / (7e9 * 2)


@exercise("10-memory", needs="number")
def memory(answer: float) -> str | None:
    """Keys and values × layers × heads × numbers per head × bytes per number × tokens."""
    mistakes = {
        KV_GB / 2: "That is only the keys, or only the values. The cache keeps both.",
        KV_GB / LAYERS: "That is one layer. Each of the 32 layers keeps its own.",
        KV_GB * 1e9: "That is in bytes. A gigabyte is 10⁹ bytes.",
    }
    hint = "Per token: 2 × 32 × 8 × 128 numbers of 2 bytes. Times the tokens of the chat."
    return hint_for_number(answer, KV_GB, mistakes, hint, within=0.05)  # 1 or 1.05


@exercise("10-bound", needs="number")
def bound(answer: float) -> str | None:
    """For each token, all weights are read once. How often per second is that possible?"""
    mistakes = {
        1 / BOUND: "That is seconds per token. Give tokens per second.",
        2 * BOUND: "Each weight has 2 bytes.",
    }
    hint = "Bytes per second of the memory ÷ bytes that one token needs: all weights, once."
    return hint_for_number(answer, BOUND, mistakes, hint, within=0.03)  # 7 or 7.1


@exercise("10-draft", needs="function")
def draft(answer: Callable[[Sequence[int], int], Sequence[int]]) -> str | None:
    """Find where the last two tokens stood earlier in the text; guess what followed them there."""
    text = [3, 1, 4, 1, 5, 9, 2, 6, 3, 1]
    guesses = list(answer(list(text), 4))
    if len(guesses) > 4:
        return f"At most 4 guesses were allowed, and it made {len(guesses)}."
    if not guesses:
        return "After 3, 1 … 3, 1 it guesses nothing. The first time, 4, 1, 5, 9 came next."
    if guesses[0] != 4:
        return f"After 3, 1 it guesses {guesses[0]}; the last time, 4 came after 3, 1."
    if list(answer([7, 8, 9], 4)):
        return "In 7, 8, 9 no token repeats: a guess there only costs time."
    return _forwards_hint(answer)


def _forwards_hint(answer: Callable[[Sequence[int], int], Sequence[int]]) -> str | None:
    """On a text that repeats itself, the model must run less often than once per token."""
    text, known, forwards = [1, 2, 3, 4, 5] * 20, 40, 0
    while known < len(text):
        guesses = list(answer(text[:known], 4))[:4]
        pairs = zip(guesses, text[known:], strict=False)
        wrong = (i for i, (guess, true) in enumerate(pairs) if guess != true)
        known += 1 + next(wrong, len(guesses))  # the accepted tokens, and the model's own next one
        forwards += 1
    if forwards > 0.4 * 60:
        return (
            f"On a text that repeats five tokens, the model ran {forwards} times for 60 tokens. "
            f"Guess everything that followed the last match, not one token."
        )
    return None
