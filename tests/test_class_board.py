"""`kit class` and `kit.join`: a real board, laptops that send, a teacher, a page in a browser."""

import json
import math
import socket
import sys
import time

import psutil
import pytest
from axe import SCHEMES, violations
from browser import Watch, running_chromium
from class_board import RunningBoard, events, permissions

import kit
from kit.classroom.board.board import GUESS, MEASURED, Board, Refused
from kit.classroom.board.journal import Journal
from kit.classroom.board.questions import Question, questions_of
from kit.classroom.board.rates import Rates
from kit.classroom.board.view import view
from kit.core.errors import BadValue
from kit.core.statistics import Estimate
from kit.course import joining, panels
from kit.experiments import lessons
from kit.experiments.class_differences import differences
from kit.experiments.class_records import events_in

STEP = "A training step takes how many times as long as a prediction?"
MACHINE = {"processor": "Intel(R) Core(TM) i5-1235U CPU @ 1.3GHz", "threads": 4, "cores": 8}
PATIENCE_S = 20


def until(true):
    """Wait until it is true; a test fails if it never is."""
    end = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


# --- Without a server ----------------------------------------------------------------------------

QUESTIONS = [
    Question("02-1", STEP, "×"),
    Question("06-1", "Which share is right?", "%"),
    Question("08-1", "Which is first?", "", ("Muon", "fused")),
]


@pytest.fixture
def board(tmp_path):
    journal = Journal(tmp_path / "class")
    yield Board(QUESTIONS, journal, most_students=40)
    journal.close()


def joined(board, n):
    return [board.join("", "")[0] for _ in range(n)]


def test_every_lesson_has_a_question_and_each_is_found_by_its_words():
    found = questions_of(lessons())
    assert {each.lesson for each in found} == {path.name[:2] for path in lessons()}
    words = [each.for_students()["wording"] for each in found]
    assert len(set(words)) == len(words) and not any(c.isdigit() for text in words for c in text)
    assert {each.unit for each in found if not each.choices} >= {"×", "%", "ms", "answers"}


def test_the_same_events_give_the_same_state_again(board, tmp_path):
    for i, student in enumerate(joined(board, 5)):
        board.guess(student, {"question": "02-1", "guess": 2.0 + i})
        board.measured(student, measured(3.0 + i))
    board.show(MEASURED)
    with (tmp_path / "class" / "board.jsonl").open("ab") as file:
        file.write(b'{"event": "guess", "stud')  # the power fails here
    again = Journal(tmp_path / "class")
    restarted = Board(QUESTIONS, again, most_students=40)
    assert again.damaged == 1
    before, after = view(board), view(restarted)
    assert {**before, "version": 0} == {**after, "version": 0}
    joined(restarted, 1)
    assert events_in((tmp_path / "class" / "board.jsonl").read_bytes())[1] == 1  # no further line
    again.close()


def measured(value, question="02-1", width=1.1, machine=MACHINE):
    ends = {"low": value / width, "high": value * width}
    return {"question": question, "guess": None, "value": value, **ends, "machine": machine}


def test_a_guess_after_the_measurement_changes_nothing(board):
    (student,) = joined(board, 1)
    board.guess(student, {"question": "02-1", "guess": 5.0})
    board.measured(student, measured(9.0))
    board.guess(student, {"question": "02-1", "guess": 9.0})
    board.measured(student, {**measured(9.1), "guess": 9.0})  # the cell was run again
    (answer,) = board.answers["02-1"].values()
    assert (answer.guess, answer.value) == (5.0, 9.1)


@pytest.mark.parametrize(
    "message",
    [
        {"question": "02-1", "value": "9"},
        {"question": "02-1", "value": True},
        {"question": "02-1", "value": math.inf},
        {"question": "02-1", "value": 1e40},
        {"question": "02-1", "value": 3.0, "low": 4.0, "high": 5.0},
        {"question": "02-1"},
        {"question": "07-1", "value": 3.0},
        {"question": ["02-1"], "value": 3.0},
        {"question": "08-1", "value": 2},
        {"question": "08-1", "value": 0.5},
    ],
)
def test_a_message_that_cannot_be_is_refused_and_not_recorded(board, message):
    (student,) = joined(board, 1)
    with pytest.raises(Refused) as refused:
        board.measured(student, message)
    assert refused.value.status == 400
    assert not [e for e in board.journal.events if e["event"] == MEASURED]
    assert not board.answers["02-1"]


