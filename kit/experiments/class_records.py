"""Everything that a class measured: notebooks that were handed in, and the records of its board.

Each quantity that a lesson measures for a verdict, each bill of `train-versus-infer`, and each
question of the board is compared over all computers. No name of a file or a person is shown: each
computer gets a letter. What cannot be compared is left out, with the reason.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.core.checks import is_number
from kit.core.errors import BadValue, UnknownName
from kit.core.files import read_file
from kit.core.results import Result
from kit.core.statistics import Estimate, median, quotient
from kit.core.units import UNKNOWN, words
from kit.course.claims import labels
from kit.course.earlier_lessons import stored_value
from kit.experiments.class_comparison import bills_of, letter, own_runs, records_digest, stored_runs
from kit.experiments.class_differences import FACTS, differences
from kit.experiments.records import ExecutedRun
from kit.experiments.untrusted_notebooks import safe_line
from kit.plots import Note, Picture, Table, dots

if TYPE_CHECKING:
    import pandas as pd

BOARD_FILE = "board.jsonl"
BOARD_BYTES = 100_000_000  # of a board's file: an hour with 60 laptops takes a twentieth
NO_NUMBER = "it has nothing that can be compared: no verdict and no bill with a number"
TWICE = "the same measurements as in another file"
# Quantities of a bill: where each stands in the record, and its unit.
BILLS = {
    "step ÷ prediction": ("ratio.step_time", "×"),
    "a batch predicted": ("inference.batch_s", "s"),
    "one example alone": ("inference.one_example_s", "s"),
    "one training step": ("training.step_s", "s"),
    "score": ("score_share", "%"),
}
# What a doubt says -> a word for the table.
DOUBTS = {
    r"other programs|was busy|runs at once|host of this": "busy",
    r"follow each other|in groups|too few|too little": "unsteady",
    r"spread over|very slow": "wide",
    r"last third|clock|cool": "drifting",
    r"quota|threads": "threads",
}


@dataclass(frozen=True)
class Measured:
    """A quantity as one computer measured it."""

    computer: int
    quantity: str
    value: Estimate


@dataclass(frozen=True)
class Computer:
    """A computer of the class: what is known of it, and what its records doubt."""

    facts: Mapping[str, Any]
    doubts: tuple[str, ...] = ()

    @property
    def doubted(self) -> str:
        """The doubts in one or two words."""
        found = [
            word
            for said, word in DOUBTS.items()
            if any(re.search(said, doubt) for doubt in self.doubts)
        ]
        return ", ".join(found) or ("other" if self.doubts else "none")


@dataclass(frozen=True)
class ClassMeasurements(Result):
    """What a class measured, and what is left out."""

    computers: tuple[Computer, ...]
    measured: tuple[Measured, ...]
    left_out: tuple[tuple[str, str], ...]  # (name of the file or the quantity, reason)
    guesses: Mapping[str, tuple[float, ...]]
    runs: tuple[ExecutedRun, ...] = ()
    letters: Mapping[str, str] = field(default_factory=dict)  # of the runs, by their names

    @cached_property
    def by_quantity(self) -> dict[str, dict[str, Estimate]]:
        """Quantity -> computer -> value; what most computers measured comes first."""
        found: dict[str, dict[str, Estimate]] = defaultdict(dict)
        for each in sorted(self.measured, key=lambda each: each.computer):
            found[each.quantity][letter(each.computer)] = each.value
        order = {each.quantity: i for i, each in reversed(list(enumerate(self.measured)))}

        def place(name: str) -> tuple[int, bool, int]:  # what was guessed comes before the rest
            return -len(found[name]), name not in self.guesses, order[name]

        return {name: found[name] for name in sorted(found, key=place)}

    def __repr__(self) -> str:
        n, q = len(self.computers), len(self.by_quantity)
        return f"{n} computers, {q} quantities; {len(self.left_out)} left out"

    def table(self) -> Table:
        """Each quantity: how many computers measured it, and how far they are apart."""
        rows, same = [], []
        for name, values in self.by_quantity.items():
            if len(values) > 1 and len({(v.value, v.low, v.high) for v in values.values()}) == 1:
                same.append(name)
            else:
                rows.append((name, f"{len(values)}", *_ends(list(values.values()))))
        header = ("quantity", "computers", "smallest", "largest", "largest ÷ smallest")
        said = "An interval above 1 × says that two computers surely differ."
        return Table(header, rows, said, f"Equal on all: {'; '.join(same)}." if same else "")

    def computers_table(self) -> Table:
        """The computers: a letter, the processor, and whether their records have doubts."""
        counts = Counter(each.computer for each in self.measured)
        rows = [
            (
                letter(i),
                str(c.facts.get("accelerator") or c.facts.get("processor") or UNKNOWN),
                *(_shown(c.facts.get(name)) for name in ("cores_allowed", "threads", "pytorch")),
                f"{counts[i]}",
                c.doubted,
            )
            for i, c in enumerate(self.computers)
        ]
        said = "Doubts. Busy: other programs ran; unsteady, wide: timings differ; drifting: they "
        said += "became faster or slower; threads: too many, or less than all cores."
        header = ("", "computed on", "cores", "threads", "PyTorch", "quantities", "doubts")
        return Table(header, rows, f"{len(rows)} computers.", said)

    def left_out_table(self, names: bool = False) -> Table | Note:
        """What is left out and why; with `names`, the files, which may name a student."""
        if not self.left_out:
            return Note("Nothing is left out.")
        if names:
            return Table(("left out", "reason"), list(self.left_out))
        reasons = Counter(reason for _, reason in self.left_out)
        rows = [(reason, f"{n}") for reason, n in reasons.most_common()]
        return Table(("left out because", "how often"), rows, "With names=True: which files.")

    def of(self, quantity: str = "") -> Compared:
        """One quantity on all computers; "": the one that most of them measured.

        Raises
        ------
        UnknownName
            Nobody measured it: the message lists what was measured.
        BadValue
            Nothing was measured at all.
        """
        if not self.by_quantity:
            raise BadValue("no record here can be compared. Look at what is left out, and why.")
        names = [name for name in self.by_quantity if quantity.lower() in name.lower()]
        if not names:
            raise UnknownName("quantity", quantity, self.by_quantity)
        values = self.by_quantity[names[0]]
        facts = {letter(i): c.facts for i, c in enumerate(self.computers)}
        guesses = self.guesses.get(names[0], ())
        return Compared(names[0], values, {at: facts[at] for at in values}, guesses)

    def bills(self, workload: str) -> pd.DataFrame:
        """The bills of `train-versus-infer`, the fastest first; see `class_results`."""
        with suppress(BadValue):
            return bills_of(list(self.runs), workload, letters=self.letters)
        import pandas as pd

        return pd.DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """Each quantity with the value of each computer; guesses; how much is left out."""
        values = {
            name: {at: value.to_dict() for at, value in each.items()}
            for name, each in self.by_quantity.items()
        }
        guesses = {name: list(each) for name, each in self.guesses.items()}
        return {"values": values, "guesses": guesses, "left_out": len(self.left_out)}


@dataclass(frozen=True)
class Compared(Result):
    """One quantity on several computers, and what goes together with its differences."""

    quantity: str
    values: Mapping[str, Estimate]
    facts: Mapping[str, Mapping[str, Any]]
    guesses: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """The unit of the quantity."""
        return next(iter(self.values.values())).unit

    def __repr__(self) -> str:
        said = "; ".join(f"{at} {words(v.value, v.unit)}" for at, v in self.values.items())
        return f"{self.quantity}: {said}"

    def plot(self) -> Picture:
        """A dot with its interval for each computer."""
        ordered = sorted(self.values.items(), key=lambda item: item[1].value)
        rows = {at: (v.value, *_finite(v)) for at, v in ordered}
        ends = [end for row in rows.values() for end in row if end is not None]
        spread = self.unit != "%" and max(ends) > 10 * min(ends) > 0  # one may squeeze the others
        return dots(rows, self.quantity, unit=self.unit, caption=f"{self!r}.", log=spread)

    def table(self) -> Table:
        """What goes together with a difference between computers, the largest first."""
        found = differences(list(self.values.values()), list(self.facts.values()))
        rows = [
            (", ".join(each.facts), each.groups, repr(each.value)) for each in found if each.carried
        ]
        order = [label for label, _ in FACTS.values()]
        tried = {fact for each in found if not each.carried for fact in each.facts}
        listed = ", ".join(sorted(tried, key=order.index))
        said = f"Differences that the intervals do not carry: {listed}. " if tried else ""
        if not found:
            said = "Groups of at least two computers are needed; here no fact makes two groups. "
        said += "What goes together need not be the cause."
        rows = rows or [("none", UNKNOWN, UNKNOWN)]
        return Table(("fact", "groups (computers)", "apart"), rows, said)

    def guessed(self) -> Note:
        """Where the guesses lie, beside the measurements."""
        if not self.guesses:
            return Note("No guesses are recorded for it: only a class board records them.")
        middle = median(self.guesses, self.unit)
        low, high = (end(v.value for v in self.values.values()) for end in (min, max))
        inside = sum(low <= guess <= high for guess in self.guesses)
        return Note(
            f"{len(self.guesses)} guesses, the middle one {middle}. {inside} of them lie between "
            f"the smallest and the largest measurement."
        )

    def to_dict(self) -> dict[str, Any]:
        """The values by computer."""
        return {
            "quantity": self.quantity,
            "values": {at: value.to_dict() for at, value in self.values.items()},
        }


def _shown(value: Any) -> str:
    return f"{value:g}" if is_number(value) else UNKNOWN


def _finite(value: Estimate) -> tuple[float | None, float | None]:
    ends = value.to_dict()
    return (ends["low"], ends["high"]) if value.known else (None, None)  # type: ignore[return-value]


def _ends(values: Sequence[Estimate]) -> tuple[str, str, str]:
    """The smallest, the largest, and their ratio."""
    low, high = (end(values, key=lambda v: v.value) for end in (min, max))
    apart = repr(quotient(high, low)) if len(values) > 1 and low.value > 0 else UNKNOWN
    return words(low.value, low.unit), words(high.value, high.unit), apart


# --- Reading -------------------------------------------------------------------------------------


def class_measurements(folder: Path | str) -> ClassMeasurements:
    """What a class measured: the executed notebooks of a folder, and the records of its board.

    Parameters
    ----------
    folder
        With notebooks, in a folder for each student or in one folder, and records of `kit class`.

    Raises
    ------
    BadValue
        The folder does not exist.
    """
    runs, others = own_runs(folder)
    found, left_out = _Found(), list(others)
    digests: set[str] = set()
    for run in sorted(runs, key=lambda run: run.date):
        digest = records_digest(run)
        if digest in digests:
            left_out.append((run.name, TWICE))
        elif not found.add_run(run):
            left_out.append((run.name, NO_NUMBER))
        digests.add(digest)
    for path in sorted(Path(folder).rglob(BOARD_FILE)):
        left_out += found.add_board(path)
    return found.result(left_out, runs)


class _Found:
    """Measurements while they are read: by computer, which is a student's folder or laptop."""

    def __init__(self) -> None:
        self.facts: dict[str, dict[str, Any]] = {}  # computer -> what is known of it
        self.doubts: dict[str, list[str]] = defaultdict(list)
        self.values: dict[tuple[str, str], Estimate] = {}  # (quantity, computer)
        self.work: dict[tuple[str, str], str] = {}  # what it was measured on
        self.guesses: dict[str, dict[str, float]] = defaultdict(dict)

    def add_run(self, run: ExecutedRun) -> bool:
        """Add what a notebook measured; whether that was anything."""
        computer = _computer(run)
        found = list(_quantities(run))
        if not found:
            return False
        machine = next((r for r in run.records if r["kind"] == "Machine"), {})
        self.facts.setdefault(computer, _facts_of_machine(machine))
        for record in run.records:
            doubts = record.get("doubts")
            self.doubts[computer] += [d for d in doubts if isinstance(d, str)] if doubts else []
        for quantity, work, value in found:
            self.values[quantity, computer] = value
            self.work[quantity, computer] = work
        return True

    def add_board(self, path: Path) -> list[tuple[str, str]]:
        """Add the records of a board; what cannot be read."""
        try:
            events, damaged = events_in(read_file(path, BOARD_BYTES))
        except OSError as error:
            return [(path.name, f"cannot be read: {error.strerror or error}")]
        labels = {
            e.get("id"): (f"{e.get('text')} ({e.get('id')})", str(e.get("unit", "")))
            for e in events
            if e["event"] == "question" and not e.get("choices")
        }
        for event in events:
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                self._add_event(event, f"board {path.parent} {event.get('student')}", labels)
        return [(path.name, "a line of the board's records is damaged")] * damaged

    def _add_event(
        self, event: Mapping[str, Any], computer: str, labels: Mapping[Any, Any]
    ) -> None:
        if event.get("question") not in labels:
            return
        label, unit = labels[event["question"]]
        quantity = safe_line(label, "question")
        if is_number(event.get("guess")):
            self.guesses[quantity].setdefault(computer, float(event["guess"]))
            if event["event"] == "guess":
                self.guesses[quantity][computer] = float(event["guess"])
        if event["event"] == "measured" and is_number(event["value"]):
            value = Estimate(event["value"], event.get("low"), event.get("high"), unit)  # type: ignore[arg-type]
            self.values[quantity, computer] = value
            self.work[quantity, computer] = ""
            self.facts[computer] = {n: v for n, v in event.get("machine", {}).items() if n in FACTS}

    def result(
        self, left_out: list[tuple[str, str]], runs: Sequence[ExecutedRun]
    ) -> ClassMeasurements:
        """All of it, with letters instead of names; only what was measured on the same work."""
        order = sorted(self.facts, key=self._rank)
        number = {computer: i for i, computer in enumerate(order)}
        works: dict[str, Counter[str]] = defaultdict(Counter)
        for (quantity, _), work in self.work.items():
            works[quantity][work] += 1
        usual = {quantity: counts.most_common(1)[0][0] for quantity, counts in works.items()}
        measured = []
        for (quantity, computer), value in self.values.items():
            if self.work[quantity, computer] == usual[quantity]:
                measured.append(Measured(number[computer], quantity, value))
            else:
                left_out.append((f"{quantity}, of {letter(number[computer])}", OTHER_WORK))
        guesses = {quantity: tuple(each.values()) for quantity, each in self.guesses.items()}
        computers = tuple(Computer(self.facts[c], tuple(self.doubts[c])) for c in order)
        compared = [run for run in runs if _computer(run) in number]
        letters = {run.name: letter(number[_computer(run)]) for run in compared}
        return ClassMeasurements(
            *(computers, tuple(measured), tuple(left_out), guesses, tuple(compared), letters)
        )

    def _rank(self, computer: str) -> tuple[Any, ...]:
        """Computers by the time of a training step, then by processor: names decide nothing."""
        times = [v.value for (q, c), v in self.values.items() if c == computer and STEP in q]
        facts = self.facts[computer]
        first = next((v.value for (_, c), v in self.values.items() if c == computer), 0.0)
        return (min(times, default=float("inf")), str(facts.get("processor")), first)


