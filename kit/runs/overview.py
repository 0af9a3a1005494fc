"""The page of a folder of runs: what was asked, how it ended, the key numbers; then all of them.

A run with thirty columns cannot be read in a line. So what is the same in all runs is said once,
above; the key numbers follow, in words with their units; the rest opens below.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any

from kit.estimates import Estimate
from kit.figures import Table
from kit.runs.records import DONE, FAILED, RUN, UNREADABLE, Executed, scalars
from kit.units import UNKNOWN, words

# What to look at first, by the kind of record; of another kind, its first estimates.
KEYS = {
    "TwoBills": (
        "score_share",
        "training.seconds_s",
        "training.flops",
        "training.memory_bytes",
        "inference.one_example_s",
        "inference.memory_bytes",
        "ratio.step_time",
        "ratio.whole_run_time",
    ),
}
MOST = 8  # key numbers in a line
LONG = 30  # characters that want more room than a word
MACHINE = ("machine.cpu", "machine.accelerator", "machine.torch")  # told beside the parameters
UNKNOWN_SOURCE = "Files that cannot be read"
MARKS = {DONE: "●", FAILED: "▲", UNREADABLE: "✕"}
NUMBERS = (int, float)  # not bool, which Python counts among whole numbers
UNITS = {"s": "s", "seconds": "s", "bytes": "B", "flops": "FLOP", "share": "%", "joules": "J"}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 88em; margin: 2em auto; padding: 0 1.5em;
       color: #222; background: #fff }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere } h2 { margin-top: 2em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .35em .6em; border-bottom: 1px solid #ddd }
th { vertical-align: bottom; border-bottom: 2px solid #888 }
td small { display: block; color: #666 }
.number { text-align: right } td.number, td.words, td.status { white-space: nowrap }
td.long { min-width: 30em } td.error { color: #b84a00; min-width: 20em; max-width: 40em;
       overflow-wrap: anywhere }
.done { color: #007a59 } .failed { color: #b84a00 } .unreadable { color: #555 }
.side { overflow-x: auto } .wide { overflow: auto; max-height: 85vh }
.wide th { position: sticky; top: 0; background: #fff }
.wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: #fff;
       min-width: 8em }
.wide th:first-child { z-index: 1 }
.same { color: #444; max-width: 60em } summary { cursor: pointer; margin: .8em 0 }
"""


def counted(runs: Sequence[Executed]) -> str:
    """How many runs, and how they ended.

    >>> counted([Executed("a", "lesson.ipynb", "done"), Executed("b", "lesson.ipynb", "failed")])
    '2 runs of 1 notebook: 1 done, 1 failed.'
    """
    ends = Counter(run.status for run in runs)
    told = ", ".join(f"{ends[status]:,} {status}" for status in MARKS if ends[status])
    notebooks = {run.notebook for run in runs if run.notebook}
    return f"{_many(len(runs), 'run')} of {_many(len(notebooks), 'notebook')}: {told}."


def page(name: str, runs: Sequence[Executed], decided: Table) -> str:
    """The page as one text; it refers to the tables beside it, and asks for nothing else."""
    groups = "".join(_section(notebook, group) for notebook, group in _by_notebook(runs).items())
    spent = sum(run.seconds or 0 for run in runs)
    dates = sorted(run.date for run in runs if run.date)
    when = f" Begun from {dates[0]} to {dates[-1]} (UTC);" if dates else ""
    title = html.escape(f"The runs in {name}/")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        f"<p>{counted(runs)}{when} {words(spent, 's')} in all. The same as a table: "
        '<a href="runs.csv">runs.csv</a>, <a href="runs.parquet">runs.parquet</a>.</p>'
        f"{groups}<h2>The ledger</h2><div class=side>{decided._repr_html_()}</div></html>"
    )


def _by_notebook(runs: Iterable[Executed]) -> dict[str, list[Executed]]:
    """The runs of each notebook, those first that did not end well."""
    groups: dict[str, list[Executed]] = {}
    for run in sorted(runs, key=lambda run: run.status == DONE):
        groups.setdefault(run.notebook, []).append(run)
    return dict(sorted(groups.items(), key=lambda group: (not group[0], group[0])))


