"""Plans: what a grid file asks for, what it is refused for, and what a folder says is done."""

import time
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from test_execution import notebook

from kit.cli.main import main
from kit.core.errors import BadValue
from kit.experiments import collect
from kit.experiments.grids import MOST
from kit.experiments.plans import describe_plan, expected_s, make_plan, sweep_status
from kit.experiments.records import ExecutedRun

PARAMETERS = """
n: int = 2  # 0..100; a number
lr: float = 0.1  # 1e-5..1; learning rate
kind: str = "mlp"  # mlp | cnn; which
live: bool = False  # whether to draw
"""

MINE = """
import torch, kit
work = kit.workloads.from_data(
    (torch.rand(20, 2), torch.arange(20) % 2), model=lambda: torch.nn.Linear(2, 2)
)
"""


@pytest.fixture
def asked(tmp_path):
    """A notebook with four parameters."""
    path = notebook(tmp_path / "asked.ipynb", "n")
    made = nbformat.read(path, as_version=4)
    made.cells[1].source = PARAMETERS.strip()
    nbformat.write(made, path)
    return path


def grid(folder, text: str):
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def given(asked, text: str) -> list[dict]:
    """What the runs are given that a grid file asks for."""
    return [run.given for run in make_plan(asked, grid(asked.parent, text)).runs]


# --- The three forms -----------------------------------------------------------------------------


def test_a_grid_is_every_combination(asked):
    found = given(asked, "grid: {kind: [mlp, cnn], n: [1, 32]}")
    assert found == [
        {"kind": "mlp", "n": 1},
        {"kind": "mlp", "n": 32},
        {"kind": "cnn", "n": 1},
        {"kind": "cnn", "n": 32},
    ]


@pytest.mark.parametrize(
    ("ends", "values"), [("[0, 3]", [0, 1, 2, 3]), ("[0, 100, 40]", [0, 40, 80]), ("[5, 5]", [5])]
)
def test_a_range_holds_both_its_ends(asked, ends, values):
    assert [row["n"] for row in given(asked, f"grid: {{n: {{range: {ends}}}}}")] == values


def test_a_list_is_its_rows(asked):
    rows = "list:\n  - {n: 1}\n  - {kind: cnn, lr: 1e-4, live: true}"
    assert given(asked, rows) == [{"n": 1}, {"kind": "cnn", "lr": 1e-4, "live": True}]


def test_fixed_values_are_those_of_all_runs(asked):
    text = "fixed: {kind: cnn, lr: 1}\nlist: [{n: 1}, {n: 3}]"
    assert given(asked, text) == [{"kind": "cnn", "lr": 1.0, "n": n} for n in (1, 3)]


DRAWN = "random: {count: %d, seed: %d, from: {n: %s, kind: [mlp, cnn], lr: {log: [1e-4, 1e-1]}}}"


def test_draws_are_the_same_for_a_seed_and_others_for_another(asked):
    text = DRAWN % (20, 1, "{range: [0, 100]}")
    assert given(asked, text) == given(asked, text)
    assert given(asked, text) != given(asked, DRAWN % (20, 2, "{range: [0, 100]}"))


def test_with_a_larger_count_the_first_draws_stay(asked):
    few, many = (given(asked, DRAWN % (n, 1, "{range: [0, 100]}")) for n in (5, 20))
    assert many[:5] == few and len(many) == 20


def test_what_is_drawn_is_in_its_range_and_spread_over_it(asked):
    rows = given(asked, DRAWN % (400, 0, "[7, 8, 9]"))
    assert {row["n"] for row in rows} == {7, 8, 9}
    assert all(1e-4 <= row["lr"] <= 1e-1 for row in rows)
    decades = [sum(low <= row["lr"] < 10 * low for row in rows) for low in (1e-4, 1e-3, 1e-2)]
    assert sum(decades) >= 399 and min(decades) > 100  # an even share is 133; even in lr: 0.4
    assert all(len(f"{row['lr']:.10g}".strip("0.e-")) <= 8 for row in rows)  # four digits


@pytest.mark.parametrize("kind", ["range", "log"])
def test_each_whole_number_of_a_range_is_drawn(asked, kind):
    rows = given(asked, f"random: {{count: 3, seed: 0, from: {{n: {{{kind}: [1, 3]}}}}}}")
    assert sorted(row["n"] for row in rows) == [1, 2, 3]


def test_no_draw_comes_twice_and_too_few_are_refused(asked):
    rows = given(asked, "random: {count: 4, from: {n: [1, 2], live: [true, false]}}")
    assert len({tuple(row.items()) for row in rows}) == 4
    with pytest.raises(BadValue, match="count: 5: only 4 different rows were found"):
        given(asked, "random: {count: 5, from: {n: [1, 2], live: [true, false]}}")


