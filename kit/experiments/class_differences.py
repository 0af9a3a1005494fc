"""What explains why laptops measured different values: facts that go together with a difference.

Each fact divides the laptops in two groups: half with more cores and half with fewer, those with
one processor and the others. A difference counts if its interval, widened for the number of facts
that are tried, excludes "no difference". It shows what goes together, not what is the cause.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kit.core.statistics import CONFIDENCE, Estimate
from kit.core.units import SHARES, words

LEAST_IN_GROUP = 2  # laptops: one alone may differ for any reason
NORMAL_95 = 1.959964
# Fact -> what people call it, and its unit.
FACTS = {
    "processor": ("processor", ""),
    "accelerator": ("accelerator", ""),
    "system": ("system", ""),
    "cores": ("cores", ""),
    "cores_allowed": ("cores allowed", ""),
    "memory_bytes": ("memory", "B"),
    "copy_bytes_per_s": ("memory rate of one thread", "B/s"),
    "pytorch": ("PyTorch", ""),
    "threads": ("threads", ""),
    "clock_hz": ("clock", "Hz"),
    "load": ("load before", ""),
    "busy_elsewhere_cores": ("cores used by other programs", ""),
    "on_battery": ("power", ""),
}
POWER = {0: "at the mains", 1: "on battery"}
Fact = float | int | str | None


@dataclass(frozen=True)
class Difference:
    """Two groups of laptops that differ in a fact, and how far apart their values are."""

    facts: tuple[str, ...]  # in words; several divide the laptops in the same way
    one: str  # what the first group has in common
    other: str
    n: tuple[int, int]
    value: Estimate  # of the first group ÷ that of the other; of shares, the difference

    @property
    def carried(self) -> bool:
        """Whether the interval excludes "no difference"."""
        even = 0.0 if self.value.unit == "points" else 1.0
        return not self.value.low <= even <= self.value.high

    @property
    def groups(self) -> str:
        """Which laptops are compared, and how many they are."""
        sign = "−" if self.value.unit == "points" else "÷"
        return f"{self.one} ({self.n[0]}) {sign} {self.other} ({self.n[1]})"

    @property
    def size(self) -> float:
        """How large it is, for sorting."""
        value = self.value.value
        return abs(value) if self.value.unit == "points" else abs(math.log(value))


def differences(
    values: Sequence[Estimate], facts: Sequence[Mapping[str, Fact]]
) -> list[Difference]:
    """The differences between groups of laptops, the largest first; see `Difference.carried`.

    Parameters
    ----------
    values
        One for each laptop, all in one unit.
    facts
        What is known of each laptop: a key of `FACTS` -> a number, a name, or None.

    Notes
    -----
    The interval is Welch's for the means of the logarithms (of shares, for the means), with
    Bonferroni's confidence for all the comparisons together. Laptops of a group differ at least by
    what their own intervals allow.

    >>> values = [Estimate(v, v / 1.02, v * 1.02, "×") for v in (1.0, 1.05, 3.0, 3.1)]
    >>> [first] = differences(values, [{"threads": n} for n in (1, 1, 8, 8)])
    >>> first.facts, first.groups, first.carried, round(first.value.value, 1)
    (('threads',), '8 (2) ÷ 1 (2)', True, 3.0)
    """
    linear = bool(values) and values[0].unit in SHARES
    usable = [i for i, v in enumerate(values) if math.isfinite(v.value) and (linear or v.value > 0)]
    values, facts = [values[i] for i in usable], [facts[i] for i in usable]
    pairs: dict[tuple[bool, ...], list[tuple[str, str, str]]] = {}  # who is in the first group
    for name in FACTS:
        for one, other, first in _splits(name, facts):
            sides, key = ((one, other), first) if first[0] else ((other, one), _not(first))
            pairs.setdefault(tuple(key), []).append((FACTS[name][0], *sides))
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    found = []
    for who, named in pairs.items():
        groups = [[v for v, is_in in zip(values, who, strict=True) if is_in == side]
                  for side in (True, False)]  # fmt: skip
        labels, (_, one, other) = tuple(label for label, *_ in named), named[0]
        value = _apart(groups[0], groups[1], linear, confidence)
        sizes = (len(groups[0]), len(groups[1]))
        found.append(_larger_first(Difference(labels, one, other, sizes, value)))
    return sorted(found, key=lambda each: each.size, reverse=True)


def _not(first: Sequence[bool]) -> list[bool]:
    return [not each for each in first]


def _larger_first(found: Difference) -> Difference:
    """The same difference, with the group that has the larger values first."""
    v = found.value
    if v.value >= (0 if v.unit == "points" else 1):
        return found
    turned = Estimate(-v.value, -v.high, -v.low, v.unit)
    if v.unit != "points":
        turned = Estimate(1 / v.value, 1 / v.high, 1 / v.low, v.unit)
    return Difference(found.facts, found.other, found.one, (found.n[1], found.n[0]), turned)


def _splits(
    name: str, facts: Sequence[Mapping[str, Fact]]
) -> Iterator[tuple[str, str, list[bool]]]:
    """The ways to divide laptops by a fact: the two groups in words, and who is in the first."""
    given = [each.get(name) for each in facts]
    known = sorted({v for v in given if v is not None}, key=lambda v: (str(type(v)), v))
    if len(known) < 2 or None in given:
        return
    if any(isinstance(value, str) for value in known):
        names = known if len(known) > 2 else known[:1]
        for each in names:
            rest = "the others" if len(known) > 2 else str(known[1]) or "none"
            yield from _if_large(str(each) or "none", rest, [v == each for v in given])
        return
    numbers = [float(v) for v in given if v is not None]
    middle = statistics.median(numbers)
    limit = min((v for v in numbers if v > middle), default=middle)
    high = [v >= limit for v in numbers]
    if all(high):
        high = [v > min(numbers) for v in numbers]
    with_more = [v for v, is_in in zip(numbers, high, strict=True) if is_in]
    with_less = [v for v, is_in in zip(numbers, high, strict=True) if not is_in]
    yield from _if_large(_range(name, with_more), _range(name, with_less), high)


def _if_large(one: str, other: str, first: list[bool]) -> Iterator[tuple[str, str, list[bool]]]:
    if min(sum(first), len(first) - sum(first)) >= LEAST_IN_GROUP:
        yield one, other, first


def _range(name: str, values: Sequence[float]) -> str:
    """What the laptops of a group have, in words: "8", or "2 to 4"."""
    low, high = min(values), max(values)
    if name == "on_battery":
        return POWER[int(low)]
    unit = FACTS[name][1]
    shown = [words(v, unit) if unit else f"{v:.3g}" for v in (low, high)]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"


def _apart(
    one: Sequence[Estimate], other: Sequence[Estimate], linear: bool, confidence: float
) -> Estimate:
    """How far two groups are apart, with Welch's interval."""
    from scipy.special import stdtrit

    means, errors, freedoms = [], [], []
    for group in (one, other):
        scale = (lambda v: v) if linear else math.log
        numbers = [scale(each.value) for each in group]
        own = statistics.fmean(_variance(each, linear) for each in group)
        error = max(statistics.variance(numbers), own) / len(numbers)
        means.append(statistics.fmean(numbers))
        errors.append(error)
        freedoms.append(error**2 / (len(numbers) - 1))
    variance, between = sum(errors), means[0] - means[1]
    freedom = variance**2 / sum(freedoms) if sum(freedoms) else 1e6
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)
    if linear:
        return Estimate(between, between - half, between + half, "points")
    low, value, high = (math.exp(min(v, 700.0)) for v in (between - half, between, between + half))
    return Estimate(value, low, high, "×")


def _variance(each: Estimate, linear: bool) -> float:
    """The variance of one laptop's value, from its interval; 0 if the interval is unknown."""
    if not each.known or not (math.isfinite(each.low) and math.isfinite(each.high)):
        return 0.0
    if not linear and each.low <= 0:
        return 0.0
    width = each.high - each.low if linear else math.log(each.high / each.low)
    return (width / (2 * NORMAL_95)) ** 2
