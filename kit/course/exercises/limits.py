"""A limit on the time that a reader's function may take: a loop may never end."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Any


class TookTooLong(Exception):
    """The function did not return within its time."""


def within_seconds(limit_s: float, function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns, or `TookTooLong` if it still runs after the limit.

    It is interrupted as by Ctrl+C, on every system. A single long call into a library written in C
    is interrupted when it returns. In another thread than the main one there is no limit, because
    Python can interrupt the main thread alone.

    >>> within_seconds(1.0, max, 3, 5)
    5
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*given)
    expired = threading.Event()

    def interrupt() -> None:
        expired.set()
        _thread.interrupt_main()

    timer = threading.Timer(limit_s, interrupt)
    timer.daemon = True
    timer.start()
    try:
        return function(*given)
    except KeyboardInterrupt:
        if not expired.is_set():
            raise  # the reader's own
        raise TookTooLong(f"no answer within {limit_s:g} s") from None
    finally:
        timer.cancel()