# --- Mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "None: needs names with values"),
        ("- 1", "[1]: needs names with values"),
        ("gird: {n: [1]}", "no key of a grid file is called 'gird'; did you mean 'grid'"),
        ("grid: {n: [1]}\nlist: [{n: 2}]", "the file has grid and list; needs one of grid, list"),
        ("fixed: {n: 1}", "the file has none of them; needs one of grid"),
        ("grid: {n: [1}", "not YAML (see line 1); needs grid or list or random"),
        ("grid:", "grid: None: needs names with values"),
        ("grid: {n: []}", "grid: n: []: needs a list of values or {range:"),
        ("grid: {n: 1}", "grid: n: 1: needs a list"),
        ("grid: {m: [1]}", "grid: no parameter of asked.ipynb is called 'm'"),
        ("grid: {n: [1, many]}", "grid: n='many': needs a whole number"),
        ("grid: {n: [1, 101]}", "grid: n=101: not possible. n: int = 2 (0 to 100)"),
        ("grid: {kind: [no]}", "grid: kind=False: needs a word"),  # YAML's own reading
        ("grid: {n: {range: [0, 101]}}", "grid: n=101: not possible"),
        ("grid: {n: {range: [3, 1]}}", "grid: n: {'range': [3, 1]}: needs a list"),
        ("grid: {n: {range: [1, 3, 0]}}", "grid: n: {'range': [1, 3, 0]}: needs a list"),
        ("grid: {n: {range: 3}}", "grid: n: {'range': 3}: needs a list"),
        ("grid: {lr: {range: [0.1, 1]}}", "grid: lr: {'range': [0.1, 1]}: needs a list of values."),
        ("grid: {n: [1, 2, 1]}", "grid: n=1 stands there twice"),
        ("list: []", "list: []: needs rows"),
        ("list: {n: 1}", "list: {'n': 1}: needs rows"),
        ("list: [{n: 1}, {}]", "list: row 2: {}: needs names with values"),
        ("list: [{n: 1}, {n: x}]", "list: row 2: n='x': needs a whole number"),
        ("list: [{n: 1}, {n: 2, live: false}, {n: 2}]", "list: n=2 stands there twice"),
        ("fixed: {n: 1}\ngrid: {n: [1]}", "n is in grid and in fixed; remove one of the two"),
        ("fixed: {n: x}\ngrid: {lr: [1]}", "fixed: n='x': needs a whole number"),
        ("fixed: {}\ngrid: {lr: [1]}", "fixed: {}: needs names"),
        ("skip_impossible: 2\ngrid: {n: [1]}", "skip_impossible is 2; needs true or false"),
        ("random: {count: 3}", "random: count: needs count, from and, if"),
        ("random: {count: 0, from: {n: [1]}}", "random: count=0: needs a whole number from 1 to"),
        ("random: {count: 1, seed: x, from: {n: [1]}}", "seed='x': needs a whole number"),
        ("random: {count: 1, from: {lr: {log: [0.1]}}}", "lr: {'log': [0.1]}: needs a list of"),
        ("random: {count: 1, from: {n: {log: [0, 9]}}}", "or {log: [LOW, HIGH]}, above 0"),
        ("random: {count: 1, from: {lr: {even: [0.1, 1]}}}", "lr: {'even': [0.1, 1]}: needs a"),
        ("random: {count: 1, from: {kind: {log: [1, 2]}}}", "needs a list of values to draw from"),
        ("random: {count: 1, from: {lr: {log: [1e-9, 1]}}}", "lr='1e-9': not possible"),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_nothing_starts(asked, text, told):
    path = grid(asked.parent, text)
    answer = CliRunner().invoke(
        main, ["sweep", str(asked), str(path), "--out", str(path.parent / "out")]
    )
    assert answer.exit_code == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("Error: grid.yaml: ") and told in line
    assert sorted(p.name for p in path.parent.iterdir()) == ["asked.ipynb", "grid.yaml"]


def test_a_file_that_is_not_there_is_one_line(asked):
    answer = CliRunner().invoke(main, ["sweep", str(asked), "none.yaml", "--out", "out"])
    assert answer.exit_code == 2
    assert answer.stderr == "Error: none.yaml: no such file; give the path of a grid file.\n"


def test_a_slip_of_the_pen_is_refused_before_it_fills_the_memory(asked):
    began = time.process_time()
    with pytest.raises(BadValue, match=f"1,030,301 runs: needs at most {MOST:,}"):
        given(asked, "grid: {n: {range: [0, 100]}, lr: %s, live: [true]}" % ([0.5] * 10_201))
    assert time.process_time() - began < 20


