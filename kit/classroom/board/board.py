"""The state of a class: who is in it, what they guessed and measured, what the projector shows.

Every change is an event. An event is checked, written into the journal, and only then it changes
the state; so the same events give the same state again after a restart.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kit.classroom.board.journal import Journal
from kit.classroom.board.questions import Question
from kit.core.checks import is_number
from kit.experiments.class_comparison import letter
from kit.experiments.class_differences import FACTS
from kit.experiments.untrusted_notebooks import safe_line

GUESS, MEASURED, CLOSED = "guess", "measured", "closed"  # what the projector shows
NICKNAME, FACT_TEXT = 24, 80  # characters
TEXTS = ("processor", "accelerator", "system")  # facts that are names
LARGEST = 1e30


class Refused(Exception):
    """A message that the board does not take: the HTTP status, and what to do."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Student:
    """Who joined: a number, and a nickname if one was given."""

    number: int
    nickname: str = ""

    @property
    def name(self) -> str:
        """On the board: the nickname, or a letter."""
        return self.nickname or letter(self.number)


@dataclass
class Answer:
    """What one student guessed and measured for one question."""

    guess: float | None = None
    value: float | None = None  # None: not measured yet
    low: float | None = None
    high: float | None = None
    machine: dict[str, Any] = field(default_factory=dict)


class Board:
    """A class and its questions; it writes all that happens into the journal."""

    def __init__(
        self,
        questions: Sequence[Question],
        journal: Journal,
        *,
        most_students: int = 100,
        clock: Callable[[], float] = time.time,
    ):
        self.questions = {each.id: each for each in questions}
        self.journal, self.most_students, self.clock = journal, most_students, clock
        self.students: dict[str, Student] = {}  # by the digest of their token
        self.answers: dict[str, dict[int, Answer]] = {id: {} for id in self.questions}
        self.current = next(iter(self.questions))
        self.shows = GUESS
        self.version = 0  # it grows with every change
        for event in journal.events:
            self._apply(event)

    # --- What happens ---

    def join(self, nickname: Any, before: Any) -> tuple[Student, str]:
        """A student, and a token for the messages to come; the same one with an earlier token."""
        self._check_open()
        if isinstance(before, str) and digest(before) in self.students:
            return self.students[digest(before)], before
        if len(self.students) >= self.most_students:
            raise Refused(503, f"the class is full: {self.most_students} have joined.")
        name = safe_line(nickname or "", "nickname", NICKNAME) if _is_text(nickname) else ""
        token = secrets.token_urlsafe(24)
        self._add("joined", student=len(self.students), nickname=name, token=digest(token))
        return self.students[digest(token)], token

    def student(self, token: str) -> Student:
        """The student with this token."""
        if digest(token) not in self.students:
            raise Refused(401, "this class does not know you. Join it again with kit.join.")
        return self.students[digest(token)]

    def guess(self, student: Student, message: dict[str, Any]) -> None:
        """A guess; after the student has measured, it does not change any more."""
        id = self._question(message)
        value = _number(message, "guess")
        if (before := self.answers[id].get(student.number)) and before.value is not None:
            return
        self._add(GUESS, student=student.number, question=id, guess=self._fits(id, value))

    def measured(self, student: Student, message: dict[str, Any]) -> None:
        """A measurement with its interval, and what may explain it."""
        id = self._question(message)
        value = self._fits(id, _number(message, "value", needed=True))
        low, high = (_number(message, end) for end in ("low", "high"))
        assert value is not None
        if (low is not None and low > value) or (high is not None and high < value):
            raise Refused(400, "the value lies outside of its interval.")
        guess = self._fits(id, _number(message, "guess"))
        ends = {"value": value, "low": low, "high": high, "guess": guess}
        machine = facts_of(message.get("machine"))
        self._add(MEASURED, student=student.number, question=id, **ends, machine=machine)

    def show(self, what: str, id: str | None = None) -> None:
        """The teacher's choice: which question the projector shows, and whether measurements."""
        if what not in (GUESS, MEASURED, CLOSED):
            raise Refused(400, f"shows {GUESS}, {MEASURED} or {CLOSED}.")
        self._add("shown", what=what, question=self._question({"question": id or self.current}))

    def beside(self, step: int) -> str:
        """The question before or after the current one."""
        ids = list(self.questions)
        return ids[min(max(ids.index(self.current) + step, 0), len(ids) - 1)]

    # --- Checks ---

    def _check_open(self) -> None:
        if self.shows == CLOSED:
            raise Refused(410, "the class is closed. Nothing more is taken.")

    def _question(self, message: dict[str, Any]) -> str:
        id = message.get("question")
        if not isinstance(id, str) or id not in self.questions:
            raise Refused(400, f"question: needs one of {', '.join(self.questions)}.")
        return id

    def _fits(self, id: str, value: float | None) -> float | None:
        """The value, if the question can have it: which of the choices, or any number."""
        choices = len(self.questions[id].choices)
        if choices and value is not None and value not in range(choices):
            raise Refused(400, f"needs a whole number from 0 to {choices - 1}.")
        return value

    # --- State ---

    def _add(self, kind: str, **values: Any) -> None:
        if kind != "shown":
            self._check_open()
        event = {"event": kind, "at": round(self.clock(), 3), **values}
        self.journal.append(event)
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        """Change the state; an event of another version of the kit is passed over."""
        kind, id = event["event"], event.get("question")
        self.version += 1
        if kind == "joined":
            self.students[event["token"]] = Student(event["student"], event.get("nickname", ""))
        elif kind == "shown" and id in self.questions:
            self.current, self.shows = id, event["what"]
        elif kind in (GUESS, MEASURED) and id in self.questions:
            answer = self.answers[id].setdefault(event["student"], Answer())
            if event.get("guess") is not None and answer.value is None:
                answer.guess = event["guess"]
            if kind == MEASURED:
                answer.value, answer.low = event["value"], event.get("low")
                answer.high, answer.machine = event.get("high"), event.get("machine", {})


def digest(token: str) -> str:
    """What the journal stores instead of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()[:32]


def facts_of(given: Any) -> dict[str, Any]:
    """What explains a measurement: known numbers and names only, each within its limits."""
    if not isinstance(given, dict):
        return {}
    found: dict[str, Any] = {}
    for name in FACTS:
        value = given.get(name)
        if name in TEXTS and isinstance(value, str):
            found[name] = safe_line(value, name, FACT_TEXT)
        elif name not in TEXTS and is_number(value) and abs(value) < LARGEST:
            found[name] = value
    return found


def _number(message: dict[str, Any], name: str, needed: bool = False) -> float | None:
    value = message.get(name)
    if value is None and not needed:
        return None
    if not is_number(value) or not math.isfinite(value) or abs(value) > LARGEST:
        raise Refused(400, f"{name}: needs a number below {LARGEST:.0e}.")
    return float(value)


def _is_text(given: Any) -> bool:
    return isinstance(given, str)
