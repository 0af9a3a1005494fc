"""What a class handed in and what its board recorded: compared without names, or left out."""

import json
import shutil

import pytest

from kit.classroom.handout import Handout, student_version
from kit.core.errors import BadValue, UnknownName
from kit.core.files import NOTEBOOKS
from kit.core.results import RECORD, records_in
from kit.experiments import class_measurements, class_results
from kit.experiments.class_comparison import NEVER_RUN, UNTOUCHED
from kit.experiments.class_records import OTHER_WORK, TWICE
from kit.experiments.recording import RECORDED_RUNS

LESSON = next(NOTEBOOKS.glob("02-*.ipynb"))
RATIO = "time of a step ÷ a prediction (lesson 02)"


def run_again(path, factor=1.0, **machine):
    """The notebook as if another computer had run it: every measured number differs."""

    def scaled(value):
        if isinstance(value, dict):
            return {k: scaled(v) for k, v in value.items()}
        if isinstance(value, list):
            return [scaled(v) for v in value]
        return value * factor if isinstance(value, float) else value

    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for record in records_in(output):
                if record["kind"] == "Machine":
                    record.update(machine)
                elif record["kind"] == "Verdict":
                    record["measured"] = scaled(record["measured"])
    return notebook


def hand_in(folder, name, notebook):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = notebook if isinstance(notebook, str) else json.dumps(notebook)
    path.write_text(text)


