"""The traffic panel of lesson 11: turn the arrival rate up until a server breaks.

live_traffic   makes the panel: sliders for the rate and the server's settings, and three charts
LiveTraffic    the panel; `run` and `turn_up` do without a page what a reader does on it
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import traitlets

from kit.core.checks import check_positive, check_whole
from kit.core.errors import BadValue, KitError, UnknownName
from kit.course.live_load import MOST_OPEN, NEEDED, TIMEOUT_S, LiveLoad, target_of
from kit.course.live_run import LiveRun, Moment
from kit.course.panels import CoursePanel, is_recording, shown_with
from kit.course.traffic_sliders import (
    control,
    in_words,
    serve_options,
    server_settings,
    values_with,
)
from kit.loadgen.http_requests import Target, address

if TYPE_CHECKING:
    from kit.serving import Server

PURPOSE = "A panel to turn the arrival rate up until a server breaks"
PATIENCE_S = 10.0  # without a word from the page, which reports every two seconds
STEP_S = 0.5  # at each rate, if nobody moves the slider
ENDING_S = 0.2  # a run may need this from its last message to its end
COUNTED = (
    f"Answers count when they come, arrivals when they are due. After {TIMEOUT_S:g} s without an "
    f"answer, or with {MOST_OPEN:,} requests open, a request counts as failed. p99 has no value "
    f"until there are {NEEDED} answers."
)
READY = "Press Start, then turn the arrival rate up."
RUNNING = "Traffic is running. Move the sliders at any time."
CLIENT = "The client, and not the server, is the limit: it sends late. Lower the arrival rate."


class LiveTraffic(CoursePanel):
    """Sliders, a button and three charts; `.last` is the last `LiveRun`, or None."""

    controls: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)  # the index of each slider's value
    hint = traitlets.Unicode().tag(sync=True)
    target_s = traitlets.Float().tag(sync=True)
    seconds = traitlets.Float().tag(sync=True)  # after which a run ends by itself
    running = traitlets.Bool(False).tag(sync=True)
    status = traitlets.Unicode(READY).tag(sync=True)
    failed = traitlets.Bool(False).tag(sync=True)  # whether the status is an error
    points: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)  # of the last run

    def __init__(
        self,
        server: Server | str,
        inputs: Any,
        start: dict[str, Any],
        token: str | None,
        seed: int,
        **options: Any,
    ):
        self.server = None if isinstance(server, str) else server
        self.url, self.token = server if isinstance(server, str) else server.url, token
        self.inputs, self.seed = inputs, seed
        self.values = {name: values_with(name, value) for name, value in start.items()}
        self.last: LiveRun | None = None
        self.stopping = threading.Event()
        self._running = threading.Lock()  # held during a run
        self._moments: list[Moment] = []
        self._seen_s = 0.0  # when the page was heard of last; infinite: there is no page
        self._plan: Callable[[Moment], bool] = lambda moment: True
        controls = [control(name, values) for name, values in self.values.items()]
        chosen = [self.values[name].index(value) for name, value in start.items()]
        super().__init__(controls=controls, chosen=chosen, **options)
        self.on_msg(self._receive)

    # What is set.

    @property
    def settings(self) -> dict[str, Any]:
        """Name -> value, as the sliders stand."""
        pairs = zip(self.values.items(), self.chosen, strict=True)
        return {name: values[index] for (name, values), index in pairs}

    def set(self, **settings: Any) -> None:
        """Move sliders.

        Raises
        ------
        UnknownName, BadValue
            No slider has that name, or that value.
        """
        chosen = list(self.chosen)
        for name, value in settings.items():
            if name not in self.values:
                raise UnknownName("setting", name, self.values)
            if value not in self.values[name]:
                raise BadValue(f"{name}={value!r}: needs one of {self.values[name]}.")
            chosen[list(self.values).index(name)] = self.values[name].index(value)
        self.chosen = chosen

    # What a run asks (`live_load.Control`).

    @property
    def rate(self) -> float:
        """Requests per second, as the slider stands."""
        return float(self.settings["rate"])

    def go_on(self, moment: Moment) -> bool:
        """Show the moment; whether the run goes on after it."""
        self._moments.append(moment)
        self.status = RUNNING if moment.note or moment.good is not None else CLIENT
        self.send({"point": asdict(moment)})
        if time.monotonic() - self._seen_s > PATIENCE_S:
            self.stopping.set()
        in_time = moment.at_s < self.seconds and not self.stopping.is_set()
        return in_time and self._plan(moment)

    def stale(self) -> bool:
        """Whether the server has other settings than the sliders show."""
        return bool(self._changes())

    def ready(self) -> tuple[Target, str]:
        """Where to send requests. The server gets the sliders' settings first."""
        changes, note = self._changes(), ""
        if changes and self.server:
            note, replicas = in_words(changes), "workers" in changes
            self.status = f"{'Restarting' if replicas else 'Changing'} the server: {note} …"
            options = serve_options(changes, self.server.settings.protect)
            getattr(self.server, "restart" if replicas else "change")(**options)
        self.status = RUNNING
        token = self.server.settings.token if self.server else self.token
        url = self.server.url if self.server else self.url
        return target_of(url, self.inputs, token, self.seed), note

    def _changes(self) -> dict[str, Any]:
        """The settings in which the sliders differ from the server."""
        wanted, now = self.settings, server_settings(self.server) if self.server else {}
        return {name: wanted[name] for name, value in now.items() if wanted[name] != value}

    # A run, from a page or without one.

    def run(self, seconds: float | None = None, **settings: Any) -> LiveRun:
        """What the Start button does, until the seconds are over.

        Parameters
        ----------
        seconds
            At most; None: the panel's.
        settings
            Sliders to move first: `rate`, `max_batch`, `max_wait_s`, `max_waiting`, `workers`.

        Raises
        ------
        BadValue
            Another run is going on; a slider does not have this value.
        """
        end_s = self.seconds if seconds is None else check_positive("seconds", seconds)
        self.set(**settings)
        self._claim()
        return self._go(lambda moment: moment.at_s < end_s)

    def turn_up(self, step_s: float | None = None) -> LiveRun:
        """Raise the rate, a second each, until the server breaks; then go back to the first."""
        step_s = check_positive("step_s", step_s) if step_s is not None else STEP_S
        self._claim()
        first = self.settings["rate"]
        higher = iter([rate for rate in self.values["rate"] if rate > first][2::3])
        due_s, back = step_s, False

        def plan(moment: Moment) -> bool:
            nonlocal due_s, back
            if moment.at_s < due_s or moment.note:
                return True
            if back:
                return False
            rate = None if moment.broken or moment.good is None else next(higher, None)
            back = rate is None
            due_s = moment.at_s + (3 * step_s if back else step_s)
            self.set(rate=rate or first)
            return True

        return self._go(plan)

    def _receive(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        """Handle the page's messages. Start does nothing during a run."""
        self._seen_s = time.monotonic()
        if content["do"] == "stop":
            self.stopping.set()
        elif content["do"] == "start" and self._running.acquire(timeout=ENDING_S):
            self.stopping.clear()
            # In a thread, so that the kernel stays free for the sliders and for other cells.
            threading.Thread(target=self._try, name="kit.live_traffic", daemon=True).start()

    def _claim(self) -> None:
        """Reserve the panel for a run without a page."""
        if not self._running.acquire(blocking=False):
            raise BadValue("traffic is running already: wait until it ends, or press Stop.")
        self.stopping.clear()
        self._seen_s = float("inf")

    def _try(self) -> None:
        with suppress(Exception):  # the panel shows the error
            self._go(lambda moment: True)

    def _go(self, plan: Callable[[Moment], bool]) -> LiveRun:
        """Run, and report how it ended, with or without an error."""
        self._plan, self._moments, error, self.failed = plan, [], "", False
        try:
            self.running = True
            LiveLoad(self, self.target_s, self.seed).run()
        except BaseException as raised:
            kind = "" if isinstance(raised, KitError) else f"{type(raised).__name__}: "
            error = f"✎ Ended: {kind}{raised}"
            raise
        finally:
            self.last = LiveRun(tuple(self._moments), self.target_s)
            self.points = [asdict(moment) for moment in self._moments]
            self.failed, self.status = bool(error), error or repr(self.last)
            self.running = False
            self._running.release()
        return self.last

    def __repr__(self) -> str:
        return f"{PURPOSE}. {repr(self.last) if self.last else 'Nothing was sent yet.'}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        fallback = f"<p>{html.escape(PURPOSE)} <i>(in JupyterLab)</i>.</p>"
        if self.last and self.last.moments:
            fallback += self.last.plot()._repr_html_()
        return shown_with(self, fallback, repr(self))


def live_traffic(
    server: Server | str,
    inputs: Any = None,
    *,
    target_s: float = 0.05,
    rate: int = 100,
    seconds: float = 60.0,
    token: str | None = None,
    seed: int = 0,
) -> LiveTraffic:
    """A panel to send traffic to a server and turn it up until the server breaks.

    Parameters
    ----------
    server
        From `kit.serve`, or an address: the settings of a server that is not the kit's have no
        sliders.
    inputs
        What to send; None: what the server says that its model takes. See `kit.traffic`.
    target_s
        The latency within which an answer is good.
    rate
        Requests per second at the start.
    seconds
        After these, the traffic ends by itself. It also ends ten seconds after the page was closed,
        and with the kernel.
    token
        For a server at an address that asks for one.
    seed
        Of the arrivals.

    Raises
    ------
    BadValue
        A number or the address is wrong.

    Explained in lesson 11.
    """
    start: dict[str, Any] = {"rate": check_whole("rate", rate, 1, 10_000)}
    check_positive("target_s", target_s)
    check_positive("seconds", seconds)
    if isinstance(server, str):
        address(server)
        others = "The server keeps its settings."
    else:
        start.update(server_settings(server))
        others = "The other settings change the running server: requests that wait get 503."
        if "workers" in start:
            others += " Replicas restart it."
    hint = f"The arrival rate changes at once. {others} {COUNTED}"
    options = {"target_s": float(target_s), "seconds": float(seconds), "hint": hint}
    panel = LiveTraffic(server, inputs, start, token, seed, **options)
    if is_recording():  # nobody presses Start: readers of the stored page see what would happen
        panel.turn_up()
    return panel
