"""The web page of a folder of runs: one sentence, a picture, the claims, and all runs.

The page is for people who did not do the runs. So it begins with the main quantity in words, and
labels replace the names of fields. Values that all runs share stand once above the table, and the
less important columns are in a second table that opens on a click.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any

from kit.core.statistics import Estimate
from kit.core.units import UNKNOWN, plural, span, words
from kit.experiments.page_templates import document, picture_markup
from kit.experiments.records import DONE, FAILED, RUN_COLUMNS, UNREADABLE, ExecutedRun, scalars
from kit.plots import Table, dots

# The columns to show first, by kind of record; for other kinds, the first estimates.
KEYS = {
    "RunCost": (
        "ratio.step_time",
        "score_share",
        "training.seconds_s",
        "inference.one_example_s",
        "training.memory_bytes",
        "inference.memory_bytes",
        "training.flops",
        "ratio.whole_run_time",
    ),
}
LABELS = {
    "ratio.step_time": "training step ÷ prediction, same batch (time)",
    "ratio.whole_run_time": "whole training ÷ one prediction (time)",
    "score_share": "score on test",
    "training.seconds_s": "time of the whole training",
    "training.flops": "work of the whole training",
    "training.memory_bytes": "memory to train",
    "inference.one_example_s": "time of one prediction",
    "inference.memory_bytes": "memory to predict",
    "seconds": "time of the run",
    "date": "begun (UTC)",
    "machine.cpu": "processor",
    "machine.accelerator": "accelerator",
    "machine.torch": "PyTorch",
}
RULE = ("the rule of three", 3.0)  # what articles say about ratio.step_time
MOST = 8  # key numbers of a run
MOST_DRAWN = 30  # runs in a picture
MOST_SHOWN = 500  # runs of a notebook on the page
MOST_COLUMNS = 200  # in the second table
LONG = 30  # characters: longer values need a wide column
MACHINE = ("machine.cpu", "machine.accelerator", "machine.torch")  # shown beside the parameters
UNNAMED = (None, "none", "default")  # values that are left out of the name of a run
OPEN = "not decided yet"  # how the verdict on an undecided claim begins
UNKNOWN_SOURCE = "Files that cannot be read"
MARKS = {DONE: "●", FAILED: "▲", UNREADABLE: "✕"}
NUMBERS = (int, float)  # but not bool, which is an int in Python
UNITS = {"s": "s", "seconds": "s", "bytes": "B", "flops": "FLOP", "share": "%", "joules": "J"}


def count_runs(runs: Sequence[ExecutedRun]) -> str:
    """How many runs there are, and how they ended.

    >>> count_runs([ExecutedRun("a", "a.ipynb", "done"), ExecutedRun("b", "a.ipynb", "failed")])
    '2 runs of 1 notebook: 1 done, 1 failed.'
    """
    ends = Counter(run.status for run in runs)
    counts = ", ".join(f"{ends[status]:,} {status}" for status in MARKS if ends[status])
    notebooks = {run.notebook for run in runs if run.notebook}
    return f"{plural(len(runs), 'run')} of {plural(len(notebooks), 'notebook')}: {counts}."


def page(name: str, runs: Sequence[ExecutedRun], decided: Table) -> str:
    """The page as text; it links to the runs and the tables, and loads no other file."""
    spent = sum(run.seconds or 0 for run in runs)
    dates = sorted(run.date for run in runs if run.date)
    when = f" Started from {dates[0]} to {dates[-1]} (UTC);" if dates else ""
    groups = _by_notebook(runs)
    main = _main_group(groups)
    known = [row for row in decided.rows if not row[3].startswith(OPEN)]
    return document(
        "report",
        title=f"The runs in {name}/",
        headline=headline(main) or count_runs(runs),
        summary=f"{count_runs(runs)}{when} {words(spent, 's')} in all.",
        picture=_picture(main),
        decided=known,
        decided_caption=decided.caption,
        undecided=[row for row in decided.rows if row not in known],
        sections=[_section(notebook, group) for notebook, group in groups.items()],
    )


# --- The sentence and the picture ----------------------------------------------------------------


def headline(runs: Sequence[ExecutedRun]) -> str:
    """What these runs of one notebook found, in one sentence; "" if they measured nothing."""
    values = _values(runs)
    if not values:
        return ""
    name, unit = _first_key(runs), next(iter(values.values()))[3]
    least, most = (choose(values, key=lambda run: values[run][0]) for choose in (min, max))
    low, high = (words(values[run][0], unit) for run in (least, most))
    values_text = low if low == high else span(values[least][0], values[most][0], unit)
    count = "in one run" if len(values) == 1 else f"in {len(values):,} runs"
    if name != "ratio.step_time":
        which = "" if len(values) == 1 else f" ({least} to {most})"
        return f"{readable(name).capitalize()}: {values_text}{which}, {count}."
    bills = [run.main for run in runs if run.status == DONE and run.main.get("kind") == "RunCost"]
    reached = sum(bill["reached"] for bill in bills)
    kinds = {bill["workload"] for bill in bills}
    count += f" of {plural(len(kinds), 'workload')}" if len(kinds) > 1 else f" of {min(kinds)}"
    target = f"{reached:,} of {len(bills):,} reached the target score"
    times = values_text.replace("×", "times")
    step = f"A training step takes {times} as long as a prediction of the same batch"
    return f"{step}, {count}; {target}."


def _picture(runs: Sequence[ExecutedRun]) -> Any:
    """A picture of the main quantity of each run with its interval; "" without a main quantity."""
    values = _values(runs)
    if not values:
        return ""
    name = _first_key(runs)
    ordered = sorted(values.items(), key=lambda item: item[1][0])
    step = -(-len(ordered) // MOST_DRAWN)
    drawn = {run: value[:3] for run, value in ordered[::step]}
    unit = ordered[0][1][3]
    ends = [end for value in drawn.values() for end in value]
    log = min(ends) > 0 and max(ends) > 30 * min(ends)
    extremes = [f"{words(value[0], unit)} ({run})" for run, value in (ordered[0], ordered[-1])]
    values_text = "from " + " to ".join(extremes) if len(values) > 1 else extremes[0]
    caption = f"{readable(name).capitalize()}, in {plural(len(values), 'run')}: {values_text}. "
    caption += "Bars: 95 % intervals, where they are known."
    caption += f" Every {step}th run is drawn." if step > 1 else ""
    level = RULE if name == "ratio.step_time" else None
    picture = dots(drawn, readable(name), caption=caption, unit=unit, log=log, level=level)
    return picture_markup(picture)


def _main_group(groups: dict[str, list[ExecutedRun]]) -> list[ExecutedRun]:
    """The runs of the main notebook: one with both bills, then the one with the most runs."""

    def importance(runs: list[ExecutedRun]) -> tuple[bool, int]:
        return _first_key(runs) == "ratio.step_time", len(_values(runs))

    return max(groups.values(), key=importance)


def _first_key(runs: Sequence[ExecutedRun]) -> str:
    done = [run for run in runs if run.status == DONE]
    names = list(dict.fromkeys(name for run in done for name in run.row()))
    keys = _keys(done, _measured(names))
    return keys[0] if keys else ""


def _values(runs: Sequence[ExecutedRun]) -> dict[str, tuple[float, float, float, str]]:
    """The main quantity of each run, by run name: value, low, high, unit; unknown ones left out."""
    key, names = _first_key(runs), _names(runs)
    found: dict[str, tuple[float, float, float, str]] = {}
    for run in runs if key else ():
        row = run.row() if run.status == DONE else {}
        value = _finite(row.get(f"{key}.value", row.get(key)))
        unit = str(row.get(f"{key}.unit") or unit_of(key))
        if value is None or any(unit != other for *_, other in found.values()):
            continue
        low, high = (_finite(row.get(f"{key}.{end}")) for end in ("low", "high"))
        low, high = (value if end is None else end for end in (low, high))
        found[names[run.name]] = (value, min(low, value), max(high, value), unit)
    return found


def _finite(value: Any) -> float | None:
    return value if type(value) in NUMBERS and math.isfinite(value) else None


def _names(runs: Sequence[ExecutedRun]) -> dict[str, str]:
    """A short name for each run: its varied parameters, and its file if they are not unique."""
    rows = [run.row() for run in runs]
    varied = [name for name in _varied(rows) if name.startswith("parameter.")]
    names = [
        ", ".join(_named(n, row[n]) for n in varied if row.get(n) not in UNNAMED) for row in rows
    ]
    names = [name or "defaults" for name in names] if varied else names
    twice = {name for name, n in Counter(names).items() if n > 1 or not name}
    return {
        run.name: _cut(f"{name} · {run.name}".strip(" ·") if name in twice else name)
        for run, name in zip(runs, names, strict=True)
    }


def _named(name: str, value: Any) -> str:
    """A text as it is; a number or a boolean with the name of its parameter."""
    return value if isinstance(value, str) else f"{readable(name)} {value}"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


# --- The tables ----------------------------------------------------------------------------------


def _by_notebook(runs: Iterable[ExecutedRun]) -> dict[str, list[ExecutedRun]]:
    """The runs of each notebook, the failed and unreadable ones first."""
    groups: dict[str, list[ExecutedRun]] = {}
    for run in sorted(runs, key=lambda run: run.status == DONE):
        groups.setdefault(run.notebook, []).append(run)
    return dict(sorted(groups.items(), key=lambda group: (not group[0], group[0])))


def _conditions(names: Iterable[str]) -> list[str]:
    """The columns that are parameters or describe the machine."""
    return [name for name in names if name.startswith("parameter.") or name in MACHINE]


def _varied(rows: list[dict[str, Any]]) -> list[str]:
    names = _conditions(dict.fromkeys(name for row in rows for name in row))
    return [name for name in names if len({repr(row.get(name)) for row in rows}) > 1]


def _section(notebook: str, runs: list[ExecutedRun]) -> dict[str, Any]:
    """The section of one notebook: its shared values, its key columns, and all its columns."""
    rows = [run.row() for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    varied = _varied(rows)
    units = {f"parameter.{name}": unit for run in runs for name, unit in run.units.items()}
    measured = _measured(names)
    shown, all_measured = runs[:MOST_SHOWN], measured[:MOST_COLUMNS]
    return {
        "title": _cut(notebook.removesuffix(".ipynb").replace("-", " ")) or UNKNOWN_SOURCE,
        "n": len(runs),
        "same": [
            (readable(name), _cell(rows[0], name, units)[0])
            for name in _conditions(names)
            if name not in varied and rows[0].get(name) not in (None, "")
        ],
        "table": _table(shown, [*varied[:MOST], "seconds"], _keys(runs, measured), units),
        "rest": _table(shown, [*varied, "seconds", "date"], all_measured, units),
        "measured": len(measured),
        "left_out": len(runs) - len(shown),
    }


def _measured(names: list[str]) -> list[str]:
    """The columns of the main record; value, low, high and unit of an estimate are one column."""
    bases = {name.removesuffix(".low") for name in names if name.endswith(".low")}
    there = set(names)
    estimates = {base for base in bases if {f"{base}.value", f"{base}.high"} <= there}
    pairs = (
        (name, name.rpartition(".")[0]) for name in names if name not in (*RUN_COLUMNS, "kind")
    )
    own = ((n, base) for n, base in pairs if not n.startswith(("parameter.", "machine.")))
    return list(dict.fromkeys(base if base in estimates else name for name, base in own))


def _keys(runs: Sequence[ExecutedRun], measured: list[str]) -> list[str]:
    """The columns to show first: the key columns of the kind of record, else its estimates."""
    named = [name for run in runs for name in KEYS.get(run.main.get("kind", ""), ())]
    found = {name for run in runs for name, _ in scalars(run.main)}
    estimates = [name for name in measured if name not in found]
    return ([name for name in dict.fromkeys(named) if name in measured] or estimates)[:MOST]


def _table(
    runs: list[ExecutedRun], before: list[str], numbers: list[str], units: dict[str, str]
) -> dict[str, Any]:
    """A line per run; a failed run shows its error instead of its numbers."""
    rows = [run.row() for run in runs]
    after = numbers or ["error"]
    kinds = {name: _kind(rows, name) for name in (*before, *after)}
    lines = []
    for run, row in zip(runs, rows, strict=True):
        shown = (*before, *after) if run.status == DONE else before
        cells = [(kinds[name], *_cell(row, name, units)) for name in shown]
        lines.append((run, _short_name(run), MARKS[run.status], cells))
    head = [("run", "words"), ("status", "words"), *((readable(n), k) for n, k in kinds.items())]
    return {"head": head, "lines": lines, "results": len(after)}


def _short_name(run: ExecutedRun) -> str:
    """The name of a run without the notebook's name before it and the id after it."""
    short = re.sub(r"-[0-9a-f]{12}$", "", run.name)
    return short.removeprefix(f"{run.notebook.removesuffix('.ipynb')}-") or run.name


