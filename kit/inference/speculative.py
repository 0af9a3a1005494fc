"""Speculative decoding: cheap guesses of the next tokens, which the model accepts or rejects.

A decode step reads all weights for a single token. For k + 1 tokens it reads them once, too. So
the model checks k drafted tokens in about the time of one, and the accepted tokens cost nothing.
Rejected ones are rolled back. The text is the same as without drafts.

Leviathan, Kalman & Matias, "Fast Inference from Transformers via Speculative Decoding", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Draft = Callable[[Sequence[int], int], Sequence[int]]  # (text so far, most guesses) -> guesses


class NGrams:
    """Guesses that a text goes on as it did the last time that these tokens occurred.

    Documentation, code and answers about a given text repeat themselves, and so does what a model
    writes. To look up where the last few tokens occurred before takes microseconds and no model
    (Saxena, "Prompt Lookup Decoding", 2023).

    Parameters
    ----------
    longest, shortest
        The number of tokens that must be the same; the longest match decides.

    Examples
    --------
    >>> NGrams(shortest=2)([1, 2, 3, 9, 9, 1, 2, 3], most=3)
    [9, 9, 1]
    """

    def __init__(self, longest: int = 8, shortest: int = 3):
        self.lengths = range(longest, shortest - 1, -1)
        # At most one entry per position and length: memory, so that a lookup searches no text.
        self._next: dict[tuple[int, ...], int] = {}  # tokens in a row -> position after them
        self._text: list[int] = []

    def __call__(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most `most` guesses; none if the last tokens have not occurred before."""
        self._read(list(tokens))
        for n in self.lengths:  # long matches first: they are right more often
            position = self._next.get(tuple(self._text[-n:]))
            if position is not None:
                return self._text[position : position + most]
        return []

    def _read(self, tokens: list[int]) -> None:
        """Remember, for each run of tokens, the position after it."""
        known = len(self._text)
        if tokens[:known] != self._text:  # another text
            self._next, known = {}, 0
        self._text = tokens
        for position in range(max(known, 1), len(tokens)):  # only what is new since the last call
            for n in self.lengths:
                if n <= position:
                    # The latest occurrence wins. The run at the very end is not stored yet: nothing
                    # follows it, and it would find itself.
                    self._next[tuple(tokens[position - n : position])] = position


def accepted_tokens(drafted: Sequence[int], own: Sequence[int]) -> int:
    """How many drafted tokens, from the first on, the model itself would have written.

    After the first wrong one, the model's logits belong to another text.

    >>> accepted_tokens([5, 6, 7], own=[5, 6, 1, 2])
    2
    """
    # `own` is longer by one: the token that the model adds after the last draft.
    pairs = zip(drafted, own, strict=False)
    return next((i for i, (guess, token) in enumerate(pairs) if guess != token), len(drafted))