def test_of_a_machine_only_known_numbers_and_names_are_recorded(board):
    (student,) = joined(board, 1)
    given = {
        **MACHINE,
        "accelerator": "x" * 500 + "\x1b[2J",
        "hostname": "adas-laptop",
        "clock_hz": "fast",
        "load": math.nan,
        "threads": {"a": 1},
    }
    board.measured(student, measured(3.0, machine=given))
    machine = board.answers["02-1"][0].machine
    assert set(machine) == {"processor", "accelerator", "cores"}
    assert len(machine["accelerator"]) <= 81


def test_a_class_is_full_and_a_closed_one_takes_nothing(board):
    students = joined(board, 40)
    with pytest.raises(Refused, match="full"):
        board.join("", "")
    board.show("closed")
    for act in (lambda: board.join("", ""), lambda: board.measured(students[0], measured(1.0))):
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.status == 410


def test_the_histogram_counts_every_guess_and_measurements_wait_for_the_teacher(board):
    guesses = [0.3, 1.0, 1.9, 2.0, 4.0, 80.0]
    for student, guess in zip(joined(board, len(guesses)), guesses, strict=True):
        board.guess(student, {"question": "02-1", "guess": guess})
        board.measured(student, measured(12.0))
    shown = view(board)
    counts = {each["text"]: each["count"] for each in shown["bins"] if each["count"]}
    assert counts == {
        "0.2 × to 0.5 ×": 1, "1 × to 2 ×": 2, "2 × to 5 ×": 2, "50 × to 100 ×": 1,
    }  # fmt: skip
    assert shown["groups"] == [] and "12.0" not in json.dumps(shown)
    board.show(MEASURED)
    (group,) = view(board)["groups"]
    assert group["text"] == "Intel Core i5-1235U" and len(group["laptops"]) == 6
    assert group["laptops"][0]["text"] == "12.0 × [10.9 to 13.2 ×]"
    board.show(GUESS, "06-1")
    assert [each["text"] for each in view(board)["axis"]][::5] == ["0 %", "50 %", "100 %"]


def test_many_processors_become_groups_the_fastest_first(board):
    for i, student in enumerate(joined(board, 30)):
        machine = {"processor": f"chip {i % 15}"}
        board.measured(student, measured(2.0 + i % 15, machine=machine))
    board.show(MEASURED)
    groups = view(board)["groups"]
    assert len(groups) == 12 and sum(len(each["laptops"]) for each in groups) == 30
    assert "other processors" in [each["text"] for each in groups]
    middles = [each["laptops"][0]["value"] for each in groups if each["text"] != "other processors"]
    assert middles == sorted(middles)


def test_an_order_is_a_count_of_what_comes_first(board):
    for i, student in enumerate(joined(board, 3)):
        board.guess(student, {"question": "08-1", "guess": i % 2})
        board.measured(student, {"question": "08-1", "value": 1})
    board.show(GUESS, "08-1")
    assert view(board)["bars"][1] == {"text": "fused", "guesses": 1, "measured": 0}
    board.show(MEASURED)
    assert view(board)["bars"][1] == {"text": "fused", "guesses": 1, "measured": 3}


def laptops(values, **facts):
    known = [dict(zip(facts, each, strict=True)) for each in zip(*facts.values(), strict=True)]
    return [Estimate(v, v / 1.05, v * 1.05, "×") for v in values], known


def test_only_differences_that_the_intervals_carry_count():
    values, known = laptops(
        [1.0, 1.1, 0.9, 1.05, 2.0, 2.2, 1.9, 2.1],
        on_battery=[0, 0, 0, 0, 1, 1, 1, 1],
        load=[0.1, 0.9, 0.2, 0.8, 0.15, 0.95, 0.25, 0.85],
        threads=[4] * 8,
    )
    found = {each.facts[0]: each for each in differences(values, known)}
    assert set(found) == {"power", "load before"}  # what all have in common explains nothing
    power = found["power"]
    assert power.carried and power.groups == "on battery (4) ÷ at the mains (4)"
    assert power.value.low > 1.5 and power.value.high < 2.7
    assert not found["load before"].carried
    wide = [Estimate(e.value, e.value / 9, e.value * 9, "×") for e in values]
    assert not any(each.carried for each in differences(wide, known))


