"""The rows of a gradebook: who handed in what, which hand-in counts, and what to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kit.classroom.copies import SAME_TIMES, shared
from kit.classroom.hand_ins import HandIn
from kit.core.units import plural
from kit.plots import Table

GRADED, UNTOUCHED, REFUSED, REPLACED = "graded", "untouched", "not graded", "replaced"


@dataclass(frozen=True)
class Row:
    """One hand-in in the gradebook."""

    student: str
    name: str  # as the student wrote it into the notebook
    file: str
    status: str
    reason: str  # why it has no grade, or what to look at
    right: int
    of: int
    late_h: float | None  # hours after the deadline; 0 in time; None without a deadline
    handed_in: str
    kit: str  # the version that the notebook came from
    ran: int  # cells that ran before it was handed in
    exercises: tuple[dict[str, Any], ...] = ()
    same_answers: tuple[str, ...] = ()
    same_times: tuple[str, ...] = ()
    same_file: tuple[str, ...] = ()
    worth: tuple[tuple[str, float], ...] = ()  # points of each exercise, if the teacher gave some

    @property
    def points(self) -> float | None:
        """Points of the right answers; None without points, or if nothing could be judged."""
        right = {each["id"] for each in self.exercises if each["state"] == "right"}
        if self.status != GRADED or not self.worth:
            return None
        return sum(points for id, points in self.worth if id in right)

    @property
    def of_points(self) -> float:
        """All points of the lesson."""
        return sum(points for _, points in self.worth)

    @property
    def share(self) -> float | None:
        """Of the points, or else of the answers, from 0 to 1; None if nothing could be judged."""
        if self.points is not None:
            return self.points / self.of_points
        return self.right / self.of if self.status == GRADED and self.of else None

    @property
    def look(self) -> str:
        """What the teacher should look at, in words; empty if nothing."""
        hints = [
            ("the same unusual wrong answer as", self.same_answers),
            ("the same measured times as", self.same_times),
            ("the same file as", self.same_file),
        ]
        said = [f"{words} {', '.join(others)}" for words, others in hints if others]
        open_ = [e["id"] for e in self.exercises if e["state"] == "look"]
        said += [f"{', '.join(open_)}: judge by hand"] if open_ else []
        return "; ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """For the table: one column for each exercise."""
        states = {each["id"]: each["state"] for each in self.exercises}
        return {
            "student": self.student,
            "name": self.name,
            "status": self.status,
            "right": self.right if self.status == GRADED else None,
            "of": self.of,
            **({"points": self.points, "of_points": self.of_points} if self.worth else {}),
            "share": self.share,
            **states,
            "late_h": self.late_h,
            "handed_in": self.handed_in,
            "reason": self.reason,
            "look_at": self.look,
            "kit": self.kit,
            "cells_ran": self.ran,
            "file": self.file,
        }


@dataclass(frozen=True)
class GradeBook:
    """The hand-ins of a class for one lesson."""

    lesson: str
    title: str
    rows: tuple[Row, ...]
    paths: tuple[Path, ...] = ()  # the files that were written

    @property
    def summary(self) -> str:
        """How many hand-ins there are, and what became of them, in one sentence."""
        counts = Counter(row.status for row in self.rows)
        said = ", ".join(f"{n:,} {status}" for status, n in counts.most_common())
        return f"{plural(len(self.rows), 'hand-in')}: {said}."

    def table(self) -> Table:
        """A line for each hand-in."""
        rows = [
            (r.student, f"{r.right} of {r.of}" if r.share is not None else "—", r.status, r.reason)
            for r in self.rows
        ]
        return Table(("student", "right", "status", "reason"), rows, self.summary)


# --- Rows ----------------------------------------------------------------------------------------


def rows_of(
    hand_ins: Sequence[HandIn],
    found: Sequence[dict[str, Any]],
    digests: Sequence[str],
    ids: Sequence[str],
    deadline: datetime | None,
    lesson: str,
) -> list[Row]:
    """A row for each hand-in, by student.

    Parameters
    ----------
    found
        What was found in each of them.
    digests
        Of their contents.
    ids
        The lesson's exercises.
    lesson
        The name of its notebook: a file that is still called so does not say whose it is.
    """
    students = [_student(h, f, lesson) for h, f in zip(hand_ins, found, strict=True)]
    counts = _that_count(students, hand_ins, found)
    n, last = len(set(students)), dict(counts.items())
    chosen = {student: found[i] for student, i in last.items()}
    answers = {s: [e.get("same", "") for e in f["exercises"]] for s, f in chosen.items()}
    times = {s: f.get("times", []) for s, f in chosen.items()}
    files = {s: [digests[last[s]]] for s, f in chosen.items() if _status(f) == GRADED}
    same_answers, same_files = shared(answers, n), shared(files, n)
    same_times = shared(times, n, SAME_TIMES)
    rows = []
    for i, (hand_in, one, student) in enumerate(zip(hand_ins, found, students, strict=True)):
        counts_here = last[student] == i
        status = _status(one) if counts_here else REPLACED
        reason = _reason(one) if counts_here else f"{hand_ins[last[student]].name} counts"
        handout = one.get("handout", {})
        right = sum(each["state"] == "right" for each in one["exercises"])
        hints = (same_answers, same_times, same_files) if counts_here else ({}, {}, {})
        rows.append(
            Row(
                *(student, handout.get("student", ""), hand_in.name, status, reason),
                *(right, len(ids), _late_h(hand_in, deadline), _when(hand_in)),
                *(handout.get("kit", ""), one.get("ran", 0), tuple(one["exercises"])),
                same_answers=tuple(hints[0].get(student, ())),
                same_times=tuple(hints[1].get(student, ())),
                same_file=tuple(hints[2].get(student, ())),
            )
        )
    return sorted(rows, key=lambda row: (row.student.casefold(), row.file))


def _student(hand_in: HandIn, found: dict[str, Any], lesson: str) -> str:
    """By the folder or the file's name; by the name in the notebook if the file's says nothing."""
    if "/" in hand_in.name or not hand_in.student.startswith(lesson[:8]):
        return hand_in.student
    return found.get("handout", {}).get("student", "") or hand_in.name


def _that_count(
    students: Sequence[str], hand_ins: Sequence[HandIn], found: Sequence[dict[str, Any]]
) -> dict[str, int]:
    """Student -> the hand-in that counts: the last one that can be graded, else the last one."""
    by_student = defaultdict(list)
    for i, student in enumerate(students):
        by_student[student].append(i)

    def order(i: int) -> tuple[bool, bool, float, str]:
        gradable = _status(found[i]) == GRADED
        return gradable, not hand_ins[i].problem, hand_ins[i].modified, hand_ins[i].name

    return {student: max(places, key=order) for student, places in by_student.items()}


def _status(found: dict[str, Any]) -> str:
    if found["problem"]:
        return REFUSED
    states = {each["state"] for each in found["exercises"]}
    reasons = any(each["reason"] for each in found["exercises"])
    return UNTOUCHED if states == {"no answer"} and not reasons else GRADED


def _reason(found: dict[str, Any]) -> str:
    if found["problem"]:
        return str(found["problem"])
    if _status(found) == UNTOUCHED:
        return "no exercise has an answer: the notebook is as it was handed out"
    failed = [each for each in found["exercises"] if each["state"] != "right" and each["reason"]]
    states = ("failed", "look", "no answer")
    return "; ".join(f"{e['id']}: {e['reason']}" for e in failed if e["state"] in states)


def _late_h(hand_in: HandIn, deadline: datetime | None) -> float | None:
    if deadline is None or not hand_in.modified:
        return None
    return max(0.0, round((hand_in.modified - deadline.timestamp()) / 3600, 2))


def _when(hand_in: HandIn) -> str:
    if not hand_in.modified:
        return ""
    return datetime.fromtimestamp(hand_in.modified).strftime("%Y-%m-%d %H:%M")
