"""The end of a text that is written piece by piece: at a stop text, which is not handed out."""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """Takes pieces of a text, and gives those that no stop text can take back.

    Parameters
    ----------
    stops
        The text ends before the first of these.

    Attributes
    ----------
    stopped
        A stop text was found.
    over
        It was found, or the text has ended without one: the next `take` gives all that is left.

    Examples
    --------
    >>> text = StopTexts(["END"])
    >>> text.add("say E"); text.take()
    'say '
    >>> text.add("N"); text.take()
    ''
    >>> text.add("JOY"); text.take()
    'ENJOY'
    """

    def __init__(self, stops: Sequence[str]):
        self.stops, self._held = stops, ""
        self.stopped = self.over = False

    def add(self, piece: str) -> None:
        """The next piece."""
        self._held += piece
        found = [at for stop in self.stops if (at := self._held.find(stop)) >= 0]
        if found:
            self._held = self._held[: min(found)]
            self.stopped = self.over = True

    def end(self) -> None:
        """There are no more pieces."""
        self.over = True

    def take(self) -> str:
        """What is certain and was not taken yet."""
        held = 0 if self.over else max(map(self._begun, self.stops), default=0)
        cut = len(self._held) - held
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain

    def _begun(self, stop: str) -> int:
        """How many characters at the end may be the beginning of this stop text."""
        most = min(len(stop) - 1, len(self._held))
        return next((n for n in range(most, 0, -1) if self._held.endswith(stop[:n])), 0)