def test_facts_that_divide_the_laptops_alike_are_one_row_and_one_laptop_is_no_group():
    values, known = laptops([1.0, 1.1, 3.0, 3.2], cores=[4, 4, 8, 8], threads=[2, 2, 4, 4])
    (only,) = differences(values, known)
    assert only.facts == ("cores", "threads")
    values, known = laptops([1.0, 1.1, 3.0], cores=[4, 4, 8])
    assert differences(values, known) == []


def test_shares_differ_by_points():
    values = [Estimate(v, v - 0.01, v + 0.01, "%") for v in (0.5, 0.52, 0.8, 0.81)]
    (found,) = differences(values, [{"threads": n} for n in (1, 1, 2, 2)])
    assert found.value.unit == "points" and found.carried and "−" in found.groups


def test_there_is_seldom_a_difference_where_there_is_none():
    """All 13 facts are tried, so each interval is wider: in 200 classes, few false alarms."""
    import numpy as np

    rng, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        values = np.exp(rng.normal(0, 0.2, 24))
        facts = {name: rng.integers(0, 2, 24) for name in ("threads", "cores", "load", "clock_hz")}
        given = [Estimate(v, v * 0.95, v * 1.05, "×") for v in values]
        known = [{name: int(each[i]) for name, each in facts.items()} for i in range(24)]
        alarms += any(each.carried for each in differences(given, known))
    assert alarms <= 20  # 5 % are 10


# --- With a server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A board that was killed in the middle of a class, and started again."""
    folder = tmp_path_factory.mktemp("class") / "records"
    first = RunningBoard(folder, "02", "08")
    token = first.join("Ada")
    assert first.post("/api/guess", {"question": "02-1", "guess": 4.0}, token)[0] == 200
    first.kill()
    with (folder / "board.jsonl").open("ab") as file:
        file.write(b'{"event": "measur')
    again = RunningBoard(folder)
    again.before, again.token = first, token
    yield again
    again.stop()


def test_nothing_is_lost_when_the_board_is_killed(running):
    assert (running.code, running.secret) == (running.before.code, running.before.secret)
    shown = running.view()
    assert (shown["lesson"], shown["students"], shown["guessed"]) == ("02", 1, 1)
    assert running.post("/api/measured", measured(9.0), running.token)[0] == 200
    until(lambda: running.view()["measured"] == 1)
    (event,) = events(running.folder, MEASURED)
    assert event["value"] == 9.0 and event["machine"]["threads"] == 4


def test_the_records_are_private_and_hold_no_token(running):
    assert permissions(running.folder) == 0o700
    assert permissions(running.folder / "board.jsonl") == 0o600
    assert permissions(running.folder / "class.json") == 0o600
    text = (running.folder / "board.jsonl").read_text()
    assert running.token not in text and running.secret not in text and running.code not in text


def test_it_is_reached_from_this_computer_only(running):
    assert running.where.startswith("127.0.0.1:")
    listening = psutil.Process(running.process.pid).net_connections("inet")
    assert {each.laddr.ip for each in listening if each.status == "LISTEN"} == {"127.0.0.1"}


def test_who_may_do_what(running):
    student = running.join()
    for key in ("", running.code, student, running.secret[:-1]):
        assert running.post("/api/teacher", {"do": "next"}, key)[0] == 403
    assert running.view(running.code)["code"] == running.code  # a student may look, too
    assert running.post("/api/guess", {"question": "02-1", "guess": 2.0}, "x")[0] == 401
    assert running.post("/api/join", {"code": "AAAAAA"})[0] == 403
    assert running.post("/api/teacher", {"do": "fly"}, running.secret)[0] == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[1]", 400), (b"x" * 5_000, 413), (b'{"a":' * 800, 400)],
)
def test_a_body_that_is_too_long_or_not_json_is_refused(running, body, status):
    for path in ("/api/join", "/api/guess", "/api/teacher"):
        key = running.secret if path.endswith("teacher") else running.token
        assert running.post(path, body, key)[0] == status


