"""The report card: all claims on one page, each with what was measured and what is in doubt."""

import json
import re
import subprocess
import sys

import nbformat
import pytest

from kit.core.errors import BadValue
from kit.core.files import NOTEBOOKS
from kit.core.results import RECORD
from kit.course.claims import documents, ledger
from kit.experiments.records import executed_runs
from kit.experiments.report import ledger_table, write_card
from kit.experiments.report_card import NOT_MEASURED, report_card

ATTACK = "<script>document.title='hit'</script>"


def verdict(id="01", word="holds here", measured=None, rule=None, **more):
    conditions = ledger()[id].conditions
    given = {name: {"value": 0.9, "low": 0.8, "high": 0.95, "unit": ""} for name in conditions}
    return {"kind": "Verdict", "claim_id": id, "claim": ledger()[id].claim, "verdict": word,
            "measured": given | (measured or {}), "rule": rule or conditions, "on": "CNN",
            **more}  # fmt: skip


def notebook(folder, *records, name="01-a.ipynb"):
    outputs = [
        nbformat.v4.new_output("display_data", data={RECORD: each, "text/plain": "x"})
        for each in records
    ]
    cell = nbformat.v4.new_code_cell("1", outputs=outputs, execution_count=1)
    made = nbformat.v4.new_notebook(cells=[cell])
    (folder / name).write_text(json.dumps(made))
    return folder / name


def entries(folder):
    return {entry.claim.id: entry for entry in report_card(executed_runs(folder))}


@pytest.fixture(scope="module")
def lessons_card(tmp_path_factory):
    return write_card(NOTEBOOKS, tmp_path_factory.mktemp("card") / "card.html").read_text()


def test_all_claims_and_all_sources_are_on_the_card(lessons_card):
    heads = re.findall(r"<h3>(\d\d) · ", lessons_card)
    assert heads == list(ledger())
    assert all(f"<b>{letter}</b>" in lessons_card for letter in documents())
    assert "with its interval" in lessons_card and "lesson 10" in lessons_card


def test_the_card_says_what_the_table_says(lessons_card):
    caption = ledger_table(NOTEBOOKS).caption
    open_claims = int(re.search(r"(\d+) not measured", caption)[1])
    assert lessons_card.count(f"<b>{NOT_MEASURED}</b>") == open_claims


def test_a_claim_that_nobody_measured_says_so(tmp_path):
    notebook(tmp_path, verdict("01"))
    found = entries(tmp_path)
    assert found["01"].verdict == "holds here" and len(found["01"].rows) == 2
    assert found["02"].verdict == NOT_MEASURED and not found["02"].rows
    card = write_card(tmp_path, tmp_path / "card.html").read_text()
    assert (
        f"1 of {len(ledger())} claims are decided" in card
        and "No notebook here has measured it" in card
    )


def test_doubts_are_named(tmp_path):
    name = next(iter(ledger()["14"].conditions))
    notebook(
        tmp_path,
        verdict("14", "cannot tell", measured={name: None}, measured_in={"training_s": "08"}),
        verdict("01", measured={"loss_ratio": {"value": 0.5, "low": 0.4, "high": 0.6}}),
        verdict("02", rule={"something_else": "> 1"}),
    )
    found = entries(tmp_path)
    assert any("was not measured" in doubt for doubt in found["14"].doubts)
    assert any("from lesson 08" in doubt for doubt in found["14"].doubts)
    assert any("contains the limit" in doubt for doubt in found["01"].doubts)
    assert any("rule has changed" in doubt for doubt in found["02"].doubts)


def test_a_verdict_on_the_full_rule_is_shown_and_others_are_counted(tmp_path):
    name = next(iter(ledger()["15"].conditions))
    notebook(tmp_path, verdict("15", "does not hold here"), name="10-a.ipynb")
    notebook(tmp_path, verdict("15", "cannot tell", measured={name: None}), name="11-a.ipynb")
    entry = entries(tmp_path)["15"]
    assert entry.verdict == "does not hold here" and entry.others == "cannot tell (1)"


def test_nothing_of_a_stranger_runs_on_the_card(tmp_path):
    notebook(tmp_path, verdict("01", word=f"holds here {ATTACK}", on=ATTACK))
    card = write_card(tmp_path, tmp_path / "card.html").read_text()
    assert "<script" not in card and "&lt;script" in card
    for broken in ({"claim_id": ["01"]}, {"claim_id": "99"}, {"measured": 3}, {"verdict": 7}):
        notebook(tmp_path, verdict("03") | broken, name="02-b.ipynb")
        assert entries(tmp_path)["03"].verdict == NOT_MEASURED


def test_a_folder_without_runs_or_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(BadValue, match="no executed notebooks"):
        write_card(tmp_path, tmp_path / "card.html")
    path = notebook(tmp_path, verdict("01"))
    with pytest.raises(BadValue, match=r"ends in \.html"):
        write_card(tmp_path, path)


def test_the_command_prints_the_card_and_waits_for_no_heavy_import():
    """In two seconds or less: so it must not import what takes longer than that."""
    code = (
        "import sys; from kit.cli.main import main; main(['report'], standalone_mode=False); "
        "print(sorted({'torch', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert sum(line[:2] in ledger() and line[2:4] == "  " for line in lines) == len(ledger())
    assert lines[-1] == "[]", lines[-1]
