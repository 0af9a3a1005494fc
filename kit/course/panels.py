"""Things to move by hand: a guess with a slider, and a picture that follows its sliders.

A panel is a widget where there is a live kernel, and plain HTML everywhere else: both travel in
its output, and the web page of an executed notebook shows the latter.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w

from kit.errors import BadValue
from kit.figures import Note
from kit.units import digits, words


def shown_with(widget: w.Widget, fallback: str, text: str) -> dict[str, Any]:
    """The output of a widget, with the HTML to show where no kernel is behind it."""
    bundle = w.DOMWidget._repr_mimebundle_(widget) or {}
    view = {k: v for k, v in bundle.items() if k.startswith("application/vnd.jupyter.widget")}
    return {**view, "text/html": fallback, "text/plain": text}


class Guess:
    """A question with a slider; `.value` is None until somebody moves it."""

    def __init__(self, question: str, low: float, high: float, unit: str = ""):
        if not 0 < low < high:
            raise BadValue(f"a guess from {low!r} to {high!r}: needs 0 < low < high.")
        self.question, self.unit = question, unit
        self.value: float | None = None
        ratio = (high / low) ** (1 / 60)
        steps = [low * ratio**i for i in range(61)]  # even factors give no hint
        options = [("no guess yet", -1.0), *((words(v, unit), v) for v in steps)]
        self._slider = w.SelectionSlider(
            options=options,
            continuous_update=False,
            layout=w.Layout(width="32em"),
            description="your guess",
            style={"description_width": "initial"},
        )
        self._slider.observe(self._moved, "value")

    def _moved(self, change: dict[str, Any]) -> None:
        self.value = change["new"] if change["new"] > 0 else None

    def __repr__(self) -> str:
        told = "no guess yet" if self.value is None else words(self.value, self.unit)
        return f"{self.question} Your guess: {told}."

    def beside(self, measured: float) -> Note:
        """The guess beside what was measured, in a sentence."""
        told = f"measured: {words(measured, self.unit)}."
        if self.value is None:
            return Note(f"No guess was made; {told}")
        told = f"Your guess: {words(self.value, self.unit)}; {told}"
        if measured > 0:
            off = max(self.value / measured, measured / self.value)
            told += f" Off by a factor of {digits(off)}."
        return Note(told)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        question = w.HTML(f"<b>{html.escape(self.question)}</b>")
        box = w.VBox([question, self._slider])
        fallback = f"<p><b>{html.escape(self.question)}</b> <i>(a slider, in JupyterLab)</i></p>"
        return shown_with(box, fallback, repr(self))


def guess(question: str, low: float, high: float, unit: str = "") -> Guess:
    """A question to answer before measuring: a slider from `low` to `high`, in even factors."""
    return Guess(question, low, high, unit)


class Explorer:
    """Sliders and boxes above a picture; each move calls the function and shows what it returns."""

    def __init__(self, picture: Callable[..., Any], choices: dict[str, Sequence[Any]]):
        self._picture = picture
        self._sliders = {name: _control(name, values) for name, values in choices.items()}
        self._shown = w.HTML(self._now()._repr_html_())
        for slider in self._sliders.values():
            slider.observe(self._update, "value")

    def _now(self) -> Any:
        return self._picture(**{name: slider.value for name, slider in self._sliders.items()})

    def _update(self, _: Any = None) -> None:
        self._shown.layout.opacity = "0.4"  # measuring: the old picture fades, nothing jumps
        try:
            self._shown.value = self._now()._repr_html_()
        finally:
            self._shown.layout.opacity = "1"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        box = w.VBox([*self._sliders.values(), self._shown])
        text = f"A panel to set {', '.join(n.replace('_', ' ') for n in self._sliders)}."
        fallback = f"{self._shown.value}<p><i>In JupyterLab: {text[0].lower()}{text[1:]}</i></p>"
        return shown_with(box, fallback, text)


def _control(name: str, values: Sequence[Any]) -> w.SelectionSlider | w.Checkbox:
    """A slider over the values; a box to tick if they are True and False."""
    label = name.replace("_", " ")
    if {type(v) for v in values} == {bool}:
        return w.Checkbox(value=values[0], description=label, indent=False)
    return w.SelectionSlider(
        options=[(f"{v:,}" if isinstance(v, int) else str(v), v) for v in values],
        value=values[len(values) // 2],
        description=label,
        continuous_update=False,
        style={"description_width": "7em"},
        layout=w.Layout(width="30em"),
    )


def explore(picture: Callable[..., Any], **choices: Sequence[Any]) -> Explorer:
    """A panel: a slider or a box per keyword, over the picture that the function makes of them.

    Parameters
    ----------
    picture
        Called with one value per keyword; returns a thing with an HTML view. Without the panel,
        call it yourself: the picture is the same.
    choices
        The values of each slider; it starts at the middle one. True and False make a box to
        tick, which starts as the first of them.
    """
    if not choices or not all(len(values) > 1 for values in choices.values()):
        raise BadValue("a panel needs at least one keyword, and each keyword at least two values.")
    return Explorer(picture, choices)
