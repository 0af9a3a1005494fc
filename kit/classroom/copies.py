"""Hints that two students share more than chance gives. A hint is a reason to ask, not a proof.

Two people rarely find the same unusual wrong answer, and no two computers measure the same times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

MANY = 0.1  # a wrong answer of more than this share of the class is a common mistake
SAME_TIMES = 3  # measured times, with all their digits


def shared(
    found: Mapping[str, Iterable[str]], n_students: int, least: int = 1
) -> dict[str, list[str]]:
    """Student -> the others with whom at least `least` digests are shared.

    Parameters
    ----------
    found
        Student -> digests, of wrong answers or of measured times.
    n_students
        Of the class: what more than a tenth of it has is common, and no hint.

    >>> shared({"a": ["x"], "b": ["x", "y"], "c": ["y", "z"]}, 3)
    {'a': ['b'], 'b': ['a', 'c'], 'c': ['b']}
    """
    owners = defaultdict(set)
    for student, digests in found.items():
        for digest in set(digests) - {""}:
            owners[digest].add(student)
    pairs: dict[tuple[str, str], int] = defaultdict(int)
    for students in owners.values():
        if 1 < len(students) <= max(2, MANY * n_students):
            for one in students:
                for other in students - {one}:
                    pairs[one, other] += 1
    partners: dict[str, list[str]] = defaultdict(list)
    for (one, other), n in sorted(pairs.items()):
        if n >= least:
            partners[one].append(other)
    return dict(partners)
