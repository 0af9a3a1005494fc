"""`kit grade` and `kit validate`: a class with right, wrong, damaged and malicious notebooks.

The class is graded once, by the real thing: processes that are isolated where the system can.
"""

import html
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import hand_ins
import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner

from kit.classroom import batch
from kit.classroom.batch import judge_all
from kit.classroom.cells import Unreadable, parsed, read_notebook
from kit.classroom.grading import grade
from kit.classroom.hand_ins import find_hand_ins, unpack
from kit.classroom.isolation import PACKAGE
from kit.classroom.judging import LessonNames, Need
from kit.classroom.limits import Limits, resident_bytes
from kit.classroom.messages import Peer
from kit.classroom.warm_process import _make
from kit.cli.main import main
from kit.core.errors import BadValue, NotSupported
from kit.core.files import NOTEBOOKS
from kit.experiments.execution import find_notebook

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolates processes by namespaces")
LIMITS = Limits(seconds_s=3.0, memory_bytes=1_000_000_000)
SECRET = "SECRET_OF_THE_TEACHER"
STARTED_S = time.time()
DUE = "2026-03-02 12:00"


def sent(path, made, hour=10, day=2):
    """Write a hand-in as if it had been handed in then, in March 2026."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
    when = pd.Timestamp(2026, 3, day, hour).to_pydatetime().timestamp()
    os.utime(path, (when, when))


@pytest.fixture(scope="module")
def base():
    return hand_ins.handed_out()


@pytest.fixture(scope="module")
def expected():
    return {}


@pytest.fixture(scope="module")
def folder(base, expected, tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    expected.update(hand_ins.write_class(folder))
    right, wrong = (
        hand_ins.solved(base),
        hand_ins.solved(base, account=hand_ins.WRONG["02-account"]),
    )
    sent(folder / "ada" / "first.ipynb", right, hour=10)
    sent(folder / "ada" / "second.ipynb", wrong, hour=14)  # late, and it counts
    sent(folder / "bo" / "good.ipynb", {**right, "x": 1}, hour=10)
    sent(folder / "bo" / "damaged.ipynb", b"{", hour=11)
    sent(folder / "gus" / "mine.ipynb", {**right, "x": 1}, hour=10)
    sent(folder / "cy" / "a.ipynb", hand_ins.with_outputs(base, 7e-4))
    sent(folder / "di" / "b.ipynb", hand_ins.with_outputs(base, 7e-4, mlp_flops="flops = 1"))
    sent(folder / "=2+2" / "x.ipynb", b"{}")
    sent(folder / "eve" / "essay.pdf", b"%PDF")
    (folder / "nobody").mkdir()
    for name in ("board.jsonl", "class.json"):  # the board's records are nobody's hand-in
        sent(folder / "class-board" / name, b"{}")
    (folder / "fay").mkdir()
    (folder / "fay" / "link.ipynb").symlink_to(folder / "ada" / "first.ipynb")
    return folder


@pytest.fixture(scope="module")
def book(folder, base, expected, tmp_path_factory):
    """The class, graded; a thief is in it, and a port that it must not reach."""
    outside = tmp_path_factory.mktemp("outside")
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET, "hunter2")
        thief = hand_ins.THIEF.format(
            other=str(folder / "ada" / "first.ipynb"),
            folder=str(folder),
            solutions=str(NOTEBOOKS / "solutions" / "02.py"),
            outside=str(outside / "x"),
            port=server.getsockname()[1],
        )
        sent(folder / "thief" / "t.ipynb", hand_ins.solved(base, account=thief))
        try:
            book = grade(folder, "02", folder.parent / "grades", due=DUE, jobs=2, limits=LIMITS)
        except NotSupported as error:  # a container without namespaces
            pytest.skip(str(error))
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not list(outside.iterdir())
    return book


@pytest.fixture(scope="module")
def rows(book):
    return {row.student: row for row in book.rows if row.status != "replaced"}


# --- Each kind of hand-in ------------------------------------------------------------------------

KINDS = hand_ins.kinds(hand_ins.handed_out())


def test_there_are_more_than_thirty_kinds_of_damage():
    assert len(KINDS) >= 40


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_one_row_with_the_right_grade(kind, rows):
    row = rows[kind]
    assert (row.status, row.right) == KINDS[kind][1:], row
    if row.status == "graded" and row.right < 2:
        assert row.reason or any(each["reason"] for each in row.exercises)
    if row.status == "not graded":
        assert 5 < len(row.reason) < 200


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("endless loop", "did not end within 3 s"),
        ("fork bomb", "did not end within 3 s"),
        ("10 GB", "MemoryError"),
        ("a file without end", "File too large"),
        ("ends itself", "ended its own process"),
        ("writes into every pipe", "not an answer"),
        ("a large answer", "at most 8,000,000"),
        ("an unknown name", "NameError: name 'nobody'"),
        ("the call is gone", "call of kit.check is missing"),
        ("huge", "21,000,015 bytes"),
        ("empty", "the file is empty"),
        ("half a file", "only a part of one"),
        ("foreign", "none of the lesson's exercises"),
    ],
)
def test_a_reason_says_what_happened(kind, reason, rows):
    assert reason in rows[kind].reason


def test_the_thief_was_able_to_do_nothing(rows):
    (found,) = (each for each in rows["thief"].exercises if each["id"] == "02-account")
    assert found["state"] == "wrong" and found["answer"] == "[]", found
    assert not (PACKAGE / "x").exists()


def test_memory_that_processes_share_is_counted():
    before = resident_bytes()
    with mmap.mmap(-1, 50_000_000) as shared:
        shared.write(bytes(50_000_000))
        assert resident_bytes() - before > 45_000_000


def test_a_judge_that_was_stopped_takes_no_time_from_a_hand_in():
    here, there = os.pipe()
    judge = os.fork()
    if not judge:
        try:
            Peer(here, there, 100, left_s=5)._wait([here], [])
            os._exit(0)
        except BaseException:
            os._exit(1)
    time.sleep(0.3)
    os.kill(judge, signal.SIGSTOP)
    time.sleep(6)
    os.kill(judge, signal.SIGCONT)
    time.sleep(0.5)  # more than a tick: it looks at its clock before the answer comes
    os.write(there, b"x")
    assert os.waitpid(judge, 0)[1] == 0


def test_a_verdict_is_not_what_the_notebook_says(rows):
    for kind in ("patches the check", "forged outputs", "equal to everything"):
        (found,) = (each for each in rows[kind].exercises if each["id"] == "02-account")
        assert found["state"] == "wrong"


# --- Who, when, and which one counts -------------------------------------------------------------


def test_the_last_hand_in_counts_and_is_late(book, rows):
    assert (rows["ada"].file, rows["ada"].right, rows["ada"].late_h) == ("ada/second.ipynb", 1, 2.0)
    (replaced,) = (row for row in book.rows if row.status == "replaced" and row.student == "ada")
    assert replaced.reason == "ada/second.ipynb counts" and replaced.late_h == 0


def test_a_damaged_file_does_not_replace_one_that_can_be_graded(rows):
    assert (rows["bo"].file, rows["bo"].right) == ("bo/good.ipynb", 2)


def test_nobody_is_missing(rows, folder):
    assert {path.name for path in folder.iterdir()} - {"class-board"} == set(rows)
    assert rows["nobody"].reason == "the folder has no file"
    assert rows["eve"].reason == "it is not a notebook (.pdf)"
    assert "link" in rows["fay"].reason


def test_times_that_no_two_machines_share_are_a_hint(rows):
    assert rows["cy"].same_times == ("di",) and rows["di"].same_times == ("cy",)
    assert "the same measured times as di" in rows["cy"].look
    assert not rows["forged outputs"].same_times


def test_the_same_file_is_a_hint(rows):
    assert rows["bo"].same_file == ("gus",) and "the same file as bo" in rows["gus"].look
    assert not rows["ada"].same_file


def test_the_same_unusual_mistake_is_a_hint(rows):
    assert {"both wrong", "one wrong"} <= {*rows["forged outputs"].same_answers}
    assert not rows["both right"].look and not rows["10 GB"].same_answers


def test_what_the_hand_out_says_about_itself_is_read(rows):
    assert rows["another kit"].kit == "0.0.3"
    assert rows["forged outputs"].ran > 20 and rows["both right"].ran == 0


# --- Files ---------------------------------------------------------------------------------------


def test_the_tables_have_a_line_for_each_and_no_formulas(book):
    csv, parquet, _, _ = book.paths
    table = pd.read_csv(csv, dtype={"student": str})
    typed = pd.read_parquet(parquet)
    assert len(table) == len(typed) == len(book.rows)
    assert "'=2+2" in set(table["student"]) and "=2+2" in set(typed["student"])
    right = typed.set_index("file").loc["both right/both right.ipynb"]
    assert (right["right"], right["of"], right["share"]) == (2, 2, 1.0)
    assert right["02-account"] == right["02-mlp-flops"] == "right"


def test_each_student_has_a_page_without_the_solution(book, rows):
    pages = list(book.paths[3].glob("*.html"))
    assert len(pages) == len(rows)
    page = html.unescape((book.paths[3] / "ada.html").read_text())
    assert "1 of 2 exercises" in page and "2.0 hours after the deadline" in page
    assert "Where to begin:" in page and "42,500" not in page and "42_500" not in page
    markup = (book.paths[3] / next(p.name for p in pages if "markup" in p.name)).read_text()
    assert "<script>alert" not in markup and "\x1b" not in markup


def test_nothing_is_left_behind(book):
    left = [*Path(tempfile.gettempdir()).glob("kit-grade-*")]
    left += Path(tempfile.gettempdir()).glob("kit-student-*")
    own = [path for path in left if path.exists() and path.stat().st_mtime > STARTED_S]
    end_s = time.monotonic() + 120  # other tests may grade at the same time
    while time.monotonic() < end_s and any(path.exists() for path in own):
        time.sleep(0.2)
    assert not [path for path in own if path.exists()]


def test_a_second_run_grades_only_what_is_new(folder, book):
    graded = []
    again = grade(
        folder, "02", folder.parent / "grades", due=DUE, jobs=2, limits=LIMITS, say=graded.append
    )
    assert not graded
    assert [row.to_dict() for row in again.rows] == [row.to_dict() for row in book.rows]


def test_a_file_that_came_later_is_the_only_one_that_is_graded(tmp_path):
    folder, graded = tmp_path / "class", []
    lesson = lesson_with(tmp_path / "00-lesson.ipynb", *MEASURED, "answer = None" + CHECKED)

    def judged():
        store = tmp_path / "store"
        return judge_all(find_hand_ins(folder), lesson, store, unsafe=True, say=graded.append)

    for name in ("first.ipynb", "second.ipynb"):
        lesson_with(folder / name, *MEASURED, "answer = break_even.value / 200" + CHECKED)
        judged()
    (folder / "third.ipynb").write_bytes((folder / "first.ipynb").read_bytes())
    assert [row["exercises"][0]["state"] for row in judged()] == ["right"] * 3
    assert graded == ["1 of 1: first.ipynb", "1 of 1: second.ipynb"]


# --- Systems that cannot isolate, and other refusals ---------------------------------------------


def test_without_isolation_it_says_what_is_missing(monkeypatch, tmp_path):
    """The process believes that it runs on a system that the kit does not know."""
    (tmp_path / "sitecustomize.py").write_text(
        "import platform; platform.machine = lambda: 'sparc64'"
    )
    monkeypatch.setattr(batch, "PACKAGE", Path(f"{tmp_path}{os.pathsep}{PACKAGE}"))
    lesson = str(lesson_with(tmp_path / "00-lesson.ipynb", "import kit"))
    settings = {"lesson": "00", "notebook": lesson, "unsafe": False, "hidden": [], "limits": {}}
    with pytest.raises(NotSupported, match=r"cannot isolate.*sparc64.*--unsafe"):
        batch.WarmProcess(settings)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--lesson", "02"], "no such folder or zip"),
        ([".", "--lesson", "02"], "nothing was handed in"),
        ([".", "--lesson", "99"], "no notebook is called '99'"),
        ([".", "--lesson", "02", "--due", "Friday"], "needs a date"),
    ],
)
def test_a_wrong_command_is_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(main, ["grade", *words, "--out", "grades"])
    assert answer.exit_code == 2 and said in answer.stderr
    assert not (tmp_path / "grades" / "gradebook.csv").exists()


def test_a_zip_cannot_leave_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as packed:
        packed.writestr("Ada_7_assignsubmission_file/02.ipynb", "{}")
        packed.writestr("../../evil.ipynb", "{}")
        packed.writestr("/abs.ipynb", "{}")
        packed.writestr("__MACOSX/._02.ipynb", "{}")
    unpack(tmp_path / "class.zip", tmp_path / "in" / "side")
    assert not (tmp_path / "evil.ipynb").exists() and not Path("/abs.ipynb").exists()
    found = find_hand_ins(tmp_path / "in" / "side")
    assert {each.student for each in found} == {"Ada", "evil", "abs"}
    (tmp_path / "no.zip").write_text("no")
    with pytest.raises(BadValue, match="not a zip"):
        unpack(tmp_path / "no.zip", tmp_path)


# --- Answers that depend on what the lesson made -------------------------------------------------


def lesson_with(path, *cells):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


MEASURED = [
    "import kit\nfrom types import SimpleNamespace",
    "break_even = SimpleNamespace(value=9e4)",
]
CHECKED = '\nkit.check("00-days", answer, break_even=break_even.value)'
IN_THE_CLASS = {  # the answer -> how it is judged
    "answer = break_even.value / 200": "right",
    "answer = break_even.value / 100": "wrong",
    "answer = 300.0": "look",  # right on the student's machine, perhaps
    "break_even.value = 200\nanswer = 1": "wrong",  # its own copy only
    "answer = 450.0": "right",
}


def test_a_measured_answer_is_checked_with_what_the_grader_measured(tmp_path):
    lesson = lesson_with(tmp_path / "00-lesson.ipynb", *MEASURED, "answer = None" + CHECKED)
    for i, answer in enumerate(IN_THE_CLASS):
        lesson_with(tmp_path / "class" / f"s{i}.ipynb", *MEASURED, answer + CHECKED)
    found = judge_all(find_hand_ins(tmp_path / "class"), lesson, tmp_path / "store", unsafe=True)
    assert [row["exercises"][0]["state"] for row in found] == list(IN_THE_CLASS.values())


MODELS = {  # the answer gets a model of the judge, and calls it from its own process
    "def f(m, x, y): return (kit.predict(m, x).argmax(-1) == y).float().mean().item()": "right",
    "def f(m, x, y): return (m(x).argmax(-1) == y).float().mean().item()": "wrong",
    "def f(m, x, y): return (m.eval()(x).argmax(-1) == y).float().mean().item()": "wrong",
}


def test_an_answer_can_call_what_the_judge_gives_it(tmp_path):
    call = '\nkit.check("01-accuracy", f)'
    lesson = lesson_with(tmp_path / "01-lesson.ipynb", "import kit", f"f = None{call}")
    for i, answer in enumerate(MODELS):
        lesson_with(tmp_path / "class" / f"s{i}.ipynb", "import kit", answer + call)
    found = judge_all(find_hand_ins(tmp_path / "class"), lesson, tmp_path / "store", unsafe=True)
    exercises = [row["exercises"][0] for row in found]
    assert [each["state"] for each in exercises] == list(MODELS.values())
    assert "in training mode while it predicted" in exercises[1]["reason"]
    assert "Restore it" in exercises[2]["reason"]


# --- When the system takes memory or a process away ----------------------------------------------


class Killed(batch.WarmProcess):
    """A process that answers `good` once it has been started so often, and else ends."""

    def __init__(self, good_from):
        self.starts, self.good_from = 0, good_from
        super().__init__({})

    def _started(self):
        self.starts += 1
        code = 'print(\'{"problem": ""}\')' if self.starts >= self.good_from else "pass"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-Ssc", f"input(); {code}"], **pipes)


@pytest.mark.parametrize(("good_from", "problem"), [(2, ""), (9, "grading it broke the grader's")])
def test_a_process_that_was_killed_once_says_nothing_about_the_file(good_from, problem, tmp_path):
    process = Killed(good_from)
    try:
        assert process.grade(tmp_path / "x.ipynb")["problem"].startswith(problem)
        assert process.starts == min(good_from, 3)
    finally:
        process.close()


FORKS = """
import os, signal, sys
from pathlib import Path
from kit.classroom.warm_process import _in_a_fork

