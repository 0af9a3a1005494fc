"""Number words that begin anywhere in a line: sequences of which one small part is asked for.

Shapes: N examples, T places of a line, F kinds of character.
"""

import torch
from torch import Tensor

from kit.data.dataset import Dataset, cut

SEED = 0
SIZES = {"train": 6_000, "validation": 1_000, "test": 1_000}
CHARACTERS = "abcdefghilnorstuvwzßöü"  # F = 22: those that German number words have
PLACES = 52  # T: the longest word fits
LARGEST = 99_999


def load_spelled_digits() -> Dataset:
    """8,000 German number words, each beginning anywhere in a line; which digit do they end in?

    Inputs are (N, 52, 22) float32: at each place of the line a 1 for the character there, all 0
    where nothing is written. Targets are (N,) int64, the last digit of the number: of
    "siebenundzwanzig", 27, it is 7.

    Notes
    -----
    German says the last digit before the tens, so it stands in the middle of the word, and the
    word anywhere in the line: what is asked for has an order, but no place. Numbers below 100,000
    and beginnings are drawn by a seed; no number is in two splits. The words are made by
    num2words (LGPL 2.1).

    Seen in lesson 07.
    """
    dice = torch.Generator().manual_seed(SEED)
    numbers = torch.randperm(LARGEST + 1, generator=dice)[: sum(SIZES.values())]
    luck = torch.rand(len(numbers), generator=dice).tolist()
    lines = [_line(n, at) for n, at in zip(numbers.tolist(), luck, strict=True)]
    return Dataset(
        name="spelled_digits",
        splits=cut(torch.stack(lines), numbers % 10, SIZES),
        classes=tuple("0123456789"),
        origin="German number words by the rules of num2words, somewhere in a line",
        licence="made by num2words, which is LGPL-2.1",
    )


def _line(number: int, luck: float) -> Tensor:
    """The number's word in a line (T, F), beginning at that share of the room there is."""
    from num2words import num2words

    word = num2words(number, lang="de")
    begin = int(luck * (PLACES - len(word) + 1))
    line = torch.zeros(PLACES, len(CHARACTERS))
    for place, character in enumerate(word):
        line[begin + place, CHARACTERS.index(character)] = 1
    return line
