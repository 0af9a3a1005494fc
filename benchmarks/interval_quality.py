"""Does what the kit shows as 95 % hold at least 90 times in 100? Simulated times, known truths.

    python benchmarks/interval_quality.py all              # every section, some minutes
    python benchmarks/interval_quality.py intervals        # one section; the others stay as kept
    python benchmarks/interval_quality.py table            # what was kept, as tables

A section is a function that returns rows: dicts with the same keys, of words, numbers and
estimates. `@section` puts it on the list. Shares of runs are `proportion(hits, runs)`.
"""

import json
import sys
from datetime import date

from keeping import RESULTS, keep

import kit

NAME = "interval_quality"
SECTIONS = {}  # name -> (what it asks, the function)


def section(asks):
    """Put a function on the list, with the question that its rows answer."""

    def listed(function):
        SECTIONS[function.__name__] = asks, function
        return function

    return listed


# --- intervals: coverage of everything that is shown with an interval ----------------------------


# --- verdicts: false alarms and power of `compare` -----------------------------------------------


# --- ladders: training ladders whose rungs differ in nothing but the seed ------------------------


# --- queues: M/D/1, whose mean wait is known -----------------------------------------------------


def read_back():
    """Section -> what was kept of it."""
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text(encoding="utf-8"))["sections"] if path.exists() else {}


def plain(value):
    """An estimate as its dict."""
    return value.to_dict() if isinstance(value, kit.Estimate) else value


def told(value):
    """A figure in words."""
    if isinstance(value, dict):
        return repr(kit.Estimate(**value))
    return kit.units.words(value) if isinstance(value, float) else str(value)


def markdown(sections):
    """A table for each section."""
    lines = []
    for kept in sections.values():
        heads = list(kept["rows"][0])
        lines += [f"**{kept['asks']}** ({kept['date']})", ""]
        lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
        lines += [f"| {' | '.join(told(row[head]) for head in heads)} |" for row in kept["rows"]]
        lines += [""]
    return "\n".join(lines)


def main(names):
    """Run these sections, and keep them beside those that were kept before."""
    sections = read_back()
    for name in names:
        asks, rows_of = SECTIONS[name]
        rows = [{key: plain(value) for key, value in row.items()} for row in rows_of()]
        sections[name] = {"asks": asks, "date": date.today().isoformat(), "rows": rows}
        print(markdown({name: sections[name]}))
    keep(NAME, sections={name: sections[name] for name in SECTIONS if name in sections})


if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked == ["table"]:
        print(markdown(read_back()))
    elif asked and set(asked) <= {"all", *SECTIONS}:
        main(list(SECTIONS) if "all" in asked else asked)
    else:
        sys.exit(f"usage: python {sys.argv[0]} table|all|{'|'.join(SECTIONS)}…")
