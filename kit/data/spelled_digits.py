"""Number words anywhere in a line: sequences in which only one small part matters.

Shapes: N examples, T positions of a line, F kinds of character.
"""

import torch
from torch import Tensor

from kit.data.dataset import Dataset, cut

SEED = 0
SIZES = {"train": 6_000, "validation": 1_000, "test": 1_000}
CHARACTERS = "abcdefghilnorstuvwzßöü"  # F = 22: the characters of German number words
LENGTH = 52  # T: the longest word fits
LARGEST = 99_999


def load_spelled_digits() -> Dataset:
    """8,000 German number words, each starting anywhere in a line, with the last digit as target.

    Inputs are (N, 52, 22) float32: at each position of the line a 1 for its character, and only
    zeros where the line is empty. Targets are (N,) int64, the last digit of the number: 7 for
    "siebenundzwanzig", 27.

    Notes
    -----
    German says the last digit before the tens, so it is in the middle of the word, and the word
    is anywhere in the line. The order of characters matters, their position does not. Numbers
    below 100,000 and starting positions are drawn by a seed; no number is in two splits. The words
    are made by num2words (LGPL 2.1).

    Seen in lesson 07.
    """
    generator = torch.Generator().manual_seed(SEED)
    numbers = torch.randperm(LARGEST + 1, generator=generator)[: sum(SIZES.values())]
    starts = torch.rand(len(numbers), generator=generator).tolist()
    lines = [_line(n, at) for n, at in zip(numbers.tolist(), starts, strict=True)]
    return Dataset(
        name="spelled_digits",
        splits=cut(torch.stack(lines), numbers % 10, SIZES),
        classes=tuple("0123456789"),
        origin="German number words by the rules of num2words, somewhere in a line",
        licence="made by num2words, which is LGPL-2.1",
    )


def _line(number: int, start: float) -> Tensor:
    """The number's word in a line (T, F); `start` is a share, 0 to 1, of the free positions."""
    from num2words import num2words

    word = num2words(number, lang="de")
    first = int(start * (LENGTH - len(word) + 1))
    line = torch.zeros(LENGTH, len(CHARACTERS))
    # All characters at once: thousands of lines, written one number at a time, take seconds.
    line[range(first, first + len(word)), [CHARACTERS.index(each) for each in word]] = 1
    return line