def _kind(rows: list[dict[str, Any]], name: str) -> str:
    """The kind of a column: numbers (aligned right), words, or long texts."""
    values = [row.get(name, row.get(f"{name}.value")) for row in rows]
    if all(type(value) in (*NUMBERS, NoneType) for value in values):
        return "number"
    return "long" if any(len(str(value)) > LONG for value in values) else "words"


def _cell(row: dict[str, Any], name: str, units: dict[str, str]) -> tuple[str, str]:
    """A value in words with its unit, and its interval if it is an estimate."""
    value, low, high = (row.get(f"{name}.{end}", "") for end in ("value", "low", "high"))
    if type(value) in NUMBERS:
        unit = str(row.get(f"{name}.unit") or "")
        known = all(type(end) in (*NUMBERS, NoneType) for end in (low, high))
        return words(value, unit), Estimate(value, low, high, unit).interval if known else ""
    value = row.get(name)
    if value is None:
        return UNKNOWN, ""
    if name.startswith("parameter."):  # exactly as given
        return f"{value} {units.get(name, '')}".strip(), ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value), ""
    unit = unit_of(name)
    return (words(value, unit) if unit or isinstance(value, float) else f"{value:,}"), ""


def unit_of(name: str) -> str:
    """The unit in which a column is measured, from the end of its name.

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


def readable(name: str) -> str:
    """The label of a column on the page.

    >>> readable("parameter.batch_size"), readable("training.seconds_s")
    ('batch size', 'time of the whole training')
    >>> readable("inference.examples_per_s"), readable("limit.step_share")
    ('inference: examples per second', 'limit: step')
    """
    if name in LABELS:
        return LABELS[name]
    *path, last = name.removeprefix("parameter.").removeprefix("machine.").split(".")
    if not name.startswith("parameter."):
        rate = last.endswith("_per_s")
        last = re.sub(r"_per_s$", "", last)
        bare = re.sub(r"_(s|bytes|share|joules|flops)$", "", last)
        last = f"{last} per second" if rate else bare
    return ": ".join(part.replace("_", " ") for part in (*path, last))
