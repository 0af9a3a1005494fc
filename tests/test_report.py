"""The report: which claims are decided, from records in notebooks made by hand."""

import nbformat
import pytest

from kit.course.claims import ledger, verdict
from kit.results import RECORD
from kit.runs.report import collect, ledger_table, records


def notebook(path, *results):
    """A notebook whose outputs are those results, as a kernel would have left them."""
    cells = []
    for result in results:
        data = result._repr_mimebundle_()
        output = nbformat.v4.new_output("display_data", data=data)
        cells.append(nbformat.v4.new_code_cell("…", outputs=[output]))
    plain = nbformat.v4.new_output("stream", text="nothing to see")
    cells.append(nbformat.v4.new_code_cell("print()", outputs=[plain]))
    path.parent.mkdir(exist_ok=True)
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


def rows(folder) -> dict[str, str]:
    return {row[0]: row[3] for row in ledger_table(folder).rows}


def test_every_claim_is_listed_once(runs):
    assert list(rows(runs)) == list(ledger())


def test_verdicts_of_several_notebooks_stand_side_by_side(runs):
    assert rows(runs)["01"] == "holds here; does not hold here"
    assert rows(runs)["02"] == "cannot tell"


def test_an_open_claim_says_which_lesson_will_decide_it(runs):
    assert rows(runs)["05"] == "not decided yet: lessons 06, 07"
    assert rows(runs)["30"] == "not decided yet: experiments"
    assert rows(runs)["29"] == "not decided yet: lesson 12 and experiments"


def test_the_caption_counts_the_decided(runs, tmp_path):
    assert ledger_table(runs).caption.startswith("2 of 38 claims decided")
    (tmp_path / "empty").mkdir()
    assert ledger_table(tmp_path / "empty").caption.startswith("0 of 38 claims decided")


def test_records_name_their_notebook(runs):
    found = [(record["notebook"], record["verdict"]) for record in records(runs, "Verdict")]
    assert found == [
        ("a.ipynb", "holds here"),
        ("a.ipynb", "cannot tell"),
        ("b.ipynb", "does not hold here"),
        ("b.ipynb", "holds here"),
    ]


def test_collecting_gives_a_table_with_a_row_per_record(runs):
    table = collect(runs)
    assert len(table) == 4
    assert table["measured.loss_ratio"].dropna().tolist() == [0.1, 0.9, 0.1]
    assert RECORD.endswith("+json")


def test_collecting_nothing_gives_an_empty_table(tmp_path):
    assert len(collect(tmp_path)) == 0


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises((LookupError, ValueError, OSError), match="nowhere"):
        collect(tmp_path / "nowhere")