# --- What cannot go together ---------------------------------------------------------------------

TOGETHER = (
    'workload: str = "vision"\nmodel: str = "default"\nprecision: str = "fp32"\ndevice: str = "cpu"'
)
SOME = "grid: {model: [mlp, lstm, cnn, gpt], workload: [vision]}"


@pytest.fixture
def together(asked):
    made = nbformat.read(asked, as_version=4)
    made.cells[1].source = TOGETHER
    nbformat.write(made, asked)
    return asked


def test_the_impossible_is_refused_with_how_many_and_the_first(together):
    with pytest.raises(BadValue) as refused:
        given(together, SOME)
    told = (
        "grid.yaml: 2 of 4 runs are impossible (`skip_impossible: true` leaves them out). The first"
    )
    assert str(refused.value).startswith(
        f"{told}: model=lstm, workload=vision: no model of the work"
    )
    assert "\n" not in str(refused.value)


def test_the_impossible_is_left_out_if_asked_and_said(together):
    path = grid(together.parent, f"skip_impossible: true\n{SOME}")
    plan = make_plan(together, path)
    assert [run.given["model"] for run in plan.runs] == ["mlp", "cnn"]
    assert len(plan.impossible) == 2
    words = ["sweep", str(together), str(path), "--out", str(together.parent / "out"), "--dry-run"]
    told = CliRunner().invoke(main, words).stdout
    assert (
        "2 impossible combinations are left out; the first: model=lstm, workload=vision: no model"
        in told
    )


def test_where_nothing_is_left_the_file_is_refused(together):
    with pytest.raises(BadValue, match="1 of 1 runs are impossible"):
        given(together, "skip_impossible: true\nlist: [{model: lstm}]")


def test_a_wrong_value_is_refused_even_if_the_impossible_is_skipped(asked):
    with pytest.raises(BadValue, match="n='x': needs a whole number"):
        given(asked, "skip_impossible: true\nlist: [{n: 1}, {n: x}]")


def test_what_this_computer_lacks_is_left_to_the_computer_that_runs_it(together):
    path = grid(together.parent, "list: [{precision: fp16}]")
    with pytest.raises(BadValue, match="float16 needs an accelerator"):
        make_plan(together, path)
    assert len(make_plan(together, path, here=False).runs) == 1


# --- Identity ------------------------------------------------------------------------------------


def ids(asked, text: str = "grid: {n: [1, 2]}") -> list[str]:
    return [run.id for run in make_plan(asked, grid(asked.parent, text)).runs]


def change(asked, cell: int, **changes):
    made = nbformat.read(asked, as_version=4)
    made.cells[cell].update(changes)
    nbformat.write(made, asked)


def test_a_run_is_the_same_however_the_grid_file_says_it(asked):
    assert ids(asked) == ids(asked, "list: [{n: 1}, {n: 2}]")
    assert ids(asked) == ids(asked, "fixed: {lr: 1e-1, kind: mlp}\ngrid: {n: ['1', 2]}")


def test_a_run_is_another_with_another_value_or_cell(asked):
    before = ids(asked)
    assert len({*before, *ids(asked, "fixed: {lr: 0.2}\ngrid: {n: [1, 2]}")}) == 4
    change(asked, 2, source="n + 1")
    assert not set(before) & set(ids(asked))


def test_a_run_stays_the_same_if_prose_or_outputs_change(asked):
    before = ids(asked)
    change(asked, 0, source="# Another title")
    change(asked, 2, outputs=[nbformat.v4.new_output("stream", text="seen")], execution_count=3)
    assert ids(asked) == before
    assert "seen" not in make_plan(asked, grid(asked.parent, "grid: {n: [1]}")).source


def test_a_run_is_another_when_the_users_own_file_is_another(asked, monkeypatch):
    line = 'workload: str = "vision"  # vision | language; what is learnt'
    change(asked, 1, source=line)
    mine = asked.parent / "mine.py"
    mine.write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(asked.parent)
    text = "grid: {workload: [vision, 'mine.py:work']}"
    before = ids(asked, text)
    assert len(set(before)) == 2 and before == ids(asked, text)
    mine.write_text(f"{MINE}\n", encoding="utf-8")
    after = ids(asked, text)
    assert after[0] == before[0] and after[1] != before[1]
    with pytest.raises(BadValue, match=r"nope\.py cannot be read"):
        ids(asked, "grid: {workload: ['nope.py:work']}")


