"""Twenty drawings of the reader's own: a pad that asks for one digit after the other.

own_digits     makes the panel; a guess may stand above it
OwnDigits      the panel; `examples` gives the drawings as images, or stored ones if there are none
"""

from __future__ import annotations

import html
from typing import Any

import ipywidgets
import numpy as np
import torch
from numpy.typing import NDArray

from kit.core.errors import NotEnoughSamples
from kit.course.drawing_panel import Pad, to_image
from kit.course.drawn_digits import drawn_digits, made_smaller
from kit.course.panels import Guess, shown_with
from kit.data import Split

WANTED = (*range(10), *range(10))  # each digit twice
TASK = "Draw twenty digits. Without drawings of yours, the lesson uses twenty stored ones."


class OwnDigits(ipywidgets.VBox):
    """A pad, the digit that is asked for, and two buttons: Next and Undo."""

    def __init__(self, guess: Guess | None = None):
        self.guess = guess
        self.drawings: list[NDArray[np.bool_]] = []
        self.pad, self.asked = Pad(), ipywidgets.HTML()
        self.next = ipywidgets.Button(description="Next", button_style="primary")
        self.undo = ipywidgets.Button(description="Undo", tooltip="Draw the last digit again")
        self.next.on_click(lambda _: self.take())
        self.undo.on_click(lambda _: self.take_back())
        above = [guess.panel] if guess else []
        buttons = ipywidgets.HBox([self.next, self.undo])
        super().__init__([*above, self.asked, buttons, self.pad])
        self._say()

    def take(self) -> None:
        """What Next does: keep the drawing, clear the pad, ask for the next digit."""
        drawing = self.pad.drawing
        if len(self.drawings) == len(WANTED):
            return
        if not drawing.any():
            self._say("The pad is empty.")
            return
        self.drawings.append(drawing)
        self._clear()
        self._say()

    def take_back(self) -> None:
        """What Undo does: drop the last drawing, and ask for its digit again."""
        if self.drawings:
            self.drawings.pop()
        self._clear()
        self._say()

    def _clear(self) -> None:
        self.pad.bitmap = bytes(len(self.pad.bitmap))
        self.pad.send({"clear": True})

    def _say(self, problem: str = "") -> None:
        n = len(self.drawings)
        if n == len(WANTED):
            asked, more = "All twenty are drawn.", "Run the next cell."
        else:
            asked, more = f"Draw a {WANTED[n]}", f"drawing {n + 1} of {len(WANTED)}. {problem}"
        self.asked.value = f'<b style="font-size:1.3em">{asked}</b> {html.escape(more)}'
        self.next.disabled, self.undo.disabled = n == len(WANTED), n == 0
        self.pad.spoken = f"{asked}, {more}"

    @property
    def whose(self) -> str:
        """Whose drawings `examples` gives, in words."""
        return "your drawings" if self.drawings else "the stored drawings"

    def examples(self, prepared: bool = False) -> Split:
        """The drawings as images (N, 1, 8, 8) with their digits (N,); stored ones if none is there.

        Parameters
        ----------
        prepared
            As for `kit.course.drawn_digits.drawn_digits`: made smaller only, or prepared as the
            dataset's images were.

        Raises
        ------
        NotEnoughSamples
            A few were drawn, but not the ten that an interval needs.
        """
        n = len(self.drawings)
        if not n:
            return drawn_digits(prepared=prepared)
        if n < 10:
            raise NotEnoughSamples(
                f"you have drawn {n} of {len(WANTED)} digits; a score needs at least 10. Draw on "
                f"in the panel above, or press Undo until none is left to use the stored ones."
            )
        images = [to_image(each) if prepared else made_smaller(each) for each in self.drawings]
        return Split(torch.stack(images), torch.tensor(WANTED[:n]))

    def __repr__(self) -> str:
        guessed = f"{self.guess!r} " if self.guess else ""
        return f"{guessed}{TASK} Drawn: {len(self.drawings)}."

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        first = self.guess._repr_mimebundle_()["text/html"] if self.guess else ""
        return shown_with(self, f"{first}<p>{TASK} <i>(a pad, in JupyterLab)</i></p>", repr(self))


def own_digits(guess: Guess | None = None) -> OwnDigits:
    """A panel that asks for twenty drawings, each digit twice; without any, stored ones are used.

    Parameters
    ----------
    guess
        A guess that stands above the pad, to be made before drawing.

    Explained in lesson 13.
    """
    return OwnDigits(guess)
