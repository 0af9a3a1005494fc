"""A text file of your own: the file is mapped into memory, and each byte is a token.

Shapes: N windows, T bytes of a window (the context), S bytes of a stretch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import BadValue
from kit.core.files import user_path
from kit.data.python_docs import OVERLAP, Text, windows

SHARE = 16  # one byte in this many is for validation, and one for the test
HELD_OUT = 2**15  # bytes at most for each: a model scores them all at once, 1 kB per byte


class ByteText(Text):
    """A text as its UTF-8 bytes: a token is a byte, 0 to 255, and nothing is unknown."""

    def encode(self, text: str) -> Tensor:
        """The tokens (T,) int64 of a text; a character outside ASCII has two to four.

        Raises
        ------
        BadValue
            The text is empty.
        """
        if not text:
            raise BadValue("given an empty text: needs one or more characters.")
        return torch.tensor(list(text.encode()))

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of tokens (T,); an incomplete character becomes �."""
        return bytes(int(token) for token in tokens).decode(errors="replace")


def load_text_file(path: str | Path, *, context: int = 128) -> ByteText:
    """The bytes of any file in windows of `context`, and the byte after each.

    Inputs are (N, T) uint8. Targets are (N, T) uint8, the inputs shifted by one. Both are views of
    the file, which is read only where a batch needs it (as int64), so it may be larger than the
    memory. Do not change the file meanwhile. Clone a tensor before you write to it, or the
    process ends.

    The last sixteenth of the file is the test and the one before it validation, each of at most
    32,768 bytes. If a file holds several texts, shuffle them first. Training windows overlap by
    three quarters; the others do not. No byte is in two splits.

    Parameters
    ----------
    path
        A file of any kind; `encode` and `decode` expect text in UTF-8.
    context
        T: the bytes in a window, the context of a model.

    Raises
    ------
    BadValue
        The file does not exist, or is too short for a window in each split.

    Examples
    --------
    Train on your text instead of Python's documentation:

    >>> import kit
    >>> work = kit.workloads.language(load_text_file(kit.__file__))
    >>> work.model().config.vocab_size
    256
    """
    check_whole("context", context)
    path = user_path(path)
    text = _mapped(path, least=3 * (context + 1), context=context)
    fitting = min(len(text) // SHARE, HELD_OUT) // context
    held = max(1, fitting) * context + 1  # S: complete windows and a last target
    train, validation, test = text.split([len(text) - 2 * held, held, held])
    return ByteText(
        name=path.name,
        splits={
            "train": windows(train, context, max(1, context // OVERLAP)),
            "validation": windows(validation, context, context),
            "test": windows(test, context, context),
        },
        classes=tuple(repr(bytes([byte]))[2:-1] for byte in range(256)),
        origin=f"a file of your own, {len(text):,} bytes",
        licence="the file's own",
    )


def _mapped(path: Path, least: int, context: int) -> Tensor:
    """The file as a tensor of bytes, none of which has been read yet."""
    if path.is_dir():
        raise BadValue(
            f"{path} is a folder; load_text_file needs a file. Join its texts into one file."
        )
    if not path.is_file():
        raise BadValue(f"{path}: no such file. Give the path of a text file.")
    if (size := path.stat().st_size) < least:
        raise BadValue(
            f"{path} has {size:,} bytes; it needs {least:,}, a window of {context} and the "
            f"byte after it for each split. Give a longer text or a smaller context."
        )
    found = np.memmap(path, np.uint8, "r")
    with warnings.catch_warnings(action="ignore"):  # "not writable": the docstring says so
        return torch.from_numpy(found)
