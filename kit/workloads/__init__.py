"""Data + model + loss + score + target, by one name: a thing one can train and use.

from_data    your own data and model as a workload, in one call
get          one of the eight below by name, or "mine.py:shapes" from a file of your own

To add a workload to the kit: a function that returns a `Workload` in a file named after it, and its
name in `SHELF`; the tests of this room then train it to its target.
"""

from collections.abc import Callable

from kit.core.errors import UnknownName
from kit.workloads.control import control, drive
from kit.workloads.custom import from_data
from kit.workloads.forecast import forecast
from kit.workloads.fraud import alarm_precision, fraud
from kit.workloads.language import language
from kit.workloads.recommendation import recommendation
from kit.workloads.scores import is_right
from kit.workloads.speech import speech
from kit.workloads.translation import translation
from kit.workloads.user_files import from_file
from kit.workloads.vision import vision
from kit.workloads.workload import Workload

SHELF: dict[str, Callable[[], Workload]] = {
    "vision": vision,
    "language": language,
    "translation": translation,
    "speech": speech,
    "recommendation": recommendation,
    "forecast": forecast,
    "fraud": fraud,
    "control": control,
}


def get(name: str) -> Workload:
    """The workload of that name, as a notebook's parameter gives it; or FILE.py:NAME of your own.

    A file of your own is a program: this runs it.
    """
    if ".py" in name:
        return from_file(name)
    if name not in SHELF:
        raise UnknownName("workload", name, SHELF)
    return SHELF[name]()


__all__ = [
    "SHELF",
    "Workload",
    "alarm_precision",
    "control",
    "drive",
    "forecast",
    "fraud",
    "from_data",
    "get",
    "is_right",
    "language",
    "recommendation",
    "speech",
    "translation",
    "vision",
]
