"""Panels with controls: a guess with a slider, and a picture that follows its sliders.

With a live kernel, a panel is a widget; elsewhere it is plain HTML. Its output holds both, so the
web page of an executed notebook shows the HTML.
"""

from __future__ import annotations

import html
import inspect
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets
from ipywidgets import DOMWidget

from kit.core.checks import is_whole
from kit.core.errors import BadValue
from kit.core.results import RECORDING
from kit.core.statistics import Estimate
from kit.core.units import digits, words
from kit.plots import Note, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

YOURS, FOR_READERS = "your guess", "a plausible guess"  # whose guess a panel holds
# Called with each guess that a reader makes, and with the measurement that answers it: a class
# that measures together hears of both (see `kit.course.joining`). Each returns a sentence, or "".
LISTENERS: list[Callable[[Any, Any], str]] = []


def tell(guess: Any, measured: Any = None) -> str:
    """Tell all listeners of a guess, or of what answers it; what they have to say."""
    return " ".join(filter(None, (heard(guess, measured) for heard in LISTENERS)))


def is_recording() -> bool:
    """Whether outputs are being stored: nobody guesses, so panels make plausible guesses."""
    return bool(os.environ.get(RECORDING))


def shown_with(widget: DOMWidget, fallback: str, text: str) -> dict[str, Any]:
    """The output of a widget, with HTML to show when no kernel is running."""
    bundle = DOMWidget._repr_mimebundle_(widget) or {}
    view = {k: v for k, v in bundle.items() if k.startswith("application/vnd.jupyter.widget")}
    return {**view, "text/html": fallback, "text/plain": text}


class CoursePanel(anywidget.AnyWidget):
    """A widget whose code and style stand beside its Python file, after what all panels share."""

    def __init_subclass__(cls, **options: Any) -> None:
        if CoursePanel in cls.__bases__:  # not the classes that traitlets derives for each panel
            own = pathlib.Path(inspect.getfile(cls))
            for trait, suffix in (("_esm", ".js"), ("_css", ".css")):
                files = own.with_name(f"panel_base{suffix}"), own.with_suffix(suffix)
                setattr(cls, trait, "".join(file.read_text(encoding="utf-8") for file in files))
        super().__init_subclass__(**options)


class Sliders(CoursePanel):
    """A question, then the browser's own sliders and checkboxes, then a picture."""

    question = traitlets.Unicode().tag(sync=True)
    # Each has a label, the texts of its values, and whether it is a checkbox or a list.
    controls: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)  # the index of each control's value
    picture = traitlets.Unicode().tag(sync=True)  # HTML
    busy = traitlets.Bool(False).tag(sync=True)  # True while the picture is being drawn


class Guess:
    """A question with a slider; `.value` is None until you move it."""

    def __init__(
        self,
        question: str,
        low: float,
        high: float,
        unit: str = "",
        plausible: float | None = None,
    ):
        if not 0 < low < high:
            raise BadValue(f"the guess goes from {low!r} to {high!r}: needs 0 < low < high.")
        if plausible is not None and not low <= plausible <= high:
            raise BadValue(f"plausible={plausible!r}: needs a value from {low!r} to {high!r}.")
        self.question, self.unit, self.whose = question, unit, YOURS
        ratio = (high / low) ** (1 / 60)
        # Equal factors between values give no hint; nor does the start of the slider.
        self.values = [None, *(low * ratio**i for i in range(61))]
        place = 0
        if plausible is not None and is_recording():
            # The number itself, at the nearest place of the slider.
            self.whose, place = FOR_READERS, 1 + round(math.log(plausible / low, ratio))
            self.values[place] = plausible
        texts = ["no guess yet", *(words(value, unit) for value in self.values[1:])]
        controls = [{"label": "your guess", "texts": texts, "box": False}]
        self.panel = Sliders(question=question, controls=controls, chosen=[place])
        self.panel.observe(lambda _: tell(self), "chosen")

    @property
    def value(self) -> float | None:
        """The value of the slider; None until you move it."""
        return self.values[self.panel.chosen[0]]

    def __repr__(self) -> str:
        sentence = "no guess yet" if self.value is None else words(self.value, self.unit)
        return f"{self.question} {self.whose.capitalize()}: {sentence}."

    def beside(self, measured: float | Estimate, called: str = "measured") -> Note:
        """One or two sentences: the guess, the measured value, and how far apart they are.

        A guess within the interval of an estimate may be right. Shares differ by points, other
        values by a factor. If the interval is unknown, the distance is that of this run only.

        Parameters
        ----------
        measured
            A count, or an estimate with its interval; `kit.statistics.at_most` and `at_least` make
            one of which a single end is known.
        called
            Where the value is from, such as "in theory".
        """
        found = Estimate.of(measured).with_unit(self.unit)
        shown = words(found.value, self.unit) if found.low == found.high else repr(found)
        sentence, more = f"{called}: {shown}.", tell(self, found)
        if self.value is None:
            return Note(f"No guess was made; {sentence} {more}".rstrip())
        sentence = f"{self.whose.capitalize()}: {words(self.value, self.unit)}; {sentence}"
        said = f"{sentence} {_distance(self.value, found)}".rstrip()
        return Note(f"{said} {more}".rstrip())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"{self.whose}: {words(self.value, self.unit)}; " if self.value else ""
        text = html.escape(f"({text}a slider, in JupyterLab)")
        fallback = f"<p><b>{html.escape(self.question)}</b> <i>{text}</i></p>"
        return shown_with(self.panel, fallback, repr(self))


