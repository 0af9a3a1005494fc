"""Labels that come late: an alarm from the errors of a stream, and series that people marked.

adwin_alarms     the moments at which the mean of a stream has changed, by River's ADWIN
marked_series    a real series, and where five people say that it changes
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np

from kit.core.checks import check_share, check_whole
from kit.core.errors import BadValue, NotInstalled, UnknownName

SERIES = ("AirlinePassengers", "Bitcoin", "Occupancy", "RunLog", "UKCoalEmploy")


def adwin_alarms(values: Iterable[float], *, delay: int = 0, delta: float = 0.002) -> list[int]:
    """The moments at which ADWIN notices that the mean of a stream has changed.

    ADWIN saves a window of the latest values. If two parts of it differ by more than chance
    allows, it drops the older part and reports a change. So its window grows while nothing
    happens, and you do not have to choose its size.

    Parameters
    ----------
    values
        The stream in its order: 1 for a wrong answer and 0 for a right one, or any numbers.
    delay
        By how many examples a label comes later than the answer: each alarm is that much later.
    delta
        The probability of a false alarm at each check, 0 to 1.

    Returns
    -------
    list of int
        The number of the example, from 0, that had just been answered at each alarm.

    Raises
    ------
    NotInstalled
        The extra `drift` is missing: it brings River.

    Notes
    -----
    Bifet & Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007. The code
    is River's; by default it checks after each 32 values.

    Explained in the lesson about drift.

    Explained in lesson 13.
    """
    _check_river("kit.monitoring.adwin_alarms")
    check_whole("delay", delay, low=0)
    check_share("delta", delta, "a probability", strict=True)
    stream = np.asarray(list(values), dtype=float)
    if stream.ndim != 1 or not np.isfinite(stream).all():
        raise BadValue(f"given values of shape {stream.shape}; needs finite numbers in a row.")
    from river.drift import ADWIN

    detector, alarms = ADWIN(delta=delta), []
    for i, value in enumerate(stream):
        detector.update(float(value))
        if detector.drift_detected:
            alarms.append(i + delay)
    return alarms


def marked_series(name: str = "Occupancy") -> tuple[np.ndarray, dict[str, list[int]]]:
    """A real series (T,), and for each of five people the moments at which it changes.

    Parameters
    ----------
    name
        "AirlinePassengers", "Bitcoin", "Occupancy", "RunLog" or "UKCoalEmploy". Of several
        quantities, the series is the first.

    Raises
    ------
    NotInstalled
        The extra `drift` is missing: the series come with River.
    UnknownName
        No series has that name.

    Notes
    -----
    The Turing Change Point Dataset: van den Burg & Williams, "An Evaluation of Change Point
    Detection Algorithms", 2020.
    """
    _check_river("kit.monitoring.marked_series")
    if name not in SERIES:
        raise UnknownName("series", name, SERIES)
    from river.drift import datasets

    series = getattr(datasets, name)()
    quantities = [y if isinstance(y, dict) else {"": y} for _, y in series]
    values = np.array([float(next(iter(each.values()))) for each in quantities])
    people = enumerate(series.annotations.values(), start=1)
    return values, {f"person {i}": list(marks) for i, marks in people}


def _check_river(what: str) -> None:
    if find_spec("river") is None:
        raise NotInstalled(what, ["river"], "drift")
