"""Python's own documentation: real English and real code, on every computer with Python.

Shapes: N windows, T characters of a window (the context), V characters in the vocabulary.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import BadValue
from kit.data.dataset import Dataset, Split

CONTEXT = 128  # T: about two lines, enough to recognise prose or code
OVERLAP = 4  # training windows start a quarter of the context apart
STRETCH = 20 * CONTEXT + 1  # characters of one split in a row: 20 windows and a last target
TURN = 16  # of this many stretches, one is for validation and one for the test
HELD_OUT = {5: "validation", 13: "test"}  # far apart, so that both cover all parts


class Text(Dataset):
    """A dataset of characters: its classes are the vocabulary, a token is an index into it."""

    def encode(self, text: str) -> Tensor:
        """The tokens (T,) int64 of a text.

        Raises
        ------
        BadValue
            The text is empty, or has characters that are not in the vocabulary.

        >>> from kit.data import load_python_docs
        >>> data = load_python_docs()
        >>> data.decode(data.encode("for x in range(3):"))
        'for x in range(3):'
        """
        index = {character: i for i, character in enumerate(self.classes)}
        unknown = sorted(set(text) - set(index))
        if unknown or not text:
            given = f"the unknown {', '.join(map(repr, unknown))}" if text else "an empty text"
            known = "".join(filter(str.isprintable, self.classes))
            raise BadValue(f"given {given}: needs one or more of the {len(index)} known: {known}")
        return torch.tensor([index[character] for character in text])

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of tokens (T,), the inverse of `encode`."""
        return "".join(self.classes[int(token)] for token in tokens)


def load_python_docs(*, context: int = CONTEXT) -> Text:
    """The topics of Python's `help()` in windows of characters, and the character after each.

    Inputs are (N, T) int64. Targets are (N, T) int64, the inputs shifted by one: at each position,
    the next character. The vocabulary comes from the text, which depends on Python's version:
    3.11 has about 370,000 characters of 103 kinds.

    Many topics repeat others word for word. Only the first copy of a paragraph stays, so that a
    model cannot memorise the test. Of every 16 stretches of 2,561 characters, one is for
    validation and one for the test. Training windows overlap; the others do not.

    Parameters
    ----------
    context
        T: the characters in a window. The split of the text does not depend on it.

    Raises
    ------
    BadValue
        The context does not fit into a stretch.

    Notes
    -----
    `pydoc_data.topics`, made from the language reference of the running Python: © Python
    Software Foundation, PSF License Version 2.

    Seen first in lesson 08.
    """
    check_whole("context", context, high=STRETCH - 1)
    text = _distinct_paragraphs(_topics())
    characters = tuple(sorted(set(text)))
    index = {character: i for i, character in enumerate(characters)}
    tokens = torch.tensor([index[character] for character in text])  # as long as the text
    return Text(
        name="python_docs",
        splits={
            "train": _windows(_stretches(tokens, "train"), context, max(1, context // OVERLAP)),
            "validation": _windows(_stretches(tokens, "validation"), context, context),
            "test": _windows(_stretches(tokens, "test"), context, context),
        },
        classes=characters,
        origin="the documentation in the running Python, by its authors (pydoc_data.topics)",
        licence="PSF-2.0",
    )


def _topics() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def _distinct_paragraphs(texts: Iterable[str]) -> str:
    """One text without repeated paragraphs; a different indentation still counts as a repeat."""
    seen, unique = set(), []
    for paragraph in (part for text in texts for part in text.split("\n\n")):
        words = " ".join(paragraph.split())
        if words and words not in seen:
            seen.add(words)
            unique.append(paragraph.strip("\n"))
    return "\n\n".join(unique)


def _stretches(tokens: Tensor, split: str) -> list[Tensor]:
    """The parts of the text that belong to a split; adjacent stretches are joined."""
    parts: list[list[Tensor]] = [[]]
    for i, stretch in enumerate(tokens.split(STRETCH)):
        if HELD_OUT.get(i % TURN, "train") == split:
            parts[-1].append(stretch)
        elif parts[-1]:
            parts.append([])
    joined = [torch.cat(part) for part in parts if part]
    return [part for part in joined if len(part) > CONTEXT]  # the text's end may be shorter


def _windows(stretches: list[Tensor], context: int, stride: int) -> Split:
    """Windows that start `stride` characters apart, and the same shifted by one."""
    long = [part for part in stretches if len(part) > context]  # a window and a last target
    parts = [windows(part, context, stride) for part in long]
    return Split(*(torch.cat(side) for side in zip(*parts, strict=True)))


def windows(text: Tensor, context: int, stride: int) -> Split:
    """Views of a text (S,): windows that start `stride` apart, and the same shifted by one."""
    both = text.unfold(0, context + 1, stride)  # (N, T + 1)
    return Split(both[:, :-1], both[:, 1:])