def board(folder):
    """The records of a class of three, with half a line at the end."""
    events = [
        {"event": "question", "id": "02-1", "text": "How many times?", "unit": "×", "choices": []},
        *({"event": "joined", "student": i, "nickname": "Ada", "token": "x"} for i in range(3)),
        {"event": "guess", "student": 0, "question": "02-1", "guess": 2.0},
        {"event": "guess", "student": 0, "question": "02-1", "guess": 4.0},
        {"event": "guess", "student": 1, "question": "02-1", "guess": 30.0},
        {"event": "measured", "student": 1, "question": "02-1", "value": "x", "machine": {}},
        *(
            {"event": "measured", "student": i, "question": "02-1", "value": 9.0 + i,
             "low": 8.0 + i, "high": None, "machine": {"processor": "chip", "name": "Ada"}}
            for i in range(3)
        ),
    ]  # fmt: skip
    text = "".join(json.dumps(each) + "\n" for each in events)
    hand_in(folder, "board/board.jsonl", text + '{"event": "meas')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    for i, name in enumerate(("Ada", "Bob", "Cleo", "Dan")):
        notebook = run_again(
            LESSON, 1.1 + 0.02 * i + 0.5 * (i // 2), cpu=f"chip {i // 2}", threads=1 + i // 2
        )
        hand_in(folder, f"{name} Lovelace/my {name}.ipynb", notebook)
    hand_in(folder, "Eve/02.ipynb", LESSON.read_text())
    hand_in(folder, "Fay/copy.ipynb", (folder / "Bob Lovelace" / "my Bob.ipynb").read_text())
    hand_in(folder, "Gus/broken.ipynb", "{")
    unrun = student_version(json.loads(LESSON.read_text()), Handout("02"))
    hand_in(folder, "Jo/unrun.ipynb", unrun)
    empty = {"cells": [], "metadata": {"papermill": {"start_time": "2026-11-30T10:00:00"}}}
    hand_in(folder, "Hal/other.ipynb", empty)
    half = run_again(LESSON, 1.9)
    for cell in half["cells"]:
        for output in cell.get("outputs", []):
            for record in records_in(output):
                record |= {"on": "another model"} if record["kind"] == "Verdict" else {}
    hand_in(folder, "Ida/half.ipynb", half)
    board(folder)
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    return class_measurements(folder)


def test_the_records_of_a_lesson_are_compared(ours):
    values = ours.by_quantity[RATIO]
    first, *_, last = sorted(values.values(), key=lambda each: each.value)
    assert len(values) == 4 and last.value == pytest.approx(1.66 / 1.1 * first.value)
    assert first.low < first.value < first.high and first.unit == "×"
    (row,) = (row for row in ours.table().rows if row[0] == RATIO)
    assert row[1] == "4" and row[4].startswith("1.51 ×")


def test_who_is_left_out_and_why(ours):
    reasons = {name.split("/")[0]: reason for name, reason in ours.left_out}
    assert reasons["Eve"] == UNTOUCHED
    assert reasons["Fay"] == TWICE
    assert reasons["Jo"] == NEVER_RUN
    assert reasons["Gus"].startswith("cannot be read")
    assert reasons["Hal"].startswith("unfinished")
    assert OTHER_WORK in reasons.values()
    table = ours.left_out_table()
    assert "Eve" not in repr(table) and UNTOUCHED in repr(table)
    assert "Eve/02" in repr(ours.left_out_table(names=True))


def test_every_notebook_that_came_with_the_kit_is_known_unless_it_was_run(tmp_path):
    for path in [*NOTEBOOKS.glob("0*.ipynb"), *(NOTEBOOKS / "experiments").glob("*.ipynb")]:
        shutil.copy(path, tmp_path / f"renamed {path.name}")
    nobody = class_measurements(tmp_path)
    assert not nobody.measured
    reasons = {name.removeprefix("renamed "): reason for name, reason in nobody.left_out}
    assert reasons["02-what-does-a-training-step-cost"] == UNTOUCHED
    without = {"class-results", "03-can-you-trust-your-stopwatch"}  # without a verdict or bill
    assert {name for name, reason in reasons.items() if reason != UNTOUCHED} <= without
    with pytest.raises(BadValue, match="no record of 'vision'"):
        class_results(tmp_path, "vision")
    with pytest.raises(BadValue, match="no record here can be compared"):
        nobody.of()


def test_nobodys_name_is_shown(ours):
    shown = [ours.table(), ours.computers_table(), ours.left_out_table(), ours.of(), ours]
    text = " ".join(map(repr, shown)) + json.dumps(ours.to_dict()) + repr(ours.of().table())
    names = ("Ada", "Bob", "Cleo", "Dan", "Eve", "Lovelace")
    assert not [name for name in names if name in text]


def test_what_goes_together_with_a_difference(ours):
    (row,) = ours.of(RATIO).table().rows
    assert row[0] == "processor, threads" and row[1] == "chip 1 (2) ÷ chip 0 (2)"


def test_the_board_gives_guesses_and_measurements(ours):
    one = ours.of("How many times?")
    assert next(iter(ours.by_quantity)) != one.quantity  # four computers measured another one
    assert sorted(v.value for v in one.values.values()) == [9.0, 10.0, 11.0]
    assert one.guesses == (4.0, 30.0)
    assert "2 guesses" in one.guessed().text and "0 of them" in one.guessed().text
    assert all(value.low < value.value for value in one.values.values())
    assert "damaged" in repr(ours.left_out_table())


def test_doubts_are_one_short_column():
    ours = class_measurements(RECORDED_RUNS / "class")
    columns = ours.computers_table()
    at = columns.header.index("doubts")
    assert {row[at] for row in columns.rows} & {"busy, unsteady, wide"}
    assert all(len(row[at]) <= 40 for row in columns.rows)


def test_the_letters_of_the_bills_are_those_of_the_computers():
    ours = class_measurements(RECORDED_RUNS / "class")
    bills = ours.bills("vision")
    assert list(bills.index) == list("ABCDE") and len(ours.computers) == 5
    ratios = ours.of("step ÷ prediction").values
    for at, value in ratios.items():
        assert bills.loc[at, "ratio.step_time.value"] == value.value
    assert ours.bills("speech").empty


def test_a_time_without_an_interval_decides_nothing():
    step = class_measurements(RECORDED_RUNS / "class").of("one training step")
    assert not any(value.known for value in step.values.values())


def test_an_unknown_quantity_lists_those_there_are(ours):
    with pytest.raises(UnknownName, match="step ÷ prediction"):
        ours.of("beauty")


def test_a_record_of_an_own_notebook_without_a_machine_is_taken(tmp_path):
    record = {"kind": "Verdict", "claim_id": "11", "claim": "x", "verdict": "y"}
    record["measured"] = {"flops_ratio": 3.0, "own": {"value": 1.0, "low": None, "high": "x"}}
    output = {"output_type": "display_data", "data": {RECORD: record}, "metadata": {}}
    cell = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": [output]}
    hand_in(tmp_path, "a.ipynb", {"cells": [{**cell, "execution_count": 1}], "metadata": {}})
    ours = class_measurements(tmp_path)
    assert [each.value.value for each in ours.measured] == [3.0]
