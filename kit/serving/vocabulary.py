"""Texts and tokens of a served model, without the data that it learnt.

kind          a token is                      for
"characters"  an index into a list            `kit.data.Text`
"bytes"       a byte of UTF-8                 `kit.data.text_file.ByteText`
"numbers"     a number, written as digits     a model whose vocabulary nobody gave
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kit.core.errors import BadValue, UnknownName
from kit.data import Text
from kit.data.text_file import ByteText

KINDS = ("characters", "bytes", "numbers")


class Vocabulary:
    """Turns texts into tokens and back; small enough to travel to a server's process as JSON.

    Parameters
    ----------
    kind
        One of `KINDS`.
    characters
        For "characters": the character of each token.

    Examples
    --------
    >>> letters = Vocabulary("characters", "abc")
    >>> letters.encode("cab"), letters.decode([0, 1])
    ([2, 0, 1], 'ab')
    >>> Vocabulary("numbers").encode("7 12")
    [7, 12]
    """

    def __init__(self, kind: str, characters: Sequence[str] = ()):
        if kind not in KINDS:
            raise UnknownName("kind of vocabulary", kind, KINDS)
        self.kind, self.characters = kind, tuple(characters)
        self._index = {character: i for i, character in enumerate(self.characters)}

    @classmethod
    def of(cls, text: Text) -> Vocabulary:
        """The vocabulary of a dataset of characters or of bytes."""
        return cls("bytes") if isinstance(text, ByteText) else cls("characters", text.classes)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Vocabulary:
        """The inverse of `to_dict`."""
        return cls(stored["kind"], stored["characters"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": self.kind, "characters": list(self.characters)}

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; an empty text has none.

        Raises
        ------
        BadValue
            The text has something that is not in the vocabulary.
        """
        if self.kind == "bytes":
            return list(text.encode(errors="replace"))
        if self.kind == "numbers":
            return self._numbers(text)
        unknown = sorted(set(text) - set(self._index))
        if unknown:
            known = "".join(filter(str.isprintable, self.characters))
            raise BadValue(
                f"the text has {', '.join(map(repr, unknown[:5]))}, which the model does not know. "
                f"It knows {len(self.characters)} characters: {known}"
            )
        return [self._index[character] for character in text]

    def _numbers(self, text: str) -> list[int]:
        words = text.split()
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
            raise BadValue(
                "this model has no vocabulary: a prompt is a list of tokens, or their numbers with "
                'spaces between them, such as "7 12". Serve it with text=, to give it one.'
            )
        return [int(word) for word in words]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; an incomplete or wrong sequence of bytes becomes �."""
        piece = self.decoder()
        return "".join([*map(piece, tokens), piece(None)])

    def decoder(self) -> Callable[[int | None], str]:
        """A function that turns tokens, one after the other, into text; None says: the last one.

        A character of several bytes comes with its last byte.
        """
        if self.kind == "bytes":
            bytes_in = codecs.getincrementaldecoder("utf-8")(errors="replace")
            return lambda token: (
                bytes_in.decode(b"", final=True)
                if token is None
                else bytes_in.decode(bytes([token % 256]))
            )
        if self.kind == "numbers":
            return lambda token: "" if token is None else f"{token} "
        known = self.characters
        return lambda token: "" if token is None else known[token] if token < len(known) else "�"
