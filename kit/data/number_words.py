"""Number words in two languages: a translation task with one right answer per example.

Shapes: N pairs, S characters of the source, T characters of the translation, its end included.
"""

import torch
from torch import Tensor

from kit.core.errors import BadValue
from kit.data.dataset import Dataset, cut

SEED = 0
SIZES = {"train": 6_000, "validation": 1_000, "test": 1_000}
PADDING, START, END = 0, 1, 2  # tokens that are not characters
SYMBOLS = ("<padding>", "<start>", "<end>", *" ,-abcdefghilnorstuvwxyzßöü")
SOURCE, TARGET = 52, 56  # S, T: 77,777 is the longest in both languages


class TranslationPairs(Dataset):
    """A dataset of two languages: its classes are the symbols, a token is an index into them."""

    def encode(self, text: str, *more: str) -> Tensor:
        """The tokens (N, S) int64 of one or more source texts, padded to the same length.

        Raises
        ------
        BadValue
            A text is empty, too long, or has characters that no number word has.

        >>> from kit.data import load_number_words
        >>> data = load_number_words()
        >>> data.decode(data.encode("zwölf", "einundzwanzig"))
        ['zwölf', 'einundzwanzig']
        """
        return torch.stack([_row(text, SOURCE) for text in (text, *more)])

    def decode(self, tokens: Tensor) -> list[str]:
        """The texts of tokens (N, S) or (N, T), each up to its end symbol or its padding."""
        return ["".join(self.classes[token] for token in _text(row)) for row in tokens.tolist()]


def load_number_words() -> TranslationPairs:
    """8,000 numbers in German and English words, as characters.

    Inputs are (N, 52 + 56) int64: the padded German word, then the start symbol and the English
    characters before each position. This is teacher forcing: a model may read the right
    translation up to a position, and the model itself must not read further. Targets are (N, 56)
    int64: the English characters, the end symbol, and padding, which losses and scores skip.

    Notes
    -----
    The numbers are all those below 1,000, and equally many of four and of five digits, drawn by a
    seed. No number is in two splits. `SYMBOLS` names the tokens. German says "two-and-eighty"
    where English says "eighty-two", so a translation cannot go from left to right.

    The words are made by num2words (LGPL 2.1) from the rules of each language.
    """
    rows = [_example(number) for number in draw_numbers()]
    inputs, targets = (torch.stack(side) for side in zip(*rows, strict=True))
    return TranslationPairs(
        name="number_words",
        splits=cut(inputs, targets, SIZES),
        classes=SYMBOLS,
        origin="number words by the rules of num2words, German to English",
        licence="made by num2words, which is LGPL-2.1",
    )


def draw_numbers() -> list[int]:
    """The numbers of all splits, in order: training, validation, test."""
    generator = torch.Generator().manual_seed(SEED)
    each = (sum(SIZES.values()) - 1_000) // 2
    four = 1_000 + torch.randperm(9_000, generator=generator)[:each]
    five = 10_000 + torch.randperm(90_000, generator=generator)[:each]
    drawn = torch.cat([torch.arange(1_000), four, five])
    return drawn[torch.randperm(len(drawn), generator=generator)].tolist()


def _example(number: int) -> tuple[Tensor, Tensor]:
    """Inputs (S + T,) and targets (T,) of one number."""
    from num2words import num2words

    source = _row(num2words(number, lang="de"), SOURCE)
    english = _row(num2words(number, lang="en"), TARGET - 1)  # one symbol is left for start or end
    targets = torch.cat([english, torch.tensor([PADDING])])
    targets[(english != PADDING).sum()] = END
    return torch.cat([source, torch.tensor([START]), english]), targets


def _row(text: str, width: int) -> Tensor:
    """The tokens (width,) of a text, padded on the right."""
    known = SYMBOLS[END + 1 :]
    unknown = sorted(set(text) - set(known))
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise BadValue(f"given {text!r} with {names}: number words have only {''.join(known)!r}.")
    if not 1 <= len(text) <= width:
        raise BadValue(f"given {text!r}, {len(text)} characters: needs 1 to {width}.")
    tokens = [SYMBOLS.index(character) for character in text]
    return torch.tensor(tokens + [PADDING] * (width - len(text)))


def _text(tokens: list[int]) -> list[int]:
    """The characters before the first end symbol or padding, without the start symbol."""
    ends = [i for i, token in enumerate(tokens) if token in (PADDING, END)]
    return [token for token in tokens[: min(ends, default=len(tokens))] if token > END]
