"""Data + model + loss + score + target, by one name: a thing one can train and use.

To add a workload: a function that returns a `Workload` in the file of its kind, and its name in
`SHELF`; the tests of this room then train it to its target.
"""

from collections.abc import Callable

from kit.errors import UnknownName
from kit.workloads.images import vision
from kit.workloads.scoring import is_right
from kit.workloads.workload import Workload

SHELF: dict[str, Callable[[], Workload]] = {
    "vision": vision,
}


def get(name: str) -> Workload:
    """The workload of that name, as a notebook's parameter gives it."""
    if name not in SHELF:
        raise UnknownName("workload", name, SHELF)
    return SHELF[name]()


__all__ = ["SHELF", "Workload", "get", "is_right", "vision"]
