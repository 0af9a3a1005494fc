"""What a run at the edge found: times of each phase and each call, memory, bytes, energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.results import Result
from kit.core.statistics import Estimate, median, percentile, proportion
from kit.core.units import words
from kit.deployment.slowest_call import cause_of_slowest
from kit.plots import Picture, Table, lines, with_doubts

SAVED = 1_000  # calls in a record, evenly spaced


@dataclass(frozen=True, kw_only=True)
class EdgeRun(Result):
    """One model in one small process: what each phase took, and every call."""

    label: str
    runtime: str
    model_bytes: int  # of the file
    start_s: float  # from the command to the first line of the process's own program
    import_s: float  # the runtime
    load_s: float  # open the file
    first_s: float  # the first answer
    times_s: tuple[float, ...] = field(repr=False)  # of each call
    late_s: tuple[float, ...] = field(repr=False)  # of each call: from its due moment to its start
    running_s: tuple[float, ...] = field(repr=False)  # of each call: time on a core
    taken_away: tuple[float, ...] = field(repr=False)  # of each call: involuntary switches
    waited: tuple[float, ...] = field(repr=False)  # of each call: voluntary switches
    page_faults: tuple[float, ...] = field(repr=False)
    collections: tuple[float, ...] = field(repr=False)  # of garbage
    outputs: np.ndarray = field(repr=False, compare=False)  # for each input once, in order
    every_s: float | None  # from one due moment to the next; None: back to back
    deadline_s: float | None
    memory_bytes: int | None  # the limit on private memory
    share: float | None  # of a core that it was held to
    resident_bytes: int | None  # at most
    private_bytes: int | None  # at the end: what a limit is about
    threads: int | None  # at the end
    packages: dict[str, int] = field(default_factory=dict)  # installed bytes by package
    kit_modules: tuple[str, ...] = field(default=(), repr=False)
    top_modules: tuple[str, ...] = field(default=(), repr=False)
    joules: float | None = None  # of the processor, during the timed calls
    meter: str = ""
    machine: str = ""
    disturbed: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many calls were timed."""
        return len(self.times_s)

    @property
    def ready_s(self) -> float:
        """From the command to the first answer."""
        return self.start_s + self.import_s + self.load_s + self.first_s

    @cached_property
    def latency(self) -> Estimate:
        """Median seconds per call, with its interval."""
        return median(self.times_s, "s")

    @property
    def median_s(self) -> float:
        """Median seconds per call."""
        return float(np.median(self.times_s))

    @property
    def worst_s(self) -> float:
        """The slowest call."""
        return max(self.times_s)

    @property
    def cause(self) -> str:
        """Why the slowest call was slow, as far as the counters of this system tell."""
        return cause_of_slowest(self)

    def percentile(self, p: float) -> Estimate:
        """The time that p % of the calls stay below, with its interval."""
        return percentile(self.times_s, p, "s")

    @property
    def answered_s(self) -> tuple[float, ...]:
        """From each call's due moment to its answer: what a deadline is about."""
        return tuple((np.array(self.late_s) + self.times_s).tolist())

    def missed(self, deadline_s: float | None = None) -> Estimate:
        """The share of the calls whose answer came after the deadline, with its interval."""
        limit = self.deadline_s if deadline_s is None else deadline_s
        if limit is None:
            raise BadValue("no deadline: give one, such as missed(0.01) for ten milliseconds.")
        return proportion(int((np.array(self.answered_s) > limit).sum()), self.n)

    @property
    def core_share(self) -> float | None:
        """The part of a core that the answers take, at this pace; None back to back."""
        return None if self.every_s is None else self.median_s / self.every_s

    @property
    def joules_per_answer(self) -> float | None:
        """Energy of the whole processor during the calls ÷ the answers; None without a meter."""
        return None if self.joules is None else self.joules / self.n

    @property
    def dependencies_bytes(self) -> int:
        """Installed bytes of all packages from which the process imported something."""
        return sum(self.packages.values())

    def imported(self, name: str) -> bool:
        """Whether the process imported a package, such as "torch", or a part of the kit."""
        found = {*self.kit_modules, *self.top_modules}
        return any(each == name or each.startswith(f"{name}.") for each in found)

    @property
    def restricted(self) -> str:
        """What was restricted, named honestly: it is this computer and not a device."""
        limits = ["one thread"]
        if self.memory_bytes is not None:
            limits.append(f"{words(self.memory_bytes, 'B')} of private memory")
        if self.share is not None:
            limits.append(f"{words(self.share, '%')} of a core")
        return f"this computer, restricted to {', '.join(limits)}"

    def __repr__(self) -> str:
        return (
            f"{self.label} ({self.runtime}): first answer after {words(self.ready_s, 's')}, then "
            f"{self.latency}, worst of {self.n:,}: {words(self.worst_s, 's')} ({self.cause}); "
            f"{words(self.resident_bytes, 'B')} resident"
        )

    def table(self) -> Table:
        """One row; see `edge_table`."""
        return edge_table([self])

    def plot(self) -> Picture:
        """The time of each call, in order, on a logarithmic axis."""
        numbers = list(range(1, self.n + 1))
        caption = (
            f"{self.label}, {self.n:,} calls: median {words(self.median_s, 's')}, slowest "
            f"{words(self.worst_s, 's')}: {self.cause}."
        )
        level = ("deadline", self.deadline_s) if self.deadline_s is not None else None
        return lines(
            {"calls": (numbers, self.times_s)},
            "call",
            "time",
            caption=caption,
            marks=False,
            log="y",
            level=level,
            unit="s",
        )

    def to_dict(self) -> dict[str, Any]:
        """All numbers; at most 1,000 calls, evenly spaced, and the slowest in words."""
        every = -(-self.n // SAVED)
        raw = asdict(self)
        for name in ("outputs", "kit_modules", "top_modules"):
            del raw[name]
        columns = ("times_s", "late_s", "running_s", "taken_away", "waited", "page_faults")
        for name in (*columns, "collections"):
            raw[name] = [round(value, 9) for value in raw[name][::every]]
        derived = {
            "n": self.n,
            "calls_kept_every": every,
            "ready_s": self.ready_s,
            "median_s": self.latency.to_dict(),
            "worst_s": self.worst_s,
            "cause_of_worst": self.cause,
            "joules_per_answer": self.joules_per_answer,
            "dependencies_bytes": self.dependencies_bytes,
            "has_pytorch": self.imported("torch"),
        }
        return {**raw, **derived}


def edge_table(runs: list[EdgeRun] | Mapping[str, EdgeRun]) -> Table:
    """Several runs, a row each: start, latency, misses, memory, bytes on disk, energy.

    Rows have the runs' labels, or the names of the mapping. A column that nobody knows is left out;
    a runtime that several runs share stands in the caption.

    Raises
    ------
    BadValue
        No run was given.
    """
    named = list(runs.items()) if isinstance(runs, Mapping) else [(run.label, run) for run in runs]
    several = [run for _, run in named]
    if not several:
        raise BadValue("no runs: needs at least one result of kit.edge.")
    header = (
        *("", "runtime", "first answer", "median", "p99", "worst", "late since due"),
        *("resident", "model", "packages", "energy per answer"),
    )
    causes = "; ".join(f"{name}, {run.runtime}: {run.cause}" for name, run in named)
    phases = "; ".join(f"{name}, {run.runtime}: {_phases(run)}" for name, run in named)
    limits = {run.restricted for run in several}
    caption = f"{'; '.join(sorted(limits)).capitalize()}. No device was measured. "
    caption += " ".join(sorted({_deadline(run) for run in several})).strip()
    runtimes = {run.runtime for run in several}
    shared = len(runtimes) == 1 < len(several)
    caption += f" Runtime: {several[0].runtime}." if shared else ""
    details = (
        f"{several[0].n:,} calls, {_pace(several[0])}. Why the worst call was slow: {causes}. "
        f"First answer, from the command on: {phases}. Packages: installed size of those "
        f"from which the process imported something. {_energy(several)} "
        f"{several[0].machine}."
    )
    doubts = list(dict.fromkeys(doubt for run in several for doubt in run.disturbed))
    rows = [_row(*each) for each in named]
    known = [i for i in range(len(header)) if any(row[i] != words(None) for row in rows)]
    known = [i for i in known if not (shared and header[i] == "runtime")]
    shown = [tuple(row[i] for i in known) for row in rows]
    return Table(tuple(header[i] for i in known), shown, *with_doubts(caption, doubts, details))


def _row(name: str, run: EdgeRun) -> tuple[str, ...]:
    return (
        name,
        run.runtime,
        words(run.ready_s, "s"),
        repr(run.latency),
        _p99(run),
        words(run.worst_s, "s"),
        words(None) if run.deadline_s is None else repr(run.missed()),
        words(run.resident_bytes, "B"),
        words(run.model_bytes, "B"),
        words(run.dependencies_bytes, "B"),
        words(run.joules_per_answer, "J"),
    )


def _phases(run: EdgeRun) -> str:
    """The parts of the time to the first answer."""
    parts = {
        "start of Python": run.start_s,
        "imports": run.import_s,
        "opening the model": run.load_s,
        "answer": run.first_s,
    }
    return ", ".join(f"{part} {words(taken, 's')}" for part, taken in parts.items())


def _p99(run: EdgeRun) -> str:
    try:
        return words(run.percentile(99).value, "s")
    except NotEnoughSamples:
        return words(None)


def _deadline(run: EdgeRun) -> str:
    limit = run.deadline_s
    return (
        ""
        if limit is None
        else f"Late since due: the answer came more than {words(limit, 's')} after its due time."
    )


def _pace(run: EdgeRun) -> str:
    return f"one every {words(run.every_s, 's')}" if run.every_s else "one after the other"


def _energy(runs: list[EdgeRun]) -> str:
    meters = sorted({run.meter for run in runs if run.meter})
    if not meters:
        return "Energy: this computer has no meter that can be read."
    return f"Energy: {', '.join(meters)}, also for waiting and for other programs."
