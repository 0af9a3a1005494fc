"""Guesses of the tokens to come: cheap to make, and for the model to confirm many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Draft = Callable[[Sequence[int], int], Sequence[int]]  # the text so far, how many at most


class NGrams:
    """Guesses that a text goes on as it did the last time that it had these tokens.

    Documentation, code and answers about a given text repeat themselves, and so does what a model
    writes. To look up where the last few tokens stood before costs microseconds and no model
    (Saxena, "Prompt Lookup Decoding", 2023).

    Parameters
    ----------
    longest, shortest
        Tokens that have to be the same: the longest match is believed.
    """

    def __init__(self, longest: int = 8, shortest: int = 3):
        self.lengths = range(longest, shortest - 1, -1)
        self._seen: dict[tuple[int, ...], int] = {}  # tokens in a row -> where the next one stands
        self._text: list[int] = []

    def __call__(self, tokens: Sequence[int], most: int) -> list[int]:
        """At most so many guesses; none if nothing like this was written before."""
        self._read(list(tokens))
        for n in self.lengths:
            at = self._seen.get(tuple(self._text[-n:]))
            if at is not None:
                return self._text[at : at + most]
        return []

    def _read(self, tokens: list[int]) -> None:
        """Note where each run of tokens is followed by which place."""
        known = len(self._text)
        if tokens[:known] != self._text:  # another text
            self._seen, known = {}, 0
        self._text = tokens
        for at in range(max(known, 1), len(tokens)):
            for n in self.lengths:
                if n <= at:
                    self._seen[tuple(tokens[at - n : at])] = at