def _computer(run: ExecutedRun) -> str:
    """Whose computer it was: each folder is a student's, and each file beside the folders."""
    return f"notebook {run.name.split('/')[0]}"


STEP = "one training step"
OTHER_WORK = "measured on other work than most: another model, batch or device"


def _quantities(run: ExecutedRun) -> Iterator[tuple[str, str, Estimate]]:
    """(quantity, what it was measured on, value) of each number in a notebook's records."""
    lesson = lesson_of(run)
    for record in run.records:
        if record["kind"] == "RunCost":
            for name, (where, unit) in BILLS.items():
                if bill := _at(record, where, unit):
                    yield f"{record['workload']}: {name}", _work(record), bill
        elif record["kind"] == "Verdict" and isinstance(record.get("measured"), dict):
            elsewhere = record.get("measured_in") or {}
            for name, stored in record["measured"].items():
                value = stored_value(stored)
                if value is None or name in elsewhere:
                    continue
                label, unit = labels().get(name, (name.replace("_", " "), ""))
                found = Estimate.of(value).with_unit(unit)
                yield f"{label} ({lesson})", str(record.get("on", "")), found


def lesson_of(run: ExecutedRun) -> str:
    """Which notebook of the kit it is, by its claims and parameters: a file may have any name."""
    known = {name: len(marks & _marks(run)) / len(marks | _marks(run)) for name, marks in _kits()}
    best = max(known, key=lambda name: known[name])
    if not known[best]:
        return "another notebook"
    return f"lesson {best[:2]}" if best[:2].isdigit() else best


