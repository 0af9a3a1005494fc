"""The sentence that a measurement allows, chosen from sentences that were written by hand."""

from __future__ import annotations

from collections.abc import Mapping

from kit.core.checks import is_number, is_whole
from kit.core.errors import BadValue
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.measurement.comparison import Comparison, decide
from kit.plots import Note

CASES = {"slower": "above", "faster": "below", "same": "same", "cannot tell": "unclear"}


def conclude(
    measured: float | Estimate | Comparison | Mapping[str, float | Estimate],
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
        - a dictionary, name -> number or estimate: needs `most` or `least`, and `tied`.
    above, below, unclear
        The sentence for each case. `{}` is replaced by the value with its unit and interval, and
        with the noise floor of a comparison that only the noise floor leaves unclear. A number that
        equals `at` is unclear.
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
        The sentence if other intervals overlap with that one's. `{}` is replaced by all names.

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
    """
    if isinstance(measured, Mapping):
        _check_full_stops({"most or least": most or least, "tied": tied})
        *others, last = _first({n: _estimate(each) for n, each in measured.items()}, bool(most))
        if others:
            return Note(tied.replace("{}", f"{', '.join(others)} and {last}"))
        return Note((most or least).replace("{}", last))
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
    return Note(sentence.replace("{}", f"{measured:,}" if is_whole(measured) else shown))


def _case(value: Estimate, at: float) -> str:
    """Where the whole interval lies."""
    if value.low > at:
        return "above"
    if value.high < at:
        return "below"
    # 5 % of nothing is nothing: only a number that was counted is the same as 0.
    exactly = value.low == value.high == at
    return "same" if exactly or (at > 0 and decide(value / at, 0) == "same") else "unclear"


def _first(measured: dict[str, Estimate], largest: bool) -> list[str]:
    """The names of all that may be the largest (or the smallest): their intervals reach as far."""
    if not measured:
        raise BadValue("kit.conclude: given an empty dictionary; needs at least one name.")
    # An unknown interval reaches everywhere, so it excludes no other, and no other excludes it.
    if largest:
        surely = max(each.low for each in measured.values())
        return [name for name, each in measured.items() if each.high >= surely]
    surely = min(each.high for each in measured.values())
    return [name for name, each in measured.items() if each.low <= surely]


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
