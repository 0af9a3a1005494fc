"""Texts and tokens of a served model, without the data it learnt (stub: the signatures stand)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kit.data import Text


class Vocabulary:
    """Turns texts into tokens and back; small enough to travel to the server's process as JSON."""

    def __init__(self, characters: Sequence[str] | None, *, kind: str = "characters"):
        raise NotImplementedError

    @classmethod
    def of(cls, text: Text) -> Vocabulary:
        """The vocabulary of a dataset of characters or of bytes."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Vocabulary:
        """The inverse of `to_dict`."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        raise NotImplementedError

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        raise NotImplementedError
