"""Requests that wait together are computed together (stub: the signatures stand)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kit.serving.admission import Admission, Ticket

Arrays = dict[str, np.ndarray]


class Observe(Protocol):
    """Who is told what happens; `metrics.py` counts it. Called from the event loop's thread."""

    def on_queue(self, wait_s: float) -> None:
        """A request left the queue after this wait."""

    def on_batch(self, rows: int, predict_s: float) -> None:
        """The model computed a batch."""

    def on_shed(self, reason: str) -> None:
        """A request was dropped: full, deadline, gone or draining."""

    def on_first_token(self, ttft_s: float) -> None:
        """The first token of a generation, from the request's arrival."""

    def on_token(self, gap_s: float) -> None:
        """A later token, from the one before."""


class Unobserved:
    """Nobody is told."""

    def on_queue(self, wait_s: float) -> None:
        """Nothing."""

    def on_batch(self, rows: int, predict_s: float) -> None:
        """Nothing."""

    def on_shed(self, reason: str) -> None:
        """Nothing."""

    def on_first_token(self, ttft_s: float) -> None:
        """Nothing."""

    def on_token(self, gap_s: float) -> None:
        """Nothing."""


@dataclass(slots=True)
class Answer:
    """What a request gets, and where its time went."""

    outputs: Arrays
    wait_s: float  # in the queue
    predict_s: float  # of the whole batch
    batch_rows: int


class DynamicBatcher:
    """A queue in front of one model, which takes several requests at a time.

    Make it and call `submit` in one event loop. The model runs in a thread of its own.
    """

    def __init__(
        self,
        predict: Callable[[Arrays], Arrays],
        *,
        max_batch: int = 32,
        max_wait_s: float = 0.002,
        admission: Admission | None = None,
        observe: Observe | None = None,
        threads: int = 1,
    ):
        raise NotImplementedError

    async def submit(self, inputs: Arrays, rows: int, ticket: Ticket) -> Answer:
        """The model's outputs for these rows (axis 0 of every array), and where the time went.

        Raises RequestRefused: 400 more rows than max_batch; 504 too late; 500 the model failed.
        Cancel the awaiting task when the client has gone: the request leaves the queue uncomputed.
        """
        raise NotImplementedError

    async def drain(self, timeout_s: float = 20.0) -> bool:
        """Refuse new requests, finish those inside, stop the thread; whether all were finished."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the thread after the batch that runs; whatever waits gets 503."""
        raise NotImplementedError
