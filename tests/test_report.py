"""The report: which claims are decided, and all runs as a table and a page."""

import html
import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner

from kit import machine
from kit.cli.main import main
from kit.core.errors import BadValue, UnknownName
from kit.core.files import NOTEBOOKS, atomic_write
from kit.core.results import RECORD
from kit.core.statistics import Estimate
from kit.course.claims import ledger, verdict
from kit.course.verdict_table import verdicts
from kit.experiments import collect, write_report
from kit.experiments.recording import record_runs
from kit.experiments.report import ledger_table, result_sentence, write_card


def notebook(path, *results):
    """A notebook whose outputs are those results, as a kernel would have left them."""
    cells = []
    for result in results:
        data = result._repr_mimebundle_()
        output = nbformat.v4.new_output("display_data", data=data)
        cells.append(nbformat.v4.new_code_cell("…", outputs=[output]))
    plain = nbformat.v4.new_output("stream", text="nothing to see")
    cells.append(nbformat.v4.new_code_cell("print()", outputs=[plain]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


HOLDS = verdict("01", weights_moved=1.0, loss_ratio=0.1)
DOES_NOT = verdict("01", weights_moved=1.0, loss_ratio=0.9)
CANNOT = verdict("02", weights_moved_by_inference=None)


@pytest.fixture
def runs(tmp_path):
    notebook(tmp_path / "a.ipynb", HOLDS, CANNOT)
    notebook(tmp_path / "deeper" / "b.ipynb", DOES_NOT, HOLDS)
    notebook(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.ipynb", DOES_NOT)
    return tmp_path


def test_hidden_folders_are_not_read_but_a_hidden_folder_that_was_given_is(runs):
    """An environment in .venv brings notebooks of its own."""
    notebook(runs / ".venv" / "own.ipynb", DOES_NOT)
    notebook(runs / "deeper" / ".kept" / "own.ipynb", DOES_NOT)
    assert sorted(collect(runs)["run"]) == ["a", "deeper/b"]
    assert list(collect(runs / ".venv")["run"]) == ["own"]
    assert "not hidden ones, such as .venv" in " ".join(command("--help").stdout.split())


def rows(folder) -> dict[str, str]:
    return {row[0]: row[3] for row in ledger_table(folder).rows}


def test_every_claim_is_listed_once(runs):
    assert sorted(rows(runs)) == sorted(ledger())


def test_decided_claims_come_first(runs):
    assert list(rows(runs))[:2] == ["01", "02"] and list(rows(runs))[2:] == list(ledger())[2:]
    (runs / "a.ipynb").unlink()
    notebook(runs / "deeper" / "b.ipynb", verdict("38", **dict.fromkeys(ledger()["38"].conditions)))
    assert next(iter(rows(runs))) == "38"


def test_a_verdict_that_is_none_and_a_claim_that_is_none_decide_nothing(tmp_path):
    forged = [
        {"kind": "Verdict", "claim_id": id, "claim": "x", "verdict": word}
        for id, word in (("01", "<b>surely</b>"), ("99", "holds here"))
    ]
    for i, record in enumerate(forged):
        executed(tmp_path / f"{i}.ipynb", 8, record)
    assert ledger_table(tmp_path).caption.startswith(f"0 of {len(ledger())} claims decided")


def test_verdicts_of_several_notebooks_stand_side_by_side(runs):
    assert rows(runs)["01"] == "holds here (in 2 runs); does not hold here (in 1 run)"
    assert rows(runs)["02"] == "cannot tell"


def test_two_questions_of_one_claim_have_a_verdict_each(tmp_path):
    """Claim 27: neither lesson replaces the other, and both are decided."""
    low, high = Estimate(1.0, 1.0, 1.01, "×"), Estimate(3.0, 2.9, 3.1, "×")
    names = ("cheapest_training_excess_ratio", "cheapest_inference_excess_ratio")
    for part, ratios in (("14", (high, high)), ("15", (low, high))):
        given = dict(zip(names, ratios, strict=True), cases_needing_balance_share=1.0)
        notebook(tmp_path / f"{part}-a.ipynb", verdict("27", part=part, **given))
    assert rows(tmp_path)["27"] == (
        "which road to an answer, in money, with people's work: does not hold here; "
        "which width of one model, in machine time: holds here"
    )
    assert ledger_table(tmp_path).caption.startswith(f"1 of {len(ledger())} claims decided")
    page = write_card(tmp_path, tmp_path / "card.html").read_text()
    assert (
        "which road to an answer, in money, with people" in page and "Other parts: which w" in page
    )
    shown = verdict("27", part="15", **given)
    assert "Here: which road to an answer" in verdicts(shown).table().rows[0][0]
    with pytest.raises(UnknownName, match="no part of claim 27 is called '13'"):
        verdict("27", part="13", **given)


def test_verdicts_in_one_table_count_like_single_ones(tmp_path):
    notebook(tmp_path / "a.ipynb", verdicts(HOLDS, CANNOT))
    assert (rows(tmp_path)["01"], rows(tmp_path)["02"]) == ("holds here", "cannot tell")
    assert result_sentence(tmp_path / "a.ipynb") == "claim 01: holds here; claim 02: cannot tell"
    assert list(collect(tmp_path, "Verdict")["claim_id"]) == ["01", "02"]
    record_runs(tmp_path, tmp_path / "kept")
    assert list(collect(tmp_path / "kept", "Verdict")["claim_id"]) == ["01", "02"]


def test_an_open_claim_says_which_lesson_will_decide_it(runs):
    assert rows(runs)["05"] == "not decided yet: lessons 06, 07"
    assert rows(runs)["30"] == "not decided yet: run the experiments"
    assert rows(runs)["28"] == "not decided yet: run the experiments"
    assert rows(runs)["29"] == "not decided yet: lesson 12"
    assert rows(runs)["38"] == "not decided yet: lesson 15"


def test_the_caption_counts_the_decided(runs, tmp_path):
    """A claim on which no run could tell is not decided."""
    n = len(ledger())
    counts = (
        f"0 of {n} claims decided by the notebooks in .*/; 1 differ between runs, 1 cannot tell, "
    )
    assert re.fullmatch(f"{counts}{n - 2} not measured.", ledger_table(runs).caption)
    notebook(runs / "c.ipynb", verdict("02", weights_moved_by_inference=0.0))
    assert rows(runs)["02"] == "holds here"  # the other run did not measure what the rule needs
    assert ledger_table(runs).caption.startswith(f"1 of {n} claims decided")
    (tmp_path / "empty").mkdir()
    assert ledger_table(tmp_path / "empty").caption.startswith(f"0 of {n} claims decided")


# --- The files -----------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """Six runs as papermill leaves them: four done, one failed; and a damaged file."""
    for i, batch_size in enumerate((8, 16, 32, 64)):
        executed(tmp_path / f"run-{i}.ipynb", batch_size, halves(0.001 * batch_size))
    executed(tmp_path / "run-4.failed.ipynb", 128, error=("RuntimeError", "no <memory>\nleft"))
    (tmp_path / "run-5.ipynb").write_text("{")
    return tmp_path


def halves(latency_s):
    """A record of thirty values, some of them estimates, one of them unknown."""
    return {
        "kind": "Halves",
        "latency_s": Estimate(latency_s, 0.9 * latency_s, 1.1 * latency_s, "s").to_dict(),
        "training": {"score_share": Estimate(0.95, 0.9, 0.97, "%").to_dict(), "train_s": 2.5},
        "energy_joules": None,
        "steps": 600,
        "reached": True,
        "doubts": ["<b>clock</b>", "µ"],
        **{f"another_{i}_bytes": 1_000 * i for i in range(25)},
    }


def executed(path, batch_size, record=None, error=None):
    """A notebook with a parameter, as papermill leaves it, with a record or an error."""
    lines = "batch_size: int = 8  # 1..1024 examples; per step\nseed: int = 0  # 0..9; of all"
    first = nbformat.v4.new_code_cell(lines, execution_count=1, metadata={"tags": ["parameters"]})
    outputs = [
        nbformat.v4.new_output("display_data", data={RECORD: shown})
        for shown in (machine()._repr_mimebundle_()[RECORD], record)
        if shown
    ]
    if error:
        name, value = error
        outputs.append(nbformat.v4.new_output("error", ename=name, evalue=value, traceback=[]))
    made = nbformat.v4.new_notebook(cells=[first, nbformat.v4.new_code_cell("…", outputs=outputs)])
    made.metadata["papermill"] = {
        "input_path": "experiments/costs.ipynb",
        "parameters": {"batch_size": batch_size},
        "start_time": "2026-11-22T10:00:00.123456+00:00",
        "end_time": "2026-11-22T10:00:12.5+00:00",
        "duration": 12.4,
        "exception": bool(error),
    }
    nbformat.write(made, path)


def test_a_report_is_three_files_whole_or_not_at_all(mixed):
    found = write_report(mixed)
    assert [path.name for path in found.paths] == ["runs.csv", "runs.parquet", "index.html"]
    assert found.summary == "6 runs of 1 notebook: 4 done, 1 failed, 1 unreadable."
    assert len(found.ledger.rows) == len(ledger())
    assert sorted(p.name for p in (mixed / "report").iterdir()) == sorted(
        path.name for path in found.paths
    )


def test_a_report_can_be_made_again(mixed):
    before, again = write_report(mixed), write_report(mixed)
    assert again.summary == before.summary


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_draft(mixed):
    path = write_report(mixed).paths[0]
    before = path.read_bytes()

    with pytest.raises(OSError, match="disk full"), atomic_write(path) as draft:
        draft.write_text("half")
        raise OSError("disk full")
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 3


def test_the_table_has_units_in_the_names_of_its_columns(mixed):
    table = pd.read_parquet(write_report(mixed).paths[1])
    assert "parameter.batch_size [examples]" in table
    assert "latency_s.low [s]" in table and "training.score_share.value [share]" in table
    assert not [name for name in table if name.endswith(".unit")]


def test_points_are_stored_as_a_share(tmp_path):
    lost = Estimate(0.02, 0.01, 0.03, "points").to_dict()
    executed(tmp_path / "run-0.ipynb", 8, {"kind": "Lost", "lost": lost})
    table = pd.read_parquet(write_report(tmp_path).paths[1])
    assert list(table["lost.value [share]"]) == [0.02]


def test_spreadsheet_and_parquet_hold_the_same(mixed):
    spreadsheet, parquet, _ = write_report(mixed).paths
    table, typed = pd.read_csv(spreadsheet), pd.read_parquet(parquet)
    assert list(table) == list(typed) and len(table) == len(typed) == 6
    assert spreadsheet.read_bytes().startswith(b"\xef\xbb\xbf")  # UTF-8, for a spreadsheet
    assert table["doubts"].dropna().unique().tolist() == ["<b>clock</b>; µ"]
    assert typed["parameter.batch_size [examples]"].tolist()[:5] == [8, 16, 32, 64, 128]
    assert typed["steps"].dtype == "Int64" and typed["reached"].dtype == "boolean"
    assert table["latency_s.value [s]"].tolist()[:4] == [0.008, 0.016, 0.032, 0.064]
    assert table["status"].tolist() == ["done"] * 4 + ["failed", "unreadable"]
    assert typed["energy_joules"].isna().all()


def test_values_of_unlike_types_and_units_have_room(tmp_path):
    seconds, size = (Estimate(1, 1, 1, unit).to_dict() for unit in ("s", "B"))
    executed(tmp_path / "a.ipynb", 8, {"kind": "A", "x": 1, "y": seconds})
    executed(tmp_path / "b.ipynb", 8, {"kind": "A", "x": "b", "y": size})
    executed(tmp_path / "c.ipynb", 8, {"kind": "A", "x": True, "z": 2**70, "list": [1]})
    table = pd.read_parquet(write_report(tmp_path).paths[1])
    assert table["x"].tolist() == ["1", "b", "True"]
    assert table["y.unit"].tolist()[:2] == ["s", "B"] and "y.value" in table
    assert table["z"].tolist()[2] == 2.0**70
    assert "list" not in table


def test_a_folder_without_runs_is_told_in_one_line(tmp_path):
    with pytest.raises(
        BadValue, match=r"no executed notebooks in it; make some with kit run"
    ) as told:
        write_report(tmp_path)
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


# --- The page ------------------------------------------------------------------------------------


def text(cell: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", cell)).strip()


def lines_of(page: str, which: int = 0) -> list[list[str]]:
    """The cells of the lines of a table of runs of the page."""
    table = re.findall(r"<table class=.runs.*?</table>", page, re.DOTALL)[which]
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[text(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line)] for line in lines]


@pytest.fixture
def page(mixed):
    return write_report(mixed).paths[2].read_text(encoding="utf-8")


def test_failed_runs_come_first_with_their_error(page):
    head, *lines = lines_of(page)
    assert head == ["run", "status", "batch size", "time of the run", "latency", "training: score"]
    assert lines[0] == [
        "run-4",
        "▲ failed",
        "128 examples",
        "12.4 s",
        "RuntimeError: no <memory> left",
    ]
    assert [line[1] for line in lines] == ["▲ failed"] + ["● done"] * 4
    assert "run-5" in page and "✕ unreadable" in page and "cannot be read" in page


def test_numbers_are_words_with_units_and_intervals(page):
    line = lines_of(page)[2]
    assert line[:4] == ["run-0", "● done", "8 examples", "12.4 s"]
    assert line[4:] == ["8.00 ms 7.20 to 8.80 ms", "95.0 % 90.0 to 97.0 %"]


def test_what_is_the_same_in_all_is_said_once(page):
    same = text(re.search(r'<p class="soft">(The same in all.*?)</p>', page)[1])
    assert re.sub(" +", " ", same).startswith("The same in all: seed 0 · processor")
    assert "seed" not in lines_of(page)[0]


def test_the_other_columns_open_below(page):
    opened = next(s for s in re.findall(r"<summary>(.*?)</summary>", page) if s.startswith("All"))
    head, _, first, *_ = lines_of(page, 1)
    assert opened == "All measurements: 32 columns" and len(head) == 5 + 32
    told = dict(zip(head, first, strict=True))
    assert told["another 24"] == "24.0 kB" and told["steps"] == "600"
    assert told["energy"] == "—" and told["doubts"] == "<b>clock</b>; µ"


def test_a_page_asks_for_nothing_and_believes_no_text(page):
    assert not re.search(r"(src|href)=.?(http|//)|<script|@import|url\(", page)
    assert "<b>clock" not in page and "<memory>" not in page
    assert all(claim.claim in html.unescape(page) for claim in ledger().values())


# --- The command ---------------------------------------------------------------------------------


def command(*words: str):
    return CliRunner().invoke(main, ["report", *words])


def test_the_command_prints_the_ledger_and_where_things_are(mixed):
    told = command(str(mixed))
    assert told.exit_code == 0
    *_, count, spreadsheet, parquet, page = told.stdout.splitlines()
    assert count == "6 runs of 1 notebook: 4 done, 1 failed, 1 unreadable."
    assert [Path(path).is_file() for path in (spreadsheet, parquet, page)] == [True] * 3
    assert all(claim.claim in told.stdout for claim in ledger().values())


def test_without_a_folder_the_lessons_are_read_and_nothing_is_written():
    before = set(NOTEBOOKS.iterdir())
    told = command()
    assert told.exit_code == 0 and "claims decided by the notebooks in notebooks/" in told.stdout
    assert set(NOTEBOOKS.iterdir()) == before


@pytest.mark.parametrize("name", ["", "nowhere", "file.txt"])
def test_a_folder_that_has_nothing_is_one_line(tmp_path, name):
    (tmp_path / "file.txt").touch()
    told = command(str(tmp_path / name))
    assert told.exit_code == 2
    (line,) = told.stderr.splitlines()
    assert line.startswith("Error: ") and "executed notebook" in line


def test_nothing_of_a_stranger_commands_the_terminal(tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    verdict = {"kind": "Verdict", "claim_id": "01", "claim": evil, "verdict": evil}
    shown = {"data": {RECORD: verdict, "text/plain": evil}, "metadata": {}}
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "…"}
    cell["outputs"] = [{"output_type": "display_data", **shown}]
    mill = {"start_time": "2026-11-22T10:00:00", "end_time": "x", "parameters": {"a": evil}}
    text = {"cells": [cell], "metadata": {"papermill": mill}, "nbformat": 4, "nbformat_minor": 4}
    path = tmp_path / f"a{evil.replace('/', '')}.ipynb"
    path.write_text(json.dumps(text))
    for told in (command(str(path)), command(str(tmp_path)), command(str(tmp_path / evil))):
        assert not set(told.output) & set("\x1b\x07\x9b\u202e")
    told = command(str(path))
    assert told.output.splitlines()[-1].endswith("owned [2J 31m") and not told.stderr
