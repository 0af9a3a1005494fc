"""Libraries that talk while they work: what nobody asked for, and what a notebook would show."""

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
    """No warnings, no log lines, nothing on stderr; errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            stack.enter_context(redirect_stderr(StringIO()))  # a notebook's is not the process's
            stack.enter_context(without_stderr())
            yield
    finally:
        logging.disable(before)


@contextmanager
def without_stderr() -> Iterator[None]:
    """What is written to stderr goes nowhere, also what C++ writes."""
    if sys.stderr:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
