"""Notebooks that strangers wrote: a bad one is one row with its reason, and nothing of it runs."""

import html
import json
import os
import re
import resource

import pandas as pd
import pytest

from kit.core.errors import BadValue
from kit.core.results import RECORD
from kit.course.claims import ledger
from kit.experiments import class_results, collect, write_report
from kit.experiments.recording import RECORDED_RUNS
from kit.experiments.records import SOURCE, executed_runs
from kit.experiments.untrusted_notebooks import DEPTH, NOTEBOOK_BYTES, RECORDS, VALUES, safe_line

ATTACK = '</style></title><script>alert(1)</script><img src=x onerror="alert(2)">'
VERDICT = {"kind": "Verdict", "claim_id": "01", "claim": "c", "verdict": "holds here"}
BILLS = json.loads(next((RECORDED_RUNS / "eight").glob("*fraud*")).read_text())
BILLS = next(
    output["data"][RECORD]
    for cell in BILLS["cells"]
    for output in cell["outputs"]
    if output["data"][RECORD]["kind"] == "RunCost"
)


def made(*records, source="n: int = 2  # 1..9 tries; x", **metadata):
    """A notebook with these records, and with this in papermill's metadata."""
    outputs = [
        {"output_type": "display_data", "metadata": {}, "data": {RECORD: record}}
        for record in records
    ]
    cells = [
        {"metadata": {"tags": ["parameters"]}, "source": source},
        {"metadata": {}, "source": "…", "outputs": outputs},
    ]
    for cell in cells:
        cell |= {"cell_type": "code", "execution_count": 1}
    mill = {"start_time": "2026-11-22T10:00:00", "end_time": "2026-11-22T10:00:09", "duration": 9.0}
    return {"cells": cells, "metadata": {"papermill": mill | metadata}, "nbformat": 4}


def raw(*records, **metadata) -> bytes:
    return json.dumps(made(*records, **metadata)).encode()


def wrong(name, value) -> bytes:
    """Both bills with another value at a place, `a.b`."""
    bills = json.loads(json.dumps(BILLS))
    *path, last = name.split(".")
    inner = bills
    for part in path:
        inner = inner[part]
    inner[last] = value
    return raw(bills)


def deep(levels):
    record = 1
    for _ in range(levels):
        record = {"a": record}
    return {"kind": "Deep", "a": record}


HUGE = b'{"kind": "A", "x": ' + b"9" * 4_000 + b"}"
# What a file holds, and what its row says.
REFUSED = {
    "empty": (b"", "cannot be read"),
    "not JSON": (b"{", "cannot be read"),
    "invalid UTF-8": (b'{"cells": "\xff"}', "utf-8"),
    "other UTF": ("{}".encode("utf-16"), "utf-8"),
    "nested": (b"[" * 200_000, "RecursionError"),
    "a list": (b"[]", "not a notebook"),
    "cells of a wrong type": (b'{"cells": 3, "metadata": {}}', "not a notebook"),
    "metadata of a wrong type": (b'{"cells": [], "metadata": 3}', "not a notebook"),
    "outputs of a wrong type": (b'{"cells": [{"outputs": 3}], "metadata": {}}', "not a notebook"),
    "source of numbers": (raw(source=[1, 2]), "not a notebook"),
    "data of a wrong type": (
        raw().replace(b'"outputs": []', b'"outputs": [{"data": 3}]'),
        "not a not",
    ),
    "a number with 4,000 digits": (raw(1).replace(b"1}}]", HUGE + b"}}]"), "very large"),
    "a number with 5,000 digits": (
        raw(1).replace(b"1}}]", b"9" * 5_000 + b"}}]"),
        "cannot be read",
    ),
    "a deep record": (raw(deep(DEPTH + 5)), f"at most {DEPTH} levels"),
    "a million rows": (raw({"kind": "A", "x": list(range(VALUES))}), f"at most {VALUES:,}"),
    "wide": (raw({"kind": "A", **dict.fromkeys(map(str, range(10_000)), 1)}), "more values than"),
    "wide parameters": (raw(parameters=dict.fromkeys(map(str, range(10_000)), 1)), "more values"),
    "claim of a wrong type": (raw(VERDICT | {"claim_id": ["01"]}), "claim_id is a list of 1"),
    "verdict missing": (raw({"kind": "Verdict", "claim_id": "01"}), "claim is missing"),
    "one of several": (raw({"records": [VERDICT, {"kind": "Verdict"}]}), "claim_id is missing"),
    "kind of a wrong type": (raw({"kind": ["A"]}), "the kind of record 1"),
    "workload of a wrong type": (wrong("workload", 3), "workload is a whole number; needs text"),
    "time of a wrong type": (wrong("training.step_s", "1"), "step_s is text; needs a number"),
    "part of a wrong type": (wrong("ratio", [1]), "ratio is a list of 1; needs an object"),
    "estimate of a wrong type": (wrong("score_share.low", {}), "low is an object of 0"),
    "truth of a wrong type": (wrong("reached", "yes"), "needs true or false"),
    "duration of a wrong type": (raw(duration="long"), "not a number of seconds"),
    "endless duration": (raw(duration=1e300), "not a number of seconds"),
    "date of a wrong type": (raw(start_time=3), "date"),
    "date with script": (raw(start_time=ATTACK), "date"),
    "parameters of a wrong type": (raw(parameters=[1]), "needs an object"),
    "origin of a wrong type": (raw(input_path=3), "input_path is a whole number"),
    "large": (b" " * (NOTEBOOK_BYTES + 1), "bytes, more than"),
}


