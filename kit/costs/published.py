"""What others have published about training and inference: figures with class, date and source.

The figures stand in `published.toml`, whose first lines say what each class means. Rates of
accelerators stand in `kit/devices/published_limits.toml`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kit.core.checks import is_number
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN, digits, words
from kit.devices.published_limits import published as published_limits
from kit.plots import Table

CLASSES = ("measured", "tdp-hours", "estimate", "count", "datasheet", "price", "derived")
ENERGY = ("measured", "tdp-hours", "estimate", "derived")  # the classes that an energy can have
ENERGY_UNITS = ("Wh", "J", "J/token")
PREFIXED = (
    *("FLOP", "FLOP/s", "FLOP/J", "B", "B/s", "B/token", "W", "Wh", "J", "J/token"),
    *("%", "×", "s"),
)
COUNTED = ("parameters", "tokens", "tokens/s", "requests", "prompts", "answers", "answers/s")
HEADER = ("", "figure", "value", "class", "date", "source", "includes")


@dataclass(frozen=True)
class Figure:
    """One published number: what it is, of which class, from when, and where it stands."""

    value: float
    unit: str
    kind: str  # one of CLASSES
    date: str
    source: str  # title, place in it, and how it was read if the document itself was not opened
    includes: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def estimate(self) -> Estimate:
        """The value with its range; without one, a range of width zero."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return Estimate(self.value, low, high, self.unit)

    def __str__(self) -> str:
        return ranged(self.estimate)

    def cells(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Value, class, date, number of its source, what it includes: the cells of a row."""
        number = f"[{sources.index(self.source) + 1}]"
        return (str(self), self.kind, self.date, number, self.includes or UNKNOWN)

    def to_dict(self) -> dict[str, Any]:
        """The raw number, with its class, date and source."""
        range_ = {} if self.low is None else {"low": self.low, "high": self.high}
        return {
            **{"value": self.value, "unit": self.unit, **range_, "class": self.kind},
            **{"date": self.date, "source": self.source, "includes": self.includes},
        }


@dataclass(frozen=True)
class Published(Result):
    """Published figures of one thing: a model, an accelerator, a service, a claim."""

    name: str
    kind: str  # model, accelerator, service, throughput, share, misquoted, derived
    what: str
    figures: dict[str, Figure]
    accelerator: str = ""  # on which a model was trained or served
    model: str = ""  # that a measured throughput is of

    def __getitem__(self, figure: str) -> Figure:
        if figure not in self.figures:
            raise UnknownName(f"published figure of {self.name}", figure, self.figures)
        return self.figures[figure]

    def __contains__(self, figure: str) -> bool:
        return figure in self.figures

    def value(self, figure: str) -> float:
        """The number alone."""
        return self[figure].value

    def only(self, *names: str) -> Published:
        """The same entry with these figures alone."""
        return replace(self, figures={name: self[name] for name in names})

    @property
    def computing_params(self) -> float:
        """Parameters that compute a token: in a mixture of experts, fewer than all."""
        return self.value("active_params" if "active_params" in self else "params")

    def __repr__(self) -> str:
        parts = ", ".join(f"{name.replace('_', ' ')} {f}" for name, f in self.figures.items())
        return f"{self.what}: {parts}"

    def table(self) -> Table:
        """A row per figure, with class, date, source and what it includes."""
        if self.kind == "derived":  # what it is, in words; the formulas are for those who ask
            rows = [(f.includes, str(f), f.date) for f in self.figures.values()]
            formulas = " ".join(f"{name}: {f.source}." for name, f in self.figures.items())
            header = ("", "value", "newest input")
            return Table(header, rows, f"{self.what[0].upper()}{self.what[1:]}.", formulas)
        return figures_table([self], self.what)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers, each with its class, date and source."""
        figures = {name: figure.to_dict() for name, figure in self.figures.items()}
        return {"name": self.name, "of": self.kind, "what": self.what, "figures": figures}


def published(name: str) -> Published:
    """What has been published about a model, an accelerator or a service.

    Parameters
    ----------
    name
        Such as "llama-3.1-8b", "NVIDIA H100 SXM" or "gemini-prompt"; "derived" for our arithmetic.

    Raises
    ------
    UnknownName
        Nothing is listed under that name; similar ones are shown.

    Examples
    --------
    >>> card = published("llama-3.1-8b")
    >>> print(card["hours"], card["hours"].kind, card["hours"].date)
    1,460,000 h count 2024-07

    Explained in lesson 14.
    """
    entries = all_published()
    if name not in entries:
        raise UnknownName("model, accelerator or service with published figures", name, entries)
    return entries[name]


def of_kind(kind: str) -> list[Published]:
    """All that is listed of one kind: model, accelerator, service, throughput, share …"""
    found = [each for each in all_published().values() if each.kind == kind]
    if not found:
        kinds = dict.fromkeys(each.kind for each in all_published().values())
        raise UnknownName("kind of published figures", kind, kinds)
    return found


@cache
def all_published() -> dict[str, Published]:
    """Everything in `published.toml`, by name."""
    import tomllib  # only those who ask for published figures wait for it

    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return read(tomllib.loads(text))


def read(contents: Mapping[str, Any]) -> dict[str, Published]:
    """The entries of such a file. Refuses a figure without class, date, source or unit."""
    sources, found = contents["sources"], {}
    for name, entry in contents["entries"].items():
        listed = {each: _figure(f"{name}/{each}", f, sources) for each, f in _own(name, entry)}
        on, of = entry.get("accelerator", ""), entry.get("model", "")
        found[name] = Published(name, entry["kind"], entry["what"], listed, on, of)
    ours = {
        name: Figure(f["value"], f["unit"], "derived", _newest(f["formula"], found), f["formula"],
                     f["what"])
        for name, f in contents.get("derived", {}).items()
    }  # fmt: skip
    found["derived"] = Published("derived", "derived", "our arithmetic on these figures", ours)
    return found


def figures_table(entries: list[Published], caption: str = "") -> Table:
    """One row per figure of several entries; the sources stand below, by their numbers."""
    sources = list(dict.fromkeys(f.source for each in entries for f in each.figures.values()))
    rows = [
        (entry.what if i == 0 else "", name.replace("_", " "), *figure.cells(sources))
        for entry in entries
        for i, (name, figure) in enumerate(entry.figures.items())
    ]
    listed = " ".join(f"[{i}] {source}." for i, source in enumerate(sources, 1))
    return Table(HEADER, rows, caption, f"Sources: {listed}")


def amount(value: float | None, unit: str) -> str:
    """A number with its unit: prefixes where the unit takes them, else plain digits.

    >>> amount(1.287e9, "Wh"), amount(5.576e6, "USD"), amount(15e12, "tokens")
    ('1.29 GWh', '5,576,000 USD', '15 T tokens')
    >>> amount(7e9, "USD"), amount(2.67e-6, "USD")
    ('7.00 billion USD', '0.00000267 USD')
    """
    if value is None or value != value:
        return UNKNOWN
    if unit in COUNTED:
        short = words(value).replace(".00", "").replace(".0 ", " ")
        return f"{short} {unit}"
    if unit in PREFIXED and not (unit == "Wh" and 0.01 <= value < 1):  # 0.3 Wh beside 3 Wh
        return words(value, unit)
    if unit.isupper() and len(unit) == 3 and value >= 1e7:  # a currency
        of, scale = (1e9, "billion") if value >= 1e9 else (1e6, "million")
        return f"{digits(value / of)} {scale} {unit}"
    number = f"{value:,.0f}" if float(value).is_integer() else digits(value)
    if "e-" in number and value > 1e-9:  # of a small sum of money, all zeros
        number = f"{value:.{2 - math.floor(math.log10(value))}f}"
    return f"{number} {unit}".strip()


def ranged(value: Estimate, unit: str = "") -> str:
    """A value with its range, in its unit or another one; without a range, the value alone.

    >>> ranged(Estimate(2.95, 1.99, 5.0, "USD/h")), ranged(Estimate(12.0, 12.0, 12.0, "days"))
    ('2.95 USD/h [1.99 to 5 USD/h]', '12 days')
    """
    unit = unit or value.unit
    text = amount(value.value, unit)
    if value.low == value.high or value.value != value.value:
        return text
    low, high = amount(value.low, unit), amount(value.high, unit)
    if value.high == math.inf:
        return f"{text} [{'unknown' if value.low <= 0 else f'at least {low}'}]"
    number, _, suffix = low.partition(" ")
    return f"{text} [{number if high.endswith(f' {suffix}') else low} to {high}]"


def _own(name: str, entry: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The figures of an entry; of an accelerator with published limits, those rates as well."""
    limits = published_limits().get(name)
    if entry["kind"] != "accelerator" or limits is None:
        return list(entry["figures"].items())
    half = "bfloat16" if "bfloat16" in limits.flops_per_s else "float16"
    rates = {
        "peak": (limits.flops_per_s[half], "FLOP/s", f"{half}, dense"),
        "bandwidth": (limits.bandwidth_bytes_per_s, "B/s", "of its memory"),
    }
    # Without a source of their own, they are of the same datasheet as the first figure.
    of = entry.get("rates") or next(iter(entry["figures"].values()))["source"]
    given = {
        each: {"value": v, "unit": unit, "class": "datasheet", "source": of, "includes": includes}
        for each, (v, unit, includes) in rates.items()
    }
    return [*given.items(), *entry["figures"].items()]


def _figure(where: str, given: Mapping[str, Any], sources: Mapping[str, Any]) -> Figure:
    kind, source = given.get("class", ""), sources.get(given.get("source", ""), {})
    date = given.get("date", source.get("date", ""))
    units = ENERGY if given.get("unit") in ENERGY_UNITS else CLASSES
    if kind not in units:
        raise BadValue(f"{where}: class={kind!r}: needs one of {', '.join(units)}.")
    if not source:
        raise BadValue(f"{where}: source={given.get('source')!r}: needs a key of [sources].")
    if not _is_date(date):
        raise BadValue(f"{where}: date={date!r}: needs a year, or a year and a month: 2024-07.")
    if not given.get("unit") or not is_number(given.get("value")):
        raise BadValue(f"{where}: needs a value, a number, and its unit.")
    place = f", {given['where']}" if "where" in given else ""
    hand = f", {source['read']}" if "read" in source else ""
    title = f"{source['title']} ({source['at']}{place}{hand})"
    low, high = given.get("low"), given.get("high")
    includes = given.get("includes", "")
    return Figure(given["value"], given["unit"], kind, date, title, includes, low, high)


def _is_date(text: str) -> bool:
    """Whether it is a year, or a year and a month."""
    try:
        datetime.date.fromisoformat(f"{text}-01-01"[:10])
    except (TypeError, ValueError):
        return False
    return True


def _newest(formula: str, found: Mapping[str, Published]) -> str:
    """The date of the newest figure that a formula uses."""
    return max(figure.date for figure in inputs_of(formula, found).values())


def inputs_of(formula: str, entries: Mapping[str, Published]) -> dict[str, Figure]:
    """The figures that a formula uses, by {entry/figure} as it names them."""
    import re

    names = re.findall(r"\{([^}/]+)/([^}]+)\}", formula)
    return {f"{{{entry}/{figure}}}": entries[entry][figure] for entry, figure in names}