def test_a_form_of_another_page_cannot_send(running):
    headers = {"content-type": "text/plain"}
    assert running.post("/api/join", {"code": running.code}, **headers)[0] == 415


def test_a_laptop_that_sends_too_often_waits(running):
    token = running.join()
    sent = [
        running.post("/api/guess", {"question": "02-1", "guess": 2.0}, token) for _ in range(60)
    ]
    statuses = [status for status, _ in sent]
    assert statuses[:20] == [200] * 20 and 429 in statuses
    assert running.post("/api/guess", {"question": "02-1", "guess": 2.0}, running.join())[0] == 200


def test_codes_cannot_be_tried_without_end():
    rates = Rates(per_s=0.5, burst=30, clock=lambda: 0.0)
    assert sum(rates.take("one address") for _ in range(1_000)) == 30
    assert sum(rates.take(i) for i in range(20_000)) < 3_000  # memory is bounded as well


def test_two_boards_do_not_write_into_one_folder(running):
    with pytest.raises(RuntimeError, match="another board is running there"):
        RunningBoard(running.folder)


# --- A laptop ------------------------------------------------------------------------------------


@pytest.fixture
def own_laptop(monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))
    monkeypatch.setattr(joining, "_copy_rate", lambda: 1e10)
    yield
    kit.leave()
    assert panels.LISTENERS == []


@pytest.fixture
def sent(monkeypatch):
    """What leaves the laptop: (path, body) of each request."""
    found, post = [], joining.Connection._post

    def noted(self, path, body):
        found.append((path, json.loads(json.dumps(body))))
        return post(self, path, body)

    monkeypatch.setattr(joining.Connection, "_post", noted)
    return found


def test_a_guess_and_its_measurement_reach_the_board(running, own_laptop, sent):
    shown = kit.join(running.code.lower(), running.where)
    until(lambda: "You are in the class" in shown.status)
    assert [path for path, _ in sent] == ["/api/join"]  # nothing of the machine before a guess
    guess = kit.guess(STEP, 0.1, 100, "×", plausible=9)
    for place in range(20, 31):  # the slider moves, and comes to rest
        guess.panel.chosen = [place]
    until(lambda: len(sent) == 2)
    said = guess.beside(Estimate(8.0, 7.5, math.inf, "×"))
    assert "board" not in said.text
    until(lambda: len(sent) == 3)
    kit.guess("What is my name, my age and my address?", 1, 99).beside(33)
    order = kit.guess_order(["a", "b"], "Which rung has the shortest time to the loss?")
    order.value = ("b", "a")  # not the choices of the lesson
    kit.leave()
    (_, first), (_, second) = sent[1:]
    assert first == {"question": "02-1", "guess": guess.value}
    machine = second.pop("machine")
    assert second == {**first, "value": 8.0, "low": 7.5, "high": None}
    assert set(machine) == set(joining.NAMES)
    named = {name for name, value in machine.items() if isinstance(value, str)}
    assert named == {"processor", "accelerator", "system"}
    assert [e["value"] for e in events(running.folder, MEASURED)][-1] == 8.0


def test_what_is_sent_is_shown_first_field_by_field(running, own_laptop, sent):
    table = kit.join(running.code, running.where, nickname="Bo").table()
    guess = kit.guess(STEP, 0.1, 100, "×")
    guess.panel.chosen = [5]
    guess.beside(3.0)
    until(lambda: len(sent) == 3)
    fields = {row[0] for row in table.rows}
    assert fields == {*sent[2][1], *sent[2][1]["machine"], "nickname"} - {"machine"}
    assert dict(row[:2] for row in table.rows)["threads"] == str(sent[2][1]["machine"]["threads"])


