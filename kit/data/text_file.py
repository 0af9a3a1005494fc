"""A text of one's own, read where it lies: the file is mapped into memory, a byte is a token.

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

SHARE = 16  # of so many bytes one is for validation and one for the test
HELD_OUT = 2**15  # bytes, the most for each of them: a model scores them in one go, 1 kB per byte


class Bytes(Text):
    """A text as its UTF-8 bytes: a token is a byte, 0 to 255, and nothing is unknown."""

    def encode(self, text: str) -> Tensor:
        """The tokens (T,) int64 of a text; a letter outside of ASCII has two to four.

        Raises
        ------
        BadValue
            The text is empty.
        """
        if not text:
            raise BadValue("given an empty text: needs one or more characters.")
        return torch.tensor(list(text.encode()))

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of tokens (T,); what is no whole letter becomes �."""
        return bytes(int(token) for token in tokens).decode(errors="replace")


def load_text_file(path: str | Path, *, context: int = 128) -> Bytes:
    """The bytes of any file in windows of `context`, and the byte after each.

    Inputs are (N, T) uint8, targets (N, T) uint8: the input moved on by one. Both are views of the
    file, which is read where and when a batch needs it (as int64), so that it may be larger than
    the memory. It has to stay as it is meanwhile, and it cannot be written to: clone a tensor
    before you change it, or the process ends.

    The last sixteenth of the file is the test, the one before it validation, each of 32,768 bytes
    at most; so where a file holds several texts, mix them first. Windows of training overlap by
    three quarters; the others do not. No byte is in two splits.

    Parameters
    ----------
    path
        A file of any kind; text in UTF-8 is what `encode` and `decode` are for.
    context
        T: how many bytes a model looks back on.

    Raises
    ------
    BadValue
        There is no such file, or it is too short for a window in each split.

    Examples
    --------
    To learn from it what `kit.workloads.language` learns from Python's documentation:

    >>> import kit
    >>> work = kit.workloads.language(load_text_file(kit.__file__))
    >>> work.model().config.vocab_size
    256
    """
    check_whole("context", context)
    path = user_path(path)
    text = _mapped(path, least=3 * (context + 1), context=context)
    fitting = min(len(text) // SHARE, HELD_OUT) // context
    held = max(1, fitting) * context + 1  # S: whole windows, and a last target
    train, validation, test = text.split([len(text) - 2 * held, held, held])
    return Bytes(
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
    """The file as a tensor of bytes, none of which is read yet."""
    if path.is_dir():
        raise BadValue(f"{path} is a folder: needs a file, such as all its texts joined into one.")
    if not path.is_file():
        raise BadValue(f"{path}: no such file. Give the path of a text, or of any other file.")
    if (size := path.stat().st_size) < least:
        raise BadValue(
            f"{path} has {size:,} bytes: needs at least {least:,}, a window of {context} and the "
            f"byte after it for each split. Give a longer text or a smaller context."
        )
    found = np.memmap(path, np.uint8, "r")
    with warnings.catch_warnings(action="ignore"):  # that it cannot be written to: our docs say it
        return torch.from_numpy(found)