def many_verdicts() -> bytes:
    output = json.dumps({"output_type": "display_data", "data": {RECORD: {"kind": "Verdict"}}})
    outputs = ",".join([output] * 150_000)  # as many as a file may hold
    return raw().replace(b'"outputs": []', f'"outputs": [{outputs}]'.encode())


REFUSED["a million verdicts"] = (many_verdicts(), f"at most {RECORDS:,}")

# What is odd but can be told.
TAKEN = {
    "not a number": raw({"kind": "A", "x": float("nan"), "y": float("inf")}),
    "lone surrogates": raw({"kind": "A", "x\ud800": "\ud800"}, parameters={"\udfff": "\ud800"}),
    "endless comment": raw(source="n: int = 2" + " " * 1_000_000 + "# x"),
    "endless spaces": raw(source="n: int = 2" + " " * (SOURCE - 20) + "# x"),
    "records that are none": raw({"records": [1, [], {}, {"records": [1]}]}, {"records": 3}),
    "no Python": raw(source="(" * 5_000),
    "a null byte": raw(source="n: int = 2\0"),
    "large number": raw({"kind": "A", "x": 2**70}),
    "a clock that was set back": raw(duration=-3600.0),
    "script": raw({"kind": "A", ATTACK: ATTACK}, parameters={ATTACK: ATTACK}, input_path=ATTACK),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_notebook_is_one_row_with_its_reason(name, tmp_path):
    content, reason = REFUSED[name]
    (tmp_path / "a.ipynb").write_bytes(content)
    (tmp_path / "good.ipynb").write_bytes(raw(VERDICT))
    bad, good = executed_runs(tmp_path)
    assert (bad.status, bad.link, good.status) == ("unreadable", "", "done")
    assert reason in bad.error and len(bad.error) <= 2_001 and str(tmp_path) not in bad.error
    assert "999999" not in bad.error and "<script" not in bad.error


@pytest.mark.parametrize("name", TAKEN)
def test_an_odd_notebook_is_a_run(name, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(TAKEN[name])
    (run,) = executed_runs(tmp_path)
    seconds = None if name == "a clock that was set back" else 9.0
    assert run.status == "done" and run.seconds == seconds


def test_what_is_not_a_file_is_a_row_and_no_link_is_followed(tmp_path):
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    for folder in (shared, outside):
        folder.mkdir()
    (outside / "secret.ipynb").write_bytes(raw(VERDICT))
    (shared / "directory.ipynb").mkdir()
    (shared / "linked.ipynb").symlink_to(outside / "secret.ipynb")
    (shared / "loop.ipynb").symlink_to("loop.ipynb")
    (shared / "up").symlink_to(shared, target_is_directory=True)
    (shared / "out").symlink_to(outside, target_is_directory=True)
    (shared / "folder.ipynb").symlink_to(outside, target_is_directory=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(shared / "pipe.ipynb")  # nobody writes to it: reading would wait for ever
    found = {run.name: run.error for run in executed_runs(shared)}
    expected = {"directory", "folder", "linked", "loop", "pipe"}
    assert set(found) == expected and all(found.values())
    assert "link, and links are not followed" in found["linked"]
    write_report(shared)


def test_a_report_is_not_written_through_a_link(tmp_path):
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    for folder in (shared, outside):
        folder.mkdir()
    (shared / "a.ipynb").write_bytes(raw(VERDICT))
    (shared / "report").symlink_to(outside, target_is_directory=True)
    with pytest.raises(BadValue, match="is a link, and links are not followed"):
        write_report(shared)
    assert not list(outside.iterdir())


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory):
    """All bad and odd notebooks in one folder, with a name that is an attack as well."""
    folder = tmp_path_factory.mktemp("class") / "<script>alert(0)<"
    folder.mkdir()
    for i, content in enumerate([*(content for content, _ in REFUSED.values()), *TAKEN.values()]):
        (folder / f"{i:02}.ipynb").write_bytes(content)
    (folder / "=cmd|' <img src=x onerror=alert(3)>.ipynb").write_bytes(raw({"kind": "A", "x": 1.5}))
    (folder / os.fsdecode(b"caf\xe9\n.ipynb")).write_bytes(raw(VERDICT))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = write_report(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return report, grown


def test_a_folder_full_of_them_is_a_row_each(all_of_them):
    report, grown_kb = all_of_them
    table = pd.read_parquet(report.paths[1])
    assert len(table) == len(REFUSED) + len(TAKEN) + 2
    assert list(table["status"]).count("unreadable") == len(REFUSED)
    assert report.summary.startswith(f"{len(table)} runs")
    assert grown_kb < 2_000_000


def test_no_text_of_theirs_is_markup_in_the_page(all_of_them):
    page = all_of_them[0].paths[2].read_text(encoding="utf-8")
    assert "alert(1)" in page and "alert(0)" in page and "alert(3)" in page  # as text
    tags = re.findall(r"<\s*([a-zA-Z]+)", page)
    assert not {"script", "iframe", "object", "form", "link", "base"} & set(tags)
    assert set(re.findall(r"<img [a-z]+=", page)) <= {"<img alt="}
    assert "default-src 'none'" in html.unescape(page) and page.index("Content-Sec") < 200


def test_no_text_of_theirs_is_a_formula_in_the_spreadsheet(tmp_path):
    told = {"a": "=1+1", "b": "@SUM(A1)", "c": "+1", "d": "-2+3", "e": "fine", "=f": "\t=1"}
    (tmp_path / "=run.ipynb").write_bytes(raw({"kind": "A", "n": -1.5, **told}))
    spreadsheet, parquet, _ = write_report(tmp_path).paths
    table, typed = pd.read_csv(spreadsheet), pd.read_parquet(parquet)
    assert table["run"].item() == "'=run" and typed["run"].item() == "=run"
    assert [table[c].item() for c in "abcd"] == [f"'{told[c]}" for c in "abcd"]
    assert table["e"].item() == "fine" and table["n"].item() == -1.5 and "'=f" in table


def test_two_columns_of_one_name_are_both_there(tmp_path):
    named = {"value": 1.0, "low": 1.0, "high": 1.0, "unit": "s"}
    (tmp_path / "a.ipynb").write_bytes(raw({"kind": "A", "x": named, "x.value [s]": 7}))
    table = pd.read_parquet(write_report(tmp_path).paths[1])
    assert (table["x.value [s]"].item(), table["x.value"].item()) == (7, 1.0)


def test_more_notebooks_than_a_folder_may_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kit.experiments.untrusted_notebooks.NOTEBOOKS", 3)
    for i in range(4):
        (tmp_path / f"{i}.ipynb").write_bytes(b"")
    with pytest.raises(BadValue, match="has more than 3 notebooks"):
        executed_runs(tmp_path)


def test_a_table_has_room_for_so_many_columns_and_values(tmp_path, monkeypatch):
    monkeypatch.setattr("kit.experiments.records.ALL_COLUMNS", 60)
    for i in range(3):
        record = {"kind": "A", **{f"x{i}.{j}": j for j in range(30)}}
        (tmp_path / f"{i}.ipynb").write_bytes(raw(record))
    assert [run.status for run in executed_runs(tmp_path)] == ["done", "unreadable", "unreadable"]


def test_a_class_with_bad_files_is_still_a_class(tmp_path):
    for i, content in enumerate([*(content for content, _ in REFUSED.values()), *TAKEN.values()]):
        (tmp_path / f"{i:02}.ipynb").write_bytes(content)
    (tmp_path / "good.ipynb").write_bytes(raw(BILLS))
    assert list(class_results(tmp_path, "fraud").index) == ["A"]
    assert len(collect(tmp_path, "RunCost")) == 1
    with pytest.raises(BadValue) as told:
        class_results(tmp_path, "vision")
    assert "It has fraud" in str(told.value)


def test_plain_text_is_one_line_of_a_bounded_length():
    assert safe_line("a\x00\x1b[31m\u202eb\n", "x") == "a [31m b"
    assert safe_line("\ud800", "x") == "\ufffd" and len(safe_line("a" * 10**6, "x")) == 2_001
    with pytest.raises(ValueError, match="x is a list of 2; needs text"):
        safe_line([1, 2], "x")


def test_the_ledger_is_whole_whatever_they_send(all_of_them):
    assert len(all_of_them[0].ledger.rows) == len(ledger())