def _distance(guess: float, found: Estimate) -> str:
    """How far a guess is from what was found, and what that says."""
    if found.low < found.high and found.known and found.low <= guess <= found.high:
        one_sided = math.isinf(found.low) or math.isinf(found.high)
        return (
            "This run does not rule out the guess."
            if one_sided
            else "The guess lies within the interval."
        )
    # Of a bound, the nearest value that is possible counts: the guess is off by at least that.
    bound = found.value == found.low < found.high or found.value == found.high > found.low
    if found.unit == "%":
        off = words(abs(guess - found.value), "points")
    elif found.value > 0:
        off = f"a factor of {digits(max(guess / found.value, found.value / guess))}"
    else:
        return ""
    if found.low < found.high and not found.known:
        return f"In this run the guess is off by {off}. Another run may give another value."
    return f"Off by {'at least ' if bound and found.known else ''}{off}."


def guess(
    question: str, low: float, high: float, unit: str = "", plausible: float | None = None
) -> Guess:
    """A question to answer before measuring: a slider from `low` to `high` on a log scale.

    `plausible` is what a sensible newcomer would guess. A recorded lesson shows it beside the
    result; a reader's own slider begins without a guess.
    """
    return Guess(question, low, high, unit, plausible)


class Explorer:
    """Controls above a picture; each move calls the function and shows what it returns."""

    def __init__(
        self,
        picture: Callable[..., Any],
        choices: dict[str, Sequence[Any]],
        begin: Sequence[int] = (),
    ):
        self._picture, self.choices = picture, choices
        self._before: Picture | None = None
        middle = [0 if _is_box(v) else len(v) // 2 for v in choices.values()]
        self.panel = Sliders(
            controls=[_control(name, values) for name, values in choices.items()],
            chosen=list(begin) or middle,
        )
        self.panel.picture = self._now()._repr_html_()
        self.panel.observe(self._update, "chosen")

    @property
    def chosen(self) -> dict[str, Any]:
        """The value of each control."""
        pairs = zip(self.choices.items(), self.panel.chosen, strict=True)
        return {name: values[index] for (name, values), index in pairs}

    def _now(self) -> Any:
        picture = self._picture(**self.chosen)
        if isinstance(picture, Picture):
            keep_axes(picture, self._before)
            self._before = picture
        return picture

    def _update(self, _: Any = None) -> None:
        self.panel.busy = True
        try:
            self.panel.picture = self._now()._repr_html_()
        finally:
            self.panel.busy = False

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"A panel to set {', '.join(name.replace('_', ' ') for name in self.choices)}."
        fallback = f"{self.panel.picture}<p><i>In JupyterLab: {text[0].lower()}{text[1:]}</i></p>"
        return shown_with(self.panel, fallback, text)


LEAST_FILLED = 0.05  # of an axis; below it, a picture would be too small to read


def keep_axes(picture: Picture, before: Picture | None) -> None:
    """Let what both pictures draw at the same numbers stay in place: the axes only widen.

    Without this, each picture of a panel has axes of its own, and a fixed point or level moves
    instead of what changes. If nothing is the same in both, or the picture would fill less than a
    twentieth of an axis, it keeps its own axes.
    """
    panes, earlier = (each.figure.axes if each else [] for each in (picture, before))
    if len(panes) != len(earlier):
        return
    for pane, old in zip(panes, earlier, strict=True):
        if not _drawn(pane) & _drawn(old):
            continue
        for axis, was in ((pane.xaxis, old.xaxis), (pane.yaxis, old.yaxis)):
            if axis.get_scale() != was.get_scale():
                continue
            (low, high), (least, most) = (sorted(a.get_view_interval()) for a in (axis, was))
            ends = np.array([min(low, least), low, high, max(high, most)])
            at = axis.get_transform().transform(ends)  # on a logarithmic axis, their logarithms
            if at[2] - at[1] >= LEAST_FILLED * (at[3] - at[0]):
                (pane.set_xbound if axis is pane.xaxis else pane.set_ybound)(ends[0], ends[3])


def _drawn(pane: Axes) -> set[bytes]:
    """The numbers of each line, point and level of a picture."""
    return {np.asarray(line.get_xydata()).tobytes() for line in pane.lines}


def _is_box(values: Sequence[Any]) -> bool:
    return {type(value) for value in values} == {bool}


LONGEST = 24  # characters of a slider's value; longer ones are read and chosen in a list


def _control(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A slider over the values, a checkbox if they are True and False, a list if they are long."""
    texts = [f"{v:,}" if is_whole(v) else str(v) for v in values]
    long = max(map(len, texts)) > LONGEST
    return {"label": name.replace("_", " "), "texts": texts, "box": _is_box(values), "list": long}


def explore(picture: Callable[..., Any], **choices: Sequence[Any]) -> Explorer:
    """A panel with a slider or checkbox per keyword, above the picture that the function draws.

    Parameters
    ----------
    picture
        Called with one value per keyword; returns an object with an HTML view. Without the panel,
        call the function yourself: the picture is the same.
    choices
        The values of each slider, which starts at the middle one. True and False make a checkbox,
        which starts with the first of the two.
    """
    if not choices or not all(len(values) > 1 for values in choices.values()):
        needed = "at least one keyword, and each keyword at least two values"
        raise BadValue(f"a panel with the choices {choices}: needs {needed}.")
    return Explorer(picture, choices)
