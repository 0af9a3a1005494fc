"""The queue of a batcher: requests in order of arrival, and which of them make the next batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kit.serving.admission import Ticket

Arrays = dict[str, np.ndarray]
Kind = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(slots=True)
class Answer:
    """What a request gets, and where its time went."""

    outputs: Arrays
    wait_s: float  # in the queue
    predict_s: float  # of the whole batch
    batch_rows: int


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue."""

    inputs: Arrays
    rows: int
    ticket: Ticket
    queued_s: float
    done: Callable[[Waiting], None]  # told when there is a result
    kind: Kind = field(init=False)
    taken_s: float = 0.0
    result: Answer | Exception | None = None

    def __post_init__(self) -> None:
        self.kind = kind_of(self.inputs)


def kind_of(inputs: Arrays) -> Kind:
    """What two requests must share to be computed together: names, dtypes, shapes of one row.

    >>> kind_of({"x": np.zeros((3, 8), np.float32)})
    (('x', '<f4', (8,)),)
    """
    return tuple((name, a.dtype.str, a.shape[1:]) for name, a in sorted(inputs.items()))


class RequestQueue:
    """Requests in order of arrival; a batch holds the oldest one, and later ones of its kind.

    It is not safe for threads by itself: the batcher holds a lock around every call.
    """

    def __init__(self, max_batch: int, max_wait_s: float):
        self.max_batch = max_batch
        self.max_wait_s = max_wait_s
        self._lines: dict[Kind, deque[Waiting]] = {}  # none is empty
        self._rows: dict[Kind, int] = {}  # how many rows wait in each line

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def add(self, request: Waiting) -> bool:
        """Put a request behind those of its kind; whether these make a full batch now."""
        self._lines.setdefault(request.kind, deque()).append(request)
        self._rows[request.kind] = rows = self._rows.get(request.kind, 0) + request.rows
        return rows >= self.max_batch

    def patience_s(self, now: float) -> float:
        """How much longer a free model waits for company; 0 if the batch is full."""
        kind, line = self._oldest()
        if self._rows[kind] >= self.max_batch:
            return 0.0
        return max(0.0, line[0].queued_s + self.max_wait_s - now)

    def take(self, now: float, usual_s: float = 0.0) -> tuple[list[Waiting], list[Waiting]]:
        """The next batch, and the requests on the way to it that are too late.

        A request is too late if the time that a batch usually takes goes beyond its deadline: the
        client would not wait for the answer. At most half of a deadline is reckoned for this, so
        that one slow batch does not turn everybody away.
        """
        kind, line = self._oldest()
        batch: list[Waiting] = []
        late: list[Waiting] = []
        room = self.max_batch
        while line and line[0].rows <= room:
            request = self._pop(kind)
            request.taken_s, ticket = now, request.ticket
            half_s = 0.5 * (ticket.expires_s - ticket.arrived_s)
            if now + min(usual_s, half_s) > ticket.expires_s:
                late.append(request)
            else:
                batch.append(request)
                room -= request.rows
        return batch, late

    def remove(self, request: Waiting) -> bool:
        """Take out a request whose client has gone; False if it was taken already."""
        line = self._lines.get(request.kind, deque())
        if request not in line:
            return False
        line.remove(request)
        self._forget(request)
        return True

    def clear(self) -> list[Waiting]:
        """Take out everything."""
        everything = [request for line in self._lines.values() for request in line]
        self._lines, self._rows = {}, {}
        return everything

    def _oldest(self) -> tuple[Kind, deque[Waiting]]:
        """The line whose first request has waited longest."""
        return min(self._lines.items(), key=lambda item: item[1][0].queued_s)

    def _pop(self, kind: Kind) -> Waiting:
        request = self._lines[kind].popleft()
        self._forget(request)
        return request

    def _forget(self, request: Waiting) -> None:
        self._rows[request.kind] -= request.rows
        if not self._lines[request.kind]:
            del self._lines[request.kind], self._rows[request.kind]


class UsualTime:
    """A mean that follows its observations, and how far these stray from it.

    The estimate is the one with which TCP decides how long it waits for an answer (RFC 6298).

    >>> usual = UsualTime()
    >>> for seconds in [0.1, 0.1, 0.1]:
    ...     usual.add(seconds)
    >>> round(usual.mean_s, 3), usual.bound_s < 0.3
    (0.1, True)
    """

    def __init__(self) -> None:
        self.mean_s = self.deviation_s = 0.0
        self._known = False

    def add(self, seconds: float) -> None:
        """An observation: it moves the mean by an eighth of its distance."""
        if not self._known:
            self.mean_s, self.deviation_s, self._known = seconds, seconds / 2, True
            return
        self.deviation_s += (abs(seconds - self.mean_s) - self.deviation_s) / 4
        self.mean_s += (seconds - self.mean_s) / 8

    @property
    def bound_s(self) -> float:
        """A time that few observations exceed; 0 before the first."""
        return self.mean_s + 2 * self.deviation_s