def _marks(run: ExecutedRun) -> set[str]:
    claims = {str(r.get("claim_id")) for r in run.records if r["kind"] == "Verdict"}
    return claims | set(run.parameters)


@cache
def _kits() -> list[tuple[str, set[str]]]:
    """The kit's own notebooks and their marks."""
    return [(run.name, marks) for run in stored_runs() if (marks := _marks(run))]


def _at(record: Mapping[str, Any], where: str, unit: str) -> Estimate | None:
    for part in where.split("."):
        record = record[part]
    value = stored_value(record)
    if is_number(value):  # timed, and stored without its interval
        return Estimate(value, 0.0, math.inf, unit)
    return value.with_unit(unit) if isinstance(value, Estimate) else None


def _work(record: Mapping[str, Any]) -> str:
    names = ("model", "batch_size", "precision", "technique")
    return " | ".join(str(record.get(name)) for name in names)


def _facts_of_machine(machine: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that explain a difference, from the record of `kit.machine()`."""
    names = {
        "processor": "cpu", "accelerator": "accelerator", "system": "system",
        "cores": "cores_present", "cores_allowed": "cores_allowed",
        "memory_bytes": "memory_allowed_bytes", "threads": "threads", "load": "load",
    }  # fmt: skip
    found = {name: machine.get(field) for name, field in names.items()}
    found["accelerator"] = found["accelerator"] or ""
    version = re.match(r"\d+\.\d+", str(machine.get("torch", "")))
    return {**found, "pytorch": float(version[0]) if version else None}


def events_in(found: bytes) -> tuple[list[dict[str, Any]], int]:
    r"""The events in the file of a board, and how many lines cannot be read.

    >>> events_in(b'{"event": "joined"}\n{"event": "gue')
    ([{'event': 'joined'}], 1)
    """
    events, damaged = [], 0
    for line in found.splitlines():
        try:
            event = json.loads(line)
            if not isinstance(event.get("event"), str):
                raise ValueError
            events.append(event)
        except (ValueError, AttributeError, RecursionError):
            damaged += 1
    return events, damaged