def work():
    begun = Path("begun")
    begun.write_text(begun.read_text() + "x" if begun.exists() else "x")
    if len(begun.read_text()) <= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"problem": ""}

print(_in_a_fork(work, 20)["problem"])
"""


@pytest.mark.parametrize(("killed", "problem"), [(1, "\n"), (9, "grading it ended early")])
def test_a_judge_that_was_killed_once_says_nothing_about_the_file(killed, problem, tmp_path):
    """In a process of its own: a fork that ends takes all children of its parent with it."""
    words = [sys.executable, "-c", FORKS, str(killed)]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(problem)
    assert (tmp_path / "begun").read_text() == "xx"


def test_too_little_memory_is_not_a_fault_of_the_file(base, tmp_path, monkeypatch):
    def full(_):
        raise MemoryError

    path = tmp_path / "class" / "ada.ipynb"
    sent(path, hand_ins.solved(base))
    monkeypatch.setattr("kit.classroom.cells.read_json", full)
    with pytest.raises(Unreadable, match="too little memory") as error:
        read_notebook(path)
    row = {"problem": str(error.value), "exercises": []}
    monkeypatch.setattr(batch, "_fresh", lambda missing, *_: ((key, row) for key in missing))
    found = judge_all(find_hand_ins(path.parent), find_notebook("02"), tmp_path / "store")
    assert found == [row] and not (tmp_path / "store").exists()  # the next time it is graded


# --- kit validate --------------------------------------------------------------------------------


def test_validate_says_what_the_grader_will_find(base, tmp_path):
    made = hand_ins.solved(base, mlp_flops="flops = widths" + '\nkit.check("02-mlp-flops", flops)')
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(made))
    answer = CliRunner().invoke(main, ["validate", str(path)])
    assert answer.exit_code == 1, answer.output
    for said in ("02-account: right.", "cannot be run:", "name 'widths'", "To do: write your name"):
        assert said in answer.stdout
    assert "Not ready to hand in." in answer.stdout


def test_validate_refuses_what_is_not_a_lesson(tmp_path):
    for content, said in (("{", "it is not a notebook"), ('{"cells": []}', "no kit.check")):
        path = tmp_path / "a.ipynb"
        path.write_text(content)
        answer = CliRunner().invoke(main, ["validate", str(path)])
        assert answer.exit_code == 2 and said in answer.stderr


def test_what_an_answer_uses_and_its_check_are_of_one_run_of_the_lesson():
    """A second run measures something else, and a right answer would be wrong."""
    sources = (
        "import random\nmeasured = random.random()",
        'answer = None\nkit.check("00-days", answer, break_even=measured)',
    )
    lesson = LessonNames("00", [parsed(i, source) for i, source in enumerate(sources)])
    need = Need("00-days", frozenset({"measured"}))
    _make(need, lesson)
    assert lesson.made[need]["measured"] == lesson.measured[need]["break_even"]
    alone = Need("00-days", frozenset())
    _make(alone, lesson)
    assert alone not in lesson.made and set(lesson.measured[alone]) == {"break_even"}
