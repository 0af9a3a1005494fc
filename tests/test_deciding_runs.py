"""Which runs decide a claim: the lessons that the ledger names, and of two runs the longer one."""

import json

import nbformat
import pytest

from kit import count
from kit.core.files import NOTEBOOKS
from kit.core.results import RECORD
from kit.course import earlier_lessons
from kit.course.claims import ledger
from kit.course.earlier_lessons import STAMP, measured_earlier, recorded_verdicts
from kit.experiments import find_notebook
from kit.experiments.deciding_runs import deciding_verdicts, without_shorter
from kit.experiments.records import DONE, FAILED, ExecutedRun, executed_runs
from kit.experiments.report import claims_table
from kit.experiments.report_card import NOT_MEASURED, report_card
from kit.workloads import vision

RULE = "holds only if you look at many cycles together, not at every single one"


def run(notebook="06-a.ipynb", id="06", word="holds here", status=DONE, measured=1.0, **given):
    names = ledger()[id].conditions
    record = {"kind": "Verdict", "claim_id": id, "verdict": word, "measured": {}}
    record["measured"] = dict.fromkeys(names, measured)
    parameters = {"device": "cpu", "trainings": 5, "seed": 0, **given}
    name = f"{notebook}-{sorted(given.items())}"
    return ExecutedRun(name, notebook, status, parameters=parameters, records=(record,))


def said(*runs, id="06"):
    return {row[0]: row[3] for row in claims_table(runs, NOTEBOOKS).rows}[id]


SHORT = run("01-a.ipynb", word="does not hold here")
LONG = run("01-a.ipynb", trainings=40, seed=7)


def test_a_longer_run_counts_in_place_of_a_shorter_one_whatever_it_found():
    assert without_shorter([SHORT, LONG]) == [LONG] == without_shorter([LONG, SHORT])
    assert said(SHORT, LONG) == "holds here"
    open_ = run("01-a.ipynb", word="cannot tell", trainings=40)
    assert said(SHORT, open_) == "cannot tell"


@pytest.mark.parametrize(
    "other",
    [
        run("01-a.ipynb", seed=7),  # as long, with another seed
        run("01-a.ipynb", trainings=40, device="cuda"),
        run("02-a.ipynb", trainings=40),
        run("01-a.ipynb", trainings=40, budget_s=0.1),
        run("01-a.ipynb", trainings=40, status=FAILED),
        run("01-a.ipynb", trainings="forty"),
    ],
)
def test_another_run_is_not_a_longer_one(other):
    short = run("01-a.ipynb", word="does not hold here", budget_s=0.5)
    assert without_shorter([short, other]) == [short, other]


@pytest.mark.parametrize(
    "field, value",
    [("claim_id", 6), ("claim_id", ["06"]), ("claim_id", "99"), ("measured", None),
     ("verdict", None), ("verdict", "surely")],
)  # fmt: skip
def test_a_record_that_no_lesson_writes_decides_nothing(field, value):
    record = {**SHORT.records[0], field: value}
    strange = ExecutedRun("a", "06-a.ipynb", DONE, parameters={}, records=(record,))
    assert list(deciding_verdicts([LONG, strange])) == [(LONG, LONG.records[0])]
    assert report_card([strange])[5].verdict == NOT_MEASURED and "not decided" in said(strange)


def test_runs_on_other_cases_do_not_change_the_verdict_but_are_listed():
    lesson = run("01-a.ipynb", word=RULE)
    words = ["does not hold here", "does not hold here", "cannot tell", RULE]
    cases = [run("train-versus-infer.ipynb", word=w, seed=i) for i, w in enumerate(words)]
    assert said(lesson, *cases) == f"{RULE}; on other cases: does not hold here (in 2 runs)"
    assert said(lesson, *cases[2:]) == RULE
    assert claims_table([lesson, *cases], NOTEBOOKS).caption.startswith("1 of")
    # Where no lesson is among the runs, the cases are all there is, and they differ.
    assert said(*cases[1:]).startswith("does not hold here (in 1 run); cannot tell (in 1 run)")
    assert claims_table(cases, NOTEBOOKS).caption.startswith("0 of 38 claims decided")


