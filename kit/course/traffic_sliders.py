"""The sliders of the traffic panel: their values, with units, and what `kit.serve` calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.core.units import words
from kit.devices import cores_allowed

if TYPE_CHECKING:
    from kit.serving import Server

RATES = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80]  # and ten and a hundred times as many
QUEUE_BOUND, NO_BOUND = "queue bound", "none"
# Setting -> its label, and the values of its slider; the one at the start is added.
SETTINGS: dict[str, tuple[str, list[Any]]] = {
    "rate": ("arrival rate", [rate * 10**k for k in range(3) for rate in RATES]),
    "max_batch": ("largest batch", [1, 2, 4, 8, 16, 32, 64]),
    "max_wait_s": ("longest wait", [0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05]),
    "max_waiting": (QUEUE_BOUND, [8, 16, 32, 64, 128, 256, "auto", NO_BOUND]),
    "workers": ("replicas", list(range(1, 1 + min(4, int(cores_allowed()))))),
}


def control(name: str, values: list[Any]) -> dict[str, Any]:
    """A slider as the page needs it."""
    texts = [_text(name, value) for value in values]
    return {"name": name, "label": SETTINGS[name][0], "texts": texts, "at_once": name == "rate"}


def in_words(changes: dict[str, Any]) -> str:
    """Changed settings in a few words: "largest batch: 8 requests"."""
    return ", ".join(f"{SETTINGS[name][0]}: {_text(name, v)}" for name, v in changes.items())


def server_settings(server: Server) -> dict[str, Any]:
    """The values of the server's sliders."""
    now = server.settings
    bound = now.max_waiting if QUEUE_BOUND in now.protect else NO_BOUND
    settings = {
        "max_batch": now.max_batch,
        "max_wait_s": now.max_wait_s,
        "max_waiting": bound,
    }
    # The number of processes is fixed when a server starts.
    return {**settings, "workers": now.workers} if hasattr(server, "restart") else settings


def serve_options(changes: dict[str, Any], protect: tuple[str, ...]) -> dict[str, Any]:
    """The sliders' values as `kit.serve` takes them: the queue's bound can be switched off."""
    options = dict(changes)
    if "max_waiting" in options:
        others = tuple(name for name in protect if name != QUEUE_BOUND)
        bounded = options["max_waiting"] != NO_BOUND
        options["protect"] = (QUEUE_BOUND, *others) if bounded else others
        if not bounded:
            del options["max_waiting"]
    if "max_wait_s" in options:  # else the slider would change nothing at a low rate
        options["wait_if_idle"] = True
    return options


def values_with(name: str, value: Any) -> list[Any]:
    """The values of a slider, with this one in its place; words stand at the end."""
    values = SETTINGS[name][1]
    numbers = {v for v in [*values, value] if not isinstance(v, str)}
    return [*sorted(numbers), *(v for v in values if isinstance(v, str))]


def _text(name: str, value: Any) -> str:
    """A value of a slider with its unit."""
    if isinstance(value, str):
        return value
    if name == "max_wait_s":
        return words(value, "s") if value else "0 ms"
    unit = {"rate": "requests/s", "workers": "process" if value == 1 else "processes"}
    default = "request" if value == 1 else "requests"
    return f"{value:,} {unit.get(name, default)}"
