"""Workloads: data + model + loss + score + target under one name, ready to train and to use.

from_data    your own data and model as a workload, in one call
get          one of the eight below by name, or "mine.py:shapes" from a file of your own

To add a workload: a file with a function of the same name that returns a `Workload`, and one line
below. The line registers it, and the tests of this room train it to its target.
"""

from collections.abc import Callable

from kit.core.errors import UnknownName

# isort: off
# One line per workload: a function in the file that has its name.
from kit.workloads.vision import vision as vision
from kit.workloads.language import language as language
from kit.workloads.translation import translation as translation
from kit.workloads.speech import speech as speech
from kit.workloads.recommendation import recommendation as recommendation
from kit.workloads.forecast import forecast as forecast
from kit.workloads.fraud import alarm_precision as alarm_precision, fraud as fraud
from kit.workloads.control import control as control, drive as drive

# The same pole with answers that come late.
from kit.workloads.late_control import Delays as Delays, LatePoles as LatePoles
from kit.workloads.late_control import average_return as average_return
from kit.workloads.late_control import drive_late as drive_late, tilts as tilts

# What makes a workload of your own.
from kit.workloads.custom import from_data as from_data
from kit.workloads.user_files import from_file as from_file
from kit.workloads.workload import Workload as Workload, is_right as is_right
# isort: on

# Name -> what makes the workload, collected from the lines above.
WORKLOADS: dict[str, Callable[[], Workload]] = {
    name: make
    for name, make in list(globals().items())
    if getattr(make, "__module__", "") == f"{__name__}.{name}"
}


def get(name: str) -> Workload:
    """The workload of that name, or "FILE.py:NAME" from a file of your own.

    A file of your own is a program: this runs it.
    """
    if ".py" in name:
        return from_file(name)
    if name not in WORKLOADS:
        raise UnknownName("workload", name, WORKLOADS)
    return WORKLOADS[name]()
