"""The sentence that a measurement allows, chosen from sentences that were written by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from kit.core.checks import is_number, is_whole
from kit.core.errors import BadValue
from kit.core.statistics import Estimate, average, paired_difference
from kit.core.units import words
from kit.measurement.comparison import Comparison, decide
from kit.plots import Note

CASES = {"slower": "above", "faster": "below", "same": "same", "cannot tell": "unclear"}
NO_VERB = re.compile(r"[^.:{}]+: \{\}[^.:]*\.")  # "All three: {}." is a name and a value
SAYS_UNCLEAR = re.compile(r"(?i)\b(un)?clear\b|\b(differ|difference|tell|uncertain|unknown)\b")
Difference = Callable[[str, str], Estimate | None]


def conclude(
    measured: float | Estimate | Comparison | Mapping[str, Any],
    *,
    above: str = "",
    below: str = "",
    unclear: str = "",
    same: str = "",
    at: float = 1,
    of: str | None = None,
    most: str = "",
    least: str = "",
    tied: str = "",
    difference: Difference | None = None,
) -> Note:
    """The sentence that is true of what was measured: on each machine its own.

    Write each sentence so that it is good and true where it is shown. To show several conclusions
    as one paragraph, add them: `kit.conclude(…) + kit.conclude(…)`.

    Parameters
    ----------
    measured
        - a number that was counted, compared exactly;
        - an `Estimate`: its whole interval has to lie above or below `at`;
        - the result of `kit.compare`: its last call against the first, by the rule of its table;
        - a dictionary, name -> number or estimate: needs `most` or `least`, and `tied`. A name
          whose interval is unknown gets no place; a second sentence says so;
        - a dictionary, name -> samples (N,), or scores (trainings, examples), where those with the
          same index belong together: the same example, the same round. Then the differences
          within each pair decide, which are known far better than each value. For scores from
          0 to 1 they have the interval of `paired_difference`, for other numbers Student's.
    above, below, unclear
        The sentence for each case. `{}` is replaced by the value with its unit and interval, and
        with the noise floor of a comparison that only the noise floor leaves unclear. A number that
        equals `at` is unclear. A sentence without a verb ("All three: {}.") gets a second one in
        that case, with the reason. A dictionary needs no `unclear`: there it replaces the kit's
        sentence for the case that fewer than two intervals are known.
    same
        The sentence if the value is surely within 5 % of `at`, or equal to it. Without it, that
        case is unclear too.
    at
        What the value is compared with: 1 for a ratio, 0 for a difference.
    of
        The name of another call of `kit.compare` than the last.
    most, least
        The sentence about the largest or the smallest. `{}` is replaced by its name.
    tied
        The sentence if others may be as large, or as small. `{}` is replaced by all their names.
    difference
        With a dictionary of estimates that were measured together. A function of two names: the
        first − the second, or None if they have no difference of their own. Where it is known, it
        decides, and not whether the two intervals overlap.

    Raises
    ------
    BadValue
        A sentence is missing, even if this machine would not show it.

    Examples
    --------
    >>> sentences = dict(above="A step takes longer: {}.", below="A step takes less time: {}.",
    ...                  unclear="We cannot tell: {}.")
    >>> conclude(Estimate(3.1, 2.9, 3.3, "×"), **sentences)
    A step takes longer: 3.10 × [2.90 to 3.30 ×].
    >>> conclude(Estimate(1.1, 0.8, 1.4, "×"), **sentences)
    We cannot tell: 1.10 × [0.800 to 1.40 ×].
    >>> shares = {"forward": Estimate(0.2, 0.1, 0.3), "backward": Estimate(0.5, 0.4, 0.6)}
    >>> conclude(shares, most="Here {} takes longest.", tied="Here {} share the first place.")
    Here backward takes longest.
    >>> pairs = {"plain": [0.1, 0.5, 0.9, 0.3], "tuned": [0.2, 0.7, 1.2, 0.4]}  # in four rounds
    >>> conclude(pairs, most="“{}” is best.", tied="We cannot tell which of {} is best.")
    “tuned” is best.
    """
    if isinstance(measured, Mapping):
        _check_full_stops({"most or least": most or least, "tied": tied})
        first, left_out = _first(measured, bool(most), difference)
        if not first or (left_out and len(measured) - len(left_out) < 2):
            return Note((unclear or _too_little(measured, left_out)).replace("{}", _and(measured)))
        sentence = (most or least) if len(first) == 1 else tied
        return Note(sentence.replace("{}", _and(first)) + _without_place(left_out))
    _check_full_stops({"above": above, "below": below, "unclear": unclear})
    if isinstance(measured, Comparison):
        value, floor = measured.ratio(of), measured.noise_floor
        case = CASES[decide(value / at, floor)]
    else:
        value, floor = _estimate(measured), 0.0
        case = _case(value, at)
    case = "unclear" if case == "same" and not same else case
    sentence = {"above": above, "below": below, "same": same, "unclear": unclear}[case]
    shown = words(measured) if is_number(measured) else repr(value)
    if floor and case == "unclear" and not value.low <= at <= value.high:
        # Without this, a reader sees an interval that leaves no doubt, and a sentence that does.
        shown = f"{shown.removesuffix(']')}; noise floor {words(floor, '%')}]"
    text = sentence.replace("{}", f"{measured:,}" if is_whole(measured) else shown)
    if case == "unclear" and not is_number(measured) and NO_VERB.fullmatch(sentence.strip()):
        text += "" if SAYS_UNCLEAR.search(sentence) else f" {_reason(value, at)}"
    return Note(text)


def _case(value: Estimate, at: float) -> str:
    """Where the whole interval lies."""
    if value.low > at:
        return "above"
    if value.high < at:
        return "below"
    # 5 % of nothing is nothing: only a number that was counted is the same as 0.
    exactly = value.low == value.high == at
    return "same" if exactly or (at > 0 and decide(value / at, 0) == "same") else "unclear"


def _reason(value: Estimate, at: float) -> str:
    """Why it is unclear on which side of `at` a value lies."""
    if not value.known:
        return "The interval is unknown, so we cannot tell."
    if value.low <= at <= value.high:
        return f"The interval contains {words(at, value.unit)}, so we cannot tell."
    return "We cannot tell."


# --- The first of several ------------------------------------------------------------------------


def _first(
    given: Mapping[str, Any], largest: bool, difference: Difference | None
) -> tuple[list[str], list[str]]:
    """The names that may be the largest (or the smallest), and those that have no place."""
    if not given:
        raise BadValue("kit.conclude: given an empty dictionary; needs at least one name.")
    if any(map(_is_sample, given.values())):
        difference = _within_pairs(given)
        values = {name: Estimate(math.nan, -math.inf, math.inf) for name in given}
    else:
        values = {name: _estimate(each) for name, each in given.items()}
    gaps = {(a, b): difference(a, b) for a, b in permutations(values, 2)} if difference else {}
    known = {pair: gap for pair, gap in gaps.items() if gap and gap.known}
    paired = {name for pair in known for name in pair}
    # An unknown interval excludes no other, and no other excludes it: it says nothing here.
    left_out = [n for n, each in values.items() if not each.known and n not in paired]
    rest = [n for n in values if n not in left_out]

    def surely_ahead(a: str, b: str) -> bool:
        gap = known.get((a, b)) or _apart(values[a], values[b])
        return gap.low > 0 if largest else gap.high < 0

    return [n for n in rest if not any(surely_ahead(o, n) for o in rest if o != n)], left_out


def _apart(a: Estimate, b: Estimate) -> Estimate:
    """A − b from their own intervals: surely above 0 if these do not overlap."""
    return Estimate(a.value - b.value, a.low - b.high, a.high - b.low)


def _is_sample(given: Any) -> bool:
    """Whether these are several values of one name: a list, an array, a tensor."""
    several = isinstance(given, Sequence) or hasattr(given, "__array__")
    return several and not isinstance(given, str) and not is_number(given)


def _within_pairs(samples: Mapping[str, Any]) -> Difference:
    """The difference of two names, from samples where the same index belongs together."""
    if not all(map(_is_sample, samples.values())):
        raise BadValue("kit.conclude: given samples of some names; needs samples of all names.")
    arrays = {name: np.asarray(each, dtype=float) for name, each in samples.items()}
    shapes = {each.shape for each in arrays.values()}
    if len(shapes) > 1 or any(each.ndim not in (1, 2) or not each.size for each in arrays.values()):
        needs = "samples of one shape, (N,) or (trainings, examples), in the same order"
        raise BadValue(f"kit.conclude: given samples {sorted(shapes)}; needs {needs}.")
    scores = all(((each >= 0) & (each <= 1)).all() for each in arrays.values())

    def difference(a: str, b: str) -> Estimate:
        if scores:
            return paired_difference(arrays[a], arrays[b])
        gain = (arrays[a] - arrays[b]).reshape(len(arrays[a]), -1).mean(axis=1)
        return average(float(gain.sum()), float(np.square(gain).sum()), len(gain))

    return difference


def _and(names: Iterable[str]) -> str:
    """The names as text.

    >>> _and(["a"]), _and(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _too_little(names: Iterable[str], left_out: Sequence[str]) -> str:
    """The sentence for fewer than two values with a known interval."""
    known = [name for name in names if name not in left_out]
    if known:
        return f"Only the interval of {known[0]} is known, so we cannot tell."
    return f"We cannot tell: the intervals of {_and(left_out)} are unknown."


def _without_place(names: Sequence[str]) -> str:
    """The sentence about those that have no place."""
    if not names:
        return ""
    many = "their intervals are" if len(names) > 1 else "its interval is"
    return f" This leaves out {_and(names)}: {many} unknown."


# --- What was given ------------------------------------------------------------------------------


def _estimate(value: float | Estimate) -> Estimate:
    """The estimate; for a number that was counted, one whose interval has no width."""
    if isinstance(value, Estimate) or is_number(value):
        return Estimate.of(value)
    needs = "a number, an Estimate (such as .ratio()), the result of kit.compare, or a dictionary"
    raise BadValue(f"kit.conclude: given a {type(value).__name__}; needs {needs}.")


def _check_full_stops(sentences: dict[str, str]) -> None:
    for name, sentence in sentences.items():
        if not sentence.rstrip().endswith((".", "!", "?", "”", '"')):
            needs = "a sentence for each case, with its full stop"
            raise BadValue(f"kit.conclude: {name}={sentence!r}; needs {needs}.")
