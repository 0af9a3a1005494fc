"""Which runs decide a claim, as the head of `kit/course/claims.toml` says.

deciding_verdicts  each verdict on a claim of the ledger, with its run
without_shorter    a longer run of a notebook counts in place of a shorter one
decides            whether a run is of a notebook that the ledger names for a claim
part_of            of a claim with parts, the question that a verdict answers
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kit.course.claims import COLOURS, Claim, ledger
from kit.experiments.records import DONE, ExecutedRun

AMOUNTS = ("trainings", "seeds", "budget_s", "duration_s")  # more of them: narrower intervals
FREE = (*AMOUNTS, "seed")  # another seed measures the same thing again

Given = tuple[ExecutedRun, dict[str, Any]]  # a run, and the record of one of its verdicts


def deciding_verdicts(runs: Iterable[ExecutedRun]) -> Iterator[Given]:
    """Each verdict on a claim of the ledger, with its run, but for runs with a longer one."""
    for run in without_shorter(list(runs)):
        for record in run.records:
            if record["kind"] == "Verdict" and _on_the_ledger(record):
                yield run, record


def _on_the_ledger(record: dict[str, Any]) -> bool:
    """Whether the claim and the word exist: a stranger's notebook can contain anything."""
    id, word = record.get("claim_id"), str(record.get("verdict"))
    known = isinstance(id, str) and id in ledger() and word.startswith(tuple(COLOURS))
    return known and isinstance(record.get("measured"), dict)


def without_shorter(runs: Sequence[ExecutedRun]) -> list[ExecutedRun]:
    """The runs without those of which a longer one is among them.

    A longer run is of the same notebook with the same parameters, but for the seed, and measures
    as much or more of everything. It counts whatever it found: all verdicts of the shorter run go.
    """
    return [run for run in runs if not any(_is_longer(other, run) for other in runs)]


def _is_longer(one: ExecutedRun, other: ExecutedRun) -> bool:
    if one.notebook != other.notebook or one.status != DONE:
        return False
    first, second = one.parameters, other.parameters
    names = first.keys() | second.keys()
    if any(first.get(name) != second.get(name) for name in names - set(FREE)):
        return False
    pairs = [(first[n], second[n]) for n in AMOUNTS if n in first and n in second]
    if not all(type(value) in (int, float) for pair in pairs for value in pair):
        return False  # a stranger's notebook may give text
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def decides(run: ExecutedRun, claim: Claim) -> bool:
    """Whether the ledger names this run's notebook, a lesson or an experiment, for the claim."""
    number = run.notebook[:2]
    return (number if number.isdigit() else "experiments") in claim.lessons


def part_of(run: ExecutedRun, claim: Claim, record: dict[str, Any]) -> str:
    """The question that the verdict answers, of a claim with parts; else ""."""
    return claim.parts.get(str(record.get("part") or run.notebook[:2]), "")
