"""The pole panel: a pole on a cart at its real pace; add delay until it falls.

balance        makes the panel: sliders for the model, the delay and the jitter, and the moving pole
pole_picture   the same without a page: the tilt over time, for several delays
PolePanel      the panel; `play` does without a page what Start does
"""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor, nn

from kit.core.checks import check_positive
from kit.core.errors import BadValue
from kit.core.units import words
from kit.course.panels import CoursePanel, is_recording, shown_with
from kit.data.cart_pole import MAX_POSITION_M, MAX_TILT_RAD, PERIOD_S
from kit.devices import threads_here
from kit.inference import predict
from kit.plots import Picture, lines
from kit.workloads import Delays, LatePoles, tilts
from kit.workloads.late_control import STEP_S

Predict = Callable[[Tensor], Tensor]
PURPOSE = "A panel to balance a pole with answers that come late"
DELAYS_S = tuple(round(0.01 * i, 2) for i in range(13))  # 0 to 120 ms, ten milliseconds each
JITTERS_S = tuple(round(0.01 * i, 2) for i in range(7))
READY = "Press Start, then add delay until the pole falls."
PAUSE_S = 1.0  # after a fall, before the next pole stands
TIMED = 20  # calls that show how long a model takes by itself


class PolePanel(CoursePanel):
    """Sliders, a button and the moving pole; `.falls_s` has how long each pole stood."""

    controls: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)  # the index of each slider's value
    running = traitlets.Bool(False).tag(sync=True)
    status = traitlets.Unicode(READY).tag(sync=True)
    track_m = traitlets.Float(MAX_POSITION_M).tag(sync=True)
    limit_rad = traitlets.Float(MAX_TILT_RAD).tag(sync=True)
    state = traitlets.List(traitlets.Float(), [0.0, 0.0]).tag(sync=True)  # position, tilt: at rest

    def __init__(self, models: Mapping[str, Predict], seconds: float, seed: int):
        self.models, self.seconds, self.seed = dict(models), seconds, seed
        self.own_s = {name: _own_time(model) for name, model in self.models.items()}
        self.falls_s: list[float] = []
        self.stopping = threading.Event()
        texts = ([*self.models], [*map(_ms, DELAYS_S)], [*map(_ms, JITTERS_S)])
        labels = ("model", "delay", "jitter: earlier or later by")
        controls = [
            {"label": label, "texts": text} for label, text in zip(labels, texts, strict=True)
        ]
        super().__init__(controls=controls, chosen=[0, 0, 0])
        self.on_msg(self._receive)

    @property
    def name(self) -> str:
        """The model that steers, as the slider stands."""
        return [*self.models][self.chosen[0]]

    @property
    def delays(self) -> Delays:
        """The delay and the jitter, as the sliders stand; the jitter is at most the delay."""
        mean_s = DELAYS_S[self.chosen[1]]
        return Delays(mean_s, min(mean_s, JITTERS_S[self.chosen[2]]))

    def set(self, model: str | None = None, delay_s: float = 0.0, jitter_s: float = 0.0) -> None:
        """Move the sliders.

        Raises
        ------
        BadValue
            A slider does not have this value.
        """
        values: list[tuple[Sequence[Any], Any]] = [
            ([*self.models], self.name if model is None else model),
            (DELAYS_S, delay_s),
            (JITTERS_S, jitter_s),
        ]
        for known, value in values:
            if value not in known:
                raise BadValue(f"{value!r}: the slider has {', '.join(map(str, known))}.")
        self.chosen = [known.index(value) for known, value in values]

    def play(self, seconds: float | None = None, *, paced: bool = False) -> float:
        """What Start does: balance poles for so long; returns how long the first one stood.

        Parameters
        ----------
        seconds
            Of the poles' own time; None: the panel's.
        paced
            Whether 20 ms of the poles' time take 20 ms. Without a page nobody watches.
        """
        self.stopping.clear()
        return self._play(self.seconds if seconds is None else seconds, paced)

    def _play(self, seconds: float, paced: bool) -> float:
        self.falls_s, periods = [], round(seconds / PERIOD_S)
        self.running, done = True, 0
        try:
            while done < periods and not self.stopping.is_set():
                stood = self._one_pole(periods - done, paced)
                done += stood + 1
        finally:
            self.running = False
        return self.falls_s[0]

    def balance_one(self, seconds: float) -> float:
        """Balance one pole, for so long at most; the seconds for which it stood."""
        self.stopping.clear()
        return PERIOD_S * self._one_pole(round(seconds / PERIOD_S), paced=False)

    def _one_pole(self, most: int, paced: bool) -> int:
        """Balance one pole until it falls or the time is over; the periods for which it stood."""
        pole, due_s = LatePoles(1, self.seed + len(self.falls_s)), time.perf_counter()
        stood, standing = 0, True
        while standing and stood < most and not self.stopping.is_set():
            # The sliders are read in each period: a delay that is added acts at once.
            standing = bool(pole.period(self.models[self.name], self._all_delays())[0])
            stood += standing
            position, _, tilt, _ = pole.states[0].tolist()
            self._show(position, tilt, stood * PERIOD_S)
            due_s += PERIOD_S
            if paced:
                self.stopping.wait(max(0.0, due_s - time.perf_counter()))
        self.falls_s.append(stood * PERIOD_S)
        ended = "fell after" if not standing else "stood for"
        again = " The next one starts in a second." if paced and not standing else ""
        self.status = f"The pole {ended} {stood * PERIOD_S:.1f} s.{again}"
        if paced and not standing:
            self.stopping.wait(PAUSE_S)
        return stood

    def _all_delays(self) -> Delays:
        """The delay that was set, and the model's own time in whole steps of the physics."""
        asked, own_s = self.delays, self.own_s[self.name]
        return Delays(asked.mean_s + STEP_S * round(own_s / STEP_S), asked.jitter_s)

    def _words(self) -> str:
        own = words(self.own_s[self.name], "s")
        return f"The policy “{self.name}” itself takes {own}; delay {self.delays!r}."

    def _show(self, position_m: float, tilt_rad: float, stood_s: float) -> None:
        self.send({"pole": [position_m, tilt_rad], "stood_s": stood_s, "words": self._words()})

    def _receive(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        """Handle the page's messages. Start does nothing while a pole is balanced."""
        if content["do"] == "stop":
            self.stopping.set()
        elif content["do"] == "start" and not self.running:
            self.running = True
            self.stopping.clear()
            # In a thread, so that the kernel stays free for the sliders and for other cells.
            threading.Thread(target=self._try, name="kit.balance", daemon=True).start()

    def _try(self) -> None:
        threads_here()  # else the policy would compute with every core
        try:
            self._play(self.seconds, paced=True)
        except Exception as error:
            self.status = f"✎ Ended: {type(error).__name__}: {error}"

    def __repr__(self) -> str:
        return f"{PURPOSE}. {self.status}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        picture = pole_picture(self.models[self.name])
        fallback = f"<p>{html.escape(PURPOSE)} <i>(in JupyterLab)</i>.</p>{picture._repr_html_()}"
        return shown_with(self, fallback, repr(self))


def pole_picture(
    model: Predict | nn.Module,
    delays: Sequence[Delays | float] = (0.0, 0.04, 0.08),
    *,
    seconds: float = 4.0,
    seed: int = 0,
) -> Picture:
    """The tilt of the same pole over time, a line for each delay, until it falls.

    Raises
    ------
    BadValue
        No delay was given, or it cannot be simulated.
    """
    if not delays:
        raise BadValue("no delays: needs at least one, such as 0.04 for 40 ms.")
    answer, periods = _callable(model), round(check_positive("seconds", seconds) / PERIOD_S)
    series, said = {}, []
    for delay in delays:
        how = delay if isinstance(delay, Delays) else Delays(delay)
        found = tilts(answer, how, periods=periods, seed=seed)
        times = [PERIOD_S * (i + 1) for i in range(len(found))]
        series[repr(how)] = (times, found.tolist())
        fell = len(found) < periods
        said.append(f"{how!r}: {'falls after' if fell else 'stands for'} {times[-1]:.2f} s")
    caption = f"The same start each time. {'; '.join(said)}. Limit: 12° to either side."
    limit = math.degrees(MAX_TILT_RAD)
    picture = lines(
        series,
        "time (s)",
        "tilt of the pole (degrees)",
        caption=caption,
        marks=False,
        level=("it has fallen", limit),
    )
    picture.figure.axes[0].axhline(-limit, color="black", linestyle="--", linewidth=1)
    return picture


def balance(
    models: Mapping[str, Predict | nn.Module] | Predict | nn.Module,
    *,
    seconds: float = 30.0,
    seed: int = 0,
) -> PolePanel:
    """A panel in which models balance a pole at its real pace, with a delay that you set.

    Parameters
    ----------
    models
        Name -> a policy: a model, or a function from scaled states (B, 4) to logits (B, 2). One
        policy alone is called "policy".
    seconds
        After these, a run ends by itself.
    seed
        Of the poles' starts and of the jitter.

    Raises
    ------
    BadValue
        No model was given, or something else is among them.

    Explained in lesson 12.
    """
    several = models if isinstance(models, Mapping) else {"policy": models}
    if not several or not all(
        isinstance(each, nn.Module) or callable(each) for each in several.values()
    ):
        raise BadValue(f"models={models!r}: needs at least one policy, such as work.model().")
    check_positive("seconds", seconds)
    panel = PolePanel({name: _callable(each) for name, each in several.items()}, seconds, seed)
    if is_recording():  # nobody presses Start: readers of the stored page see what would happen
        panel.set(delay_s=DELAYS_S[-1])
        panel.balance_one(2.0)
    return panel


def _callable(model: Predict | nn.Module) -> Predict:
    return (lambda states: predict(model, states)) if isinstance(model, nn.Module) else model


def _own_time(model: Predict) -> float:
    """Median seconds that one answer takes here, after a warm-up."""
    state, times = torch.zeros(1, 4), []
    for _ in range(TIMED):
        began = time.perf_counter()
        model(state)
        times.append(time.perf_counter() - began)
    return sorted(times[TIMED // 2 :])[TIMED // 4]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
