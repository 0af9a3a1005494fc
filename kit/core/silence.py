"""Suppress what other libraries print while they work, which a notebook would show."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from io import StringIO


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress warnings, log lines and stderr inside; errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            stack.enter_context(redirect_stderr(StringIO()))  # a notebook has its own
            stack.enter_context(without_stderr())
            yield
    finally:
        logging.disable(before)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Discard what is written to stderr inside, also by C++ code."""
    if sys.stderr:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
