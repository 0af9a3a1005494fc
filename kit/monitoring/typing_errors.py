"""Typing errors: a drift of texts that users cause, and a repair that needs no training.

with_typing_errors    the same texts, with an error in a share of their words
Spelling              words that are known, and the most likely one that a wrong word was meant for
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np

from kit.core.checks import check_whole, is_number
from kit.core.errors import BadValue

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
BESIDE = {a: b for row in KEYS for a, b in zip(row, row[1:] + row[-2], strict=True)}  # a key to hit
WORD = re.compile(r"[A-Za-z]{3,}")  # shorter words say little, and a wrong one is another word
HIDDEN = "MASK"  # stands for a name that nobody shall see, so nobody types it


def with_typing_errors(texts: Sequence[str], share: float, seed: int = 0) -> tuple[str, ...]:
    """The texts with one typing error in this share of their words of at least three letters.

    An error is a letter that is left out, typed twice, swapped with the letter before it, or
    replaced by the one of the next key. The first letter stays. Words with an error at a small
    share have the same error at a larger one.

    Raises
    ------
    BadValue
        The share does not lie between 0 and 1, or a single text was given.

    Examples
    --------
    >>> with_typing_errors(["Return the name of the file."], 1.0)
    ('Rteurn thee naem of teh fiel.',)

    Explained in lesson 13.
    """
    if not is_number(share) or not 0 <= share <= 1:
        raise BadValue(f"share={share!r}: needs a share of the words, from 0 to 1.")
    _check_texts(texts)
    random = np.random.default_rng(check_whole("seed", seed, 0))

    def typed(found: re.Match[str]) -> str:
        word = found.group()
        # Drawn for each word, wrong or not: so a larger share adds errors and changes none.
        chance, kind, place = random.random(), int(random.integers(4)), random.random()
        at = 1 + int(place * (len(word) - 1))
        return word if word == HIDDEN or chance >= share else _with_error(word, kind, at)

    return tuple(WORD.sub(typed, text) for text in texts)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        kind = "a single text" if isinstance(texts, str) else "something that is not a text"
        raise BadValue(f"texts: given {kind}; needs a list of texts: ['first', 'second'].")


def _with_error(word: str, kind: int, at: int) -> str:
    """The word with an error at its letter `at`, from 1 on."""
    before, letter, after = word[:at], word[at], word[at + 1 :]
    key = BESIDE[letter.lower()]
    second = max(at, 2)  # the first letter is not swapped either
    wrong = (
        before + after,
        before + letter + letter + after,
        word[: second - 1] + word[second] + word[second - 1] + word[second + 1 :],
        before + (key.upper() if letter.isupper() else key) + after,
    )[kind]
    return wrong if wrong != word else before + after  # two equal letters were swapped


class Spelling:
    """The words of texts without errors; `repaired` replaces unknown words by similar known ones.

    Parameters
    ----------
    texts
        Whose words are right, such as those that a model learnt from.

    Notes
    -----
    After Norvig, "How to Write a Spelling Corrector", 2007: of the known words that are one change
    of a letter away, the most frequent one. Words of one or two letters stay. A right word that no
    text contained can become a wrong one.

    Examples
    --------
    >>> spelling = Spelling(["Return the name of the file.", "the name"])
    >>> spelling.repaired(["Rteurn tge naame of thw fule of Ada."])
    ('return the name of the file of Ada.',)

    Explained in lesson 13.
    """

    def __init__(self, texts: Sequence[str]):
        _check_texts(texts)
        self.counts = Counter(word.lower() for text in texts for word in WORD.findall(text))
        if not self.counts:
            raise BadValue("Spelling: the texts contain no word; needs texts without errors.")

    def repaired(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The texts, each unknown word replaced by the likeliest known one, if there is one."""
        _check_texts(texts)
        return tuple(WORD.sub(lambda found: self._meant(found.group()), text) for text in texts)

    def _meant(self, word: str) -> str:
        typed = word.lower()
        if word == HIDDEN or typed in self.counts:
            return word
        near = [other for other in _one_change(typed) if other in self.counts]
        # Of equally frequent words the first by letters: a set has no order of its own.
        return min(near, key=lambda other: (-self.counts[other], other)) if near else word


def _one_change(word: str) -> set[str]:
    """All words that differ by a letter left out, added, replaced, or swapped with the next."""
    parts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    without = {a + b[1:] for a, b in parts if b}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in parts if len(b) > 1}
    replaced = {a + c + b[1:] for a, b in parts if b for c in ascii_lowercase}
    added = {a + c + b for a, b in parts for c in ascii_lowercase}
    return without | swapped | replaced | added