def test_where_experiments_decide_their_runs_are_no_other_cases():
    assert said(run("a.ipynb", "30"), run("b.ipynb", "30", "cannot tell"), id="30") == (
        "holds here (in 1 run); cannot tell (in 1 run)"
    )


def test_a_lesson_of_a_claim_with_parts_answers_its_own_question():
    shown = said(run("04-a.ipynb", "14", "does not hold here"), run("08-a.ipynb", "14"), id="14")
    assert shown == (
        "a CNN on digits, 400 steps: does not hold here; "
        "a GPT, to a loss that is soon reached: holds here"
    )


def test_what_separates_the_cases_of_claim_13_is_counted():
    """Its text says why other cases differ: weights, or the results of a single layer."""
    work, ratios = vision(), {}
    for batch in (1, 32):
        for name in ("cnn", "mlp"):
            counted = count(work.model(name), work.example(batch)[0])
            weights = counted.weight_bytes / counted.inference_bytes
            ratios[name, batch] = counted.training_bytes / counted.inference_bytes, weights > 0.5
    assert all((ratio > 2) == heavy for ratio, heavy in ratios.values())
    assert not ratios["cnn", 32][1] and ratios["cnn", 1][1] and ratios["mlp", 32][1]


# --- The kit's longer runs -----------------------------------------------------------------------


def stored(path, claim, value, stamp=None):
    """A notebook with a verdict, as it was recorded if there is a stamp."""
    card = {"kind": "Verdict", "claim_id": claim, "measured": {"pause_cost_share": value}}
    records = {"a computer": {"kind": "Machine", "cpu": path.stem}, "a verdict": card}
    outputs = [
        nbformat.v4.new_output("display_data", data={RECORD: record, "text/plain": text})
        for text, record in records.items()
    ]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    made.metadata[STAMP] = {"machine": stamp}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(made))


def test_a_longer_run_is_read_unless_the_reader_has_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(earlier_lessons, "LONGER", tmp_path / "longer")
    stored(tmp_path / "longer" / "10.ipynb", "15", 0.25)
    own = tmp_path / next(NOTEBOOKS.glob("10-*.ipynb")).name
    found = lambda: measured_earlier("10", "15", "pause_cost_share", tmp_path).value  # noqa: E731
    assert found() == 0.25  # the reader has no copy of the lesson
    stored(own, "15", 0.5, stamp="a computer")
    assert found() == 0.25  # the copy is as the kit recorded it
    stored(own, "15", 0.5, stamp="another computer")
    assert found() == 0.5
    verdicts = recorded_verdicts("10", "15", tmp_path)
    assert [v["measured"]["pause_cost_share"] for v in verdicts][:2] == [0.5, 0.25]
    assert len(verdicts) == 3 and verdicts[2]["cpu"]  # the lesson as recorded is the last


def claims_of(run):
    found = {record["claim_id"] for record in run.records if record["kind"] == "Verdict"}
    assert found
    return found


LONGER = sorted(earlier_lessons.LONGER.glob("*.ipynb"))
SEEDS = {
    "09": 2400,
    "10": 2300,
    "11": 2200,
    "14": 2400,
    "fraud-in-real-time": 2000,
}  # of the others 1000: the head of the ledger


@pytest.mark.parametrize("path", LONGER, ids=[path.stem for path in LONGER])
def test_a_longer_run_is_of_the_cells_that_are_there(path):
    """After a change to the lesson, run it again: see CONTRIBUTING."""
    lesson = find_notebook(path.stem)
    sources = []
    for file in (path, lesson):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        own = [c for c in cells if "injected-parameters" not in c["metadata"].get("tags", [])]
        sources.append(["".join(c["source"]) for c in own if c["cell_type"] == "code"])
    assert sources[0] == sources[1]
    assert path.stat().st_size < 100_000
    (short,), (longer,) = executed_runs(lesson), executed_runs(path)
    assert without_shorter([short, longer]) == [longer]
    assert claims_of(short) == claims_of(longer)
    assert longer.parameters["seed"] == SEEDS.get(path.stem, 1000)