def test_after_a_restart_of_the_kernel_it_is_the_same_student(running, own_laptop):
    students = running.view()["students"]
    for _ in range(2):
        shown = kit.join(running.code, running.where)
        until(lambda shown=shown: "You are in" in shown.status)
    until(lambda: running.view()["students"] == students + 1)
    assert "left the class" not in shown.status


def test_a_wrong_code_is_a_sentence_and_a_wrong_form_an_error(running, own_laptop):
    shown = kit.join("AAAAAA", running.where)
    until(lambda: "This code is wrong" in shown.status)
    for given in (("A",), ("ABC123", "no address:port"), ("ABC123", "ftp://x")):
        with pytest.raises(BadValue, match="needs the"):
            kit.join(*given)
    with pytest.raises(BadValue, match="at most 24"):
        kit.join("ABC123", nickname="x" * 25)


def test_a_board_that_is_gone_never_holds_up_a_lesson(own_laptop):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:  # it never answers
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.perf_counter()
        shown = kit.join("ABC123", address)
        guess = kit.guess(STEP, 0.1, 100, "×")
        guess.panel.chosen = [5]
        first = guess.beside(3.0)
        kit.leave()
        assert time.perf_counter() - began < 2  # a busy machine; WAIT_S is the kit's own limit
        assert "left the class" in shown.status and "board" not in first.text
    shown = kit.join("ABC123", address)  # now nobody listens
    until(lambda: joining._current.state == "gone")
    assert "has not answered" in shown.status
    said = [guess.beside(3.0).text for _ in range(2)]
    assert [joining.GONE in text for text in said] == [True, False]


def test_what_was_measured_while_the_board_was_gone_arrives_later(
    own_laptop, sent, monkeypatch, running
):
    monkeypatch.setattr(joining, "AGAIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    kit.join(running.code, f"127.0.0.1:{free}")
    guess = kit.guess(STEP, 0.1, 100, "×")
    guess.panel.chosen = [9]
    guess.beside(6.25)
    until(lambda: joining._current.state == "gone")
    joining._current._http.port = running.port  # it comes back
    until(lambda: 6.25 in [e["value"] for e in events(running.folder, MEASURED)])


# --- The page ------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_page_follows_the_class_and_is_accessible(tmp_path):
    running = RunningBoard(tmp_path / "class", "02", "08")
    tokens = [running.join() for _ in range(8)]
    try:
        with running_chromium() as chromium:
            page = chromium.new_page(viewport={"width": 1280, "height": 720})
            watch = Watch(page)
            page.goto(f"{running.url}/#{running.secret}")
            page.get_by_text(running.code, exact=True).wait_for()
            assert running.secret not in page.url
            for i, token in enumerate(tokens):
                running.post("/api/guess", {"question": "02-1", "guess": 1.5 + i}, token)
                running.post("/api/measured", measured(9.0 + i, width=1.01), token)
            page.locator("#guessed", has_text="8").wait_for()
            assert page.locator("svg rect.guess").count() >= 3
            assert page.locator("svg circle").count() == 0
            page.get_by_role("button", name="Show measurements").focus()
            page.keyboard.press("Enter")
            page.locator("svg circle").nth(7).wait_for()
            page.get_by_text("As a table").click()
            page.get_by_role("cell", name="9.00 × [8.91 to 9.09 ×]").wait_for()
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                assert violations(page) == []
            sizes = page.eval_on_selector_all(
                "body *", "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
            )
            assert min(sizes) >= 20
            page.get_by_role("button", name="Next question").click()
            page.get_by_text("how many times the memory").wait_for()
            watch.check()
            student = chromium.new_page(viewport={"width": 390, "height": 844})
            student.goto(running.url)
            student.get_by_label("Join code").fill(running.code.lower())
            student.keyboard.press("Enter")
            student.get_by_text("how many times the memory").wait_for()
            assert student.locator("#teacher").is_hidden()
            assert violations(student) == []
            wide = "document.documentElement.scrollWidth - innerWidth"
            assert student.evaluate(wide) <= 0
            assert running.teacher("close") == 200
            student.get_by_text("The class is closed.").wait_for()
    finally:
        code, said = running.stop()
    assert code == (0 if sys.platform != "win32" else code) and "The board has stopped" in said