def test_files_are_named_for_people_and_for_every_system(asked):
    (run,) = make_plan(asked, grid(asked.parent, "list: [{n: 1, lr: 0.01, kind: cnn}]")).runs
    assert run.name == f"asked-n=1-lr=0.01-kind=cnn-{run.id}"
    made = nbformat.read(asked, as_version=4)
    made.cells[1].source = "note: str = ''"
    nbformat.write(made, asked)
    long = "a/b: ü?" * 40
    (run,) = make_plan(asked, grid(asked.parent, f"list: [{{note: '{long}'}}]")).runs
    assert run.name.startswith("asked-note=a_b_") and len(run.name) < 120
    assert run.given["note"] == long


# --- How far it has come, and how long it takes --------------------------------------------------


def kept(path, seconds: float | None = 2.0, error: str = "", count: int | None = 1):
    """An executed notebook, as far as its state is read."""
    output = [nbformat.v4.new_output("error", ename="E", evalue=error, traceback=[])]
    cell = nbformat.v4.new_code_cell("1", outputs=output if error else [], metadata={"tags": []})
    cell.execution_count = count
    made = nbformat.v4.new_notebook(cells=[cell])
    times = {"start_time": "2026-01-01T00:00:00", "end_time": "2026-01-01T00:00:02"}
    made.metadata["papermill"] = {**times, "duration": seconds, "input_path": "x/asked.ipynb"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(made, path)


def test_a_folder_says_what_is_done_what_failed_and_what_is_left(asked, tmp_path):
    plan = make_plan(asked, grid(tmp_path, "grid: {n: {range: [1, 5]}}"))
    one, two, three, four, five = plan.runs
    out = tmp_path / "out"
    assert sweep_status(plan, out).left == plan.runs  # no folder yet
    kept(out / f"{one.name}.ipynb")
    kept(out / f"{two.name}.failed.ipynb", error="by hand")
    (out / f"{three.name}.ipynb").write_text("")  # a power cut
    kept(out / f".{four.name}.part.ipynb")
    kept(out / "asked-n=5-0123456789ab.ipynb")
    kept(out / f"named-otherwise-{five.id}.ipynb")
    kept(out / f"{five.name}.failed.ipynb", error="before it was run again")
    found = sweep_status(plan, out)
    assert (found.done, found.failed, found.left) == ((one, five), (two,), (three, four))
    assert found.others == 1


def test_a_notebook_whose_cells_never_ran_is_not_done(asked, tmp_path):
    plan = make_plan(asked, grid(tmp_path, "grid: {n: [1, 2]}"))
    one, two = plan.runs
    kept(tmp_path / "out" / f"{one.name}.ipynb")
    kept(tmp_path / "out" / f"{two.name}.ipynb", count=None)
    found = sweep_status(plan, tmp_path / "out")
    assert (found.done, found.failed) == ((one,), (two,))
    assert "1 of its cells never ran" in collect(tmp_path / "out")["error"][1]


def test_one_run_is_told_as_one(asked, tmp_path):
    plan = make_plan(asked, grid(tmp_path, "grid: {n: [1]}"))
    kept(tmp_path / "out" / f"{plan.runs[0].name}.ipynb")
    kept(tmp_path / "out" / "asked-n=5-0123456789ab.ipynb")
    told = describe_plan(plan, sweep_status(plan, tmp_path / "out"), [])
    assert ": 1 run, 1 of them done; 0 to run.\n" in told
    assert told.endswith("also has 1 executed notebook with other cells or parameters; it stays.")


def past(seconds: float, status: str = "done", **parameters) -> ExecutedRun:
    return ExecutedRun("a", "asked.ipynb", status, seconds=seconds, parameters=parameters)


def test_the_expected_time_is_that_of_the_nearest_past_runs(asked):
    runs = make_plan(asked, grid(asked.parent, "grid: {n: [1, 2]}")).runs
    known = [
        past(10.0, n=1, kind="mlp"),
        past(30.0, n=1, kind="mlp"),
        past(99.0, "failed", n=1, kind="mlp"),
        past(5.0, n=2, kind="cnn"),
        past(7.0, n=2, kind="mlp"),
    ]
    assert expected_s(runs[:1], known) == 20
    assert expected_s(runs, known) == 27
    assert expected_s(runs, known[2:3]) is None
    assert expected_s(runs, []) is None


def test_past_runs_are_looked_for_in_both_folders(asked, tmp_path):
    kept(tmp_path / "runs" / "old.ipynb", seconds=60)
    plan = make_plan(asked, grid(tmp_path, "grid: {n: [1, 2]}"))
    found = sweep_status(plan, tmp_path / "out", tmp_path / "runs")
    assert expected_s(found.left, found.past) == 120


def test_the_kits_own_grid_files_can_be_read():
    folder = Path(__file__).parents[1] / "notebooks" / "experiments"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for path in files:
        assert make_plan(folder / "train-versus-infer.ipynb", path, here=False).runs