def _section(notebook: str, runs: list[Executed]) -> str:
    """One notebook's runs: what they share, the key columns of each, and below all columns."""
    rows = [run.row() for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    asked = [name for name in names if name.startswith("parameter.") or name in MACHINE]
    varied = [name for name in asked if len({repr(row.get(name)) for row in rows}) > 1]
    units = {f"parameter.{name}": unit for run in runs for name, unit in run.units.items()}
    told = " · ".join(
        f"{html.escape(_short(name))} <b>{_cell(rows[0], name, units)}</b>"
        for name in asked
        if name not in varied and rows[0].get(name) not in (None, "")
    )
    same = f"{'The same in all: ' if len(runs) > 1 and told else ''}{told}"
    measured = _measured([n for n in names if not n.startswith(("parameter.", "machine."))])
    keys = _table(rows, [*varied, "seconds"], _keys(runs, measured), units)
    rest = _table(rows, [*varied, "seconds", "date"], measured, units)
    title = html.escape(notebook.removesuffix(".ipynb") or UNKNOWN_SOURCE)
    told = f"<summary>All that was measured: {len(measured)} columns</summary>"
    more = f"<details>{told}{rest}</details>" if measured else ""
    return f"<h2>{title}</h2><p class=same>{same}</p>{keys}{more}"


def _measured(names: list[str]) -> list[str]:
    """The columns of the main record; the value, ends and unit of an estimate are one."""
    bases = {name.removesuffix(".low") for name in names if name.endswith(".low")}
    estimates = {base for base in bases if {f"{base}.value", f"{base}.high"} <= set(names)}
    pairs = ((name, name.rpartition(".")[0]) for name in names if name not in (*RUN, "kind"))
    return list(dict.fromkeys(base if base in estimates else name for name, base in pairs))


def _keys(runs: list[Executed], measured: list[str]) -> list[str]:
    """The columns to show first: those named for the kind of record, else its estimates."""
    named = [name for run in runs for name in KEYS.get(run.main.get("kind", ""), ())]
    found = {name for run in runs for name, _ in scalars(run.main)}
    estimates = [name for name in measured if name not in found]
    return ([name for name in dict.fromkeys(named) if name in measured] or estimates)[:MOST]


def _table(
    rows: list[dict[str, Any]], before: list[str], numbers: list[str], units: dict[str, str]
) -> str:
    """A line per run; where a run failed, its error takes the place of its numbers."""
    after = numbers or ["error"]
    kinds = {name: _kind(rows, name) for name in (*before, *after)}
    head = "".join(f"<th class={kinds[name]}>{_breakable(name)}</th>" for name in kinds)

    def cells(row: dict[str, Any], names: list[str]) -> str:
        return "".join(f"<td class={kinds[n]}>{_cell(row, n, units)}</td>" for n in names)

    def ended(row: dict[str, Any]) -> str:
        if row["status"] == DONE:
            return cells(row, after)
        return f"<td class=error colspan={len(after)}>{html.escape(row['error'])}</td>"

    lines = "".join(
        f"<tr><td>{_breakable(row['run'])}</td><td class='status {row['status']}'>"
        f"{MARKS[row['status']]} {row['status']}</td>{cells(row, before)}{ended(row)}</tr>"
        for row in rows
    )
    head = f"<thead><tr><th>run</th><th>status</th>{head}</tr></thead>"
    return f"<div class=wide><table class=runs>{head}<tbody>{lines}</tbody></table></div>"


def _kind(rows: list[dict[str, Any]], name: str) -> str:
    """Whether a column holds numbers, which stand to the right, words, or long ones."""
    values = [row.get(name, row.get(f"{name}.value")) for row in rows]
    if all(type(value) in (*NUMBERS, NoneType) for value in values):
        return "number"
    return "long" if any(len(str(value)) > LONG for value in values) else "words"


def _cell(row: dict[str, Any], name: str, units: dict[str, str]) -> str:
    """A value in words with its unit; an estimate with its interval below."""
    value, low, high = (row.get(f"{name}.{end}", "") for end in ("value", "low", "high"))
    if type(value) in NUMBERS and all(type(end) in (*NUMBERS, NoneType) for end in (low, high)):
        unit = str(row.get(f"{name}.unit") or "")
        interval = html.escape(Estimate(value, low, high, unit).interval)
        told = html.escape(words(value, unit))
        return f"{told}<small>{interval}</small>"
    value = row.get(name)
    if value is None:
        return UNKNOWN
    if name.startswith("parameter."):  # as it was given
        return html.escape(f"{value} {units.get(name, '')}".strip())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return html.escape(str(value))
    unit = unit_of(name)
    return words(value, unit) if unit or isinstance(value, float) else f"{value:,}"


def unit_of(name: str) -> str:
    """The unit that the name of a number ends with, as the kit's records have it.

    >>> unit_of("training.seconds_s"), unit_of("inference.examples_per_s"), unit_of("busy_share")
    ('s', 'examples/s', '%')
    >>> unit_of("ratio.step_flops"), unit_of("matmul_flops_per_s"), unit_of("duration_s")
    ('×', 'FLOP/s', 's')
    """
    *path, last = re.split(r"[._]", name.replace("_per_s", "/s"))
    if "ratio" in (*path, last):
        return "×"
    thing, _, per = last.partition("/")
    return f"{UNITS.get(thing, thing)}/s" if per else UNITS.get(last, "")


def _short(name: str) -> str:
    return name.removeprefix("parameter.").removeprefix("machine.")


def _breakable(name: str) -> str:
    """A long name may go on in the next line: after a dot, or else after another joint."""
    short = html.escape(_short(name))
    joints = r"(\.)" if "." in short else r"([_/-])"
    return re.sub(joints, r"\1<wbr>", short) if len(short) > 12 else short


def _many(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'s' * (n != 1)}"
