"""Parameters: what a notebook can be asked, and what is refused before a kernel starts."""

import subprocess
import sys

import pytest
from written import asking

from kit.core.errors import BadValue, UnknownName
from kit.experiments import check_parameters, declared, find_notebook, run

LINES = """
steps: int = 600  # 10..20000; updates of the weights
lr: float = 3e-3  # 1e-5..1; learning rate
shift: int = -1  # -5..0; pixels to the left
model: str = "cnn"  # cnn | mlp; which model learns
threads: int = 1  # 1 | 2 | 4; CPU threads
live: bool = False  # whether to draw
note: str = ""
budget_s: float = 30.0  # 0.1..600 s; of training
"""


@pytest.fixture
def asked(tmp_path):
    return asking(tmp_path / "asked.ipynb", LINES)


def test_a_workload_may_be_in_a_file_of_ones_own_and_nothing_else_may(tmp_path):
    lines = 'workload: str = "vision"  # vision | language; what\nkind: str = "a"  # a | b; which'
    found = declared(asking(tmp_path / "own.ipynb", lines))
    assert found["workload"].value("mine.py:shapes") == "mine.py:shapes"
    assert "| FILE.py:NAME)" in str(found["workload"]) and "FILE" not in str(found["kind"])
    for wrong in ("mine.py", "mine.py:", "mine.txt:x", "mine.py:a b"):
        with pytest.raises(BadValue, match=r"not possible.*FILE\.py:NAME"):
            found["workload"].value(wrong)
    with pytest.raises(BadValue, match="not possible"):
        found["kind"].value("mine.py:shapes")


def test_a_device_may_be_a_tpu_or_one_of_several():
    """What docs/tpu.md tells readers to type, in a lesson."""
    found = declared(find_notebook("02"))["device"]
    for name in ("tpu", "tpu:1", "xla", "cuda:1", "xpu:0"):
        assert found.value(name) == name
    assert "| xpu | tpu | cuda:N)" in str(found)
    for wrong in ("cuda:", "cpu:1", "gpu", "tpu:x"):
        with pytest.raises(BadValue, match="not possible"):
            found.value(wrong)


# --- The grammar ---------------------------------------------------------------------------------


def test_each_line_is_a_parameter(asked):
    found = declared(asked)
    assert list(found) == ["steps", "lr", "shift", "model", "threads", "live", "note", "budget_s"]
    assert [p.type for p in found.values()] == [int, float, int, str, int, bool, str, float]
    assert [p.default for p in found.values()] == [600, 3e-3, -1, "cnn", 1, False, "", 30.0]


def test_ranges_choices_and_meanings_are_read(asked):
    found = declared(asked)
    assert (found["steps"].low, found["steps"].high) == (10, 20_000)
    assert (found["lr"].low, found["lr"].high) == (1e-5, 1)
    assert (found["shift"].low, found["shift"].high) == (-5, 0)
    assert found["model"].choices == ("cnn", "mlp")
    assert found["steps"].meaning == "updates of the weights"
    assert found["live"].meaning == "whether to draw"


@pytest.mark.parametrize(
    ("line", "unit", "told"),
    [
        ("b: float = 30.0  # 0.1..600 s; time", "s", "(0.1 to 600 s)  time"),
        ("b: float = 30.0  # 0.1 .. 600 examples/s", "examples/s", "(0.1 to 600 examples/s)"),
        (
            "b: int = 2  # 1 | 2 | 4 threads; of the CPU",
            "threads",
            "(1 | 2 | 4 threads)  of the CPU",
        ),
        ("b: int = 2  # 1|2|4; threads", "", "(1 | 2 | 4)  threads"),
        ("b: int = 7  # 0..4294967295; seed", "", "(0 to 4294967295)  seed"),
        ("b: float = 2  # in seconds; or none", "", "in seconds; or none"),
    ],
)
def test_a_unit_may_follow_the_limits(tmp_path, line, unit, told):
    found = declared(asking(tmp_path / "a.ipynb", line))["b"]
    assert found.unit == unit
    assert str(found).endswith(told)


@pytest.mark.parametrize(
    "line",
    [
        "b: float = 30.0  # 0.1..600 seconds of training",  # no semicolon: not a unit
        "b: int = 30  # 1..600..2; steps",
        "b: int = 2  # 1 | 2 | 4 cores or threads; of the CPU",
        "b: int = 2  # one | 2; number",
        'b: str = "cnn"  # cnn | mlp which model',
        'b: str = "cnn"  # 1..5; model',
    ],
)
def test_limits_that_cannot_be_read_are_not_taken_for_words(tmp_path, line):
    with pytest.raises(BadValue, match=r"a\.ipynb: b: the limits in .* needs \"LOW\.\.HIGH UNIT"):
        declared(asking(tmp_path / "a.ipynb", line))


@pytest.mark.parametrize(
    "line", ['b: str = "x=1"', "b: int = 5  # 1..9; n = 5", "b: int", "b: int = 1; c: int = 2"]
)
def test_a_line_that_papermill_would_lose_is_refused(tmp_path, line):
    with pytest.raises(BadValue, match=r"a\.ipynb: .*(papermill cannot read|plain value)"):
        declared(asking(tmp_path / "a.ipynb", line))


@pytest.mark.parametrize("line", ['b: str = "#1"', "b: int = (", "b: int ="])
def test_a_line_that_is_no_plain_value_is_refused(tmp_path, line):
    with pytest.raises(BadValue, match=r"a\.ipynb: .*(plain value|not valid Python)"):
        declared(asking(tmp_path / "a.ipynb", line))


@pytest.mark.slow
def test_papermill_shows_the_same_lines(asked):
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(asked)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, parameter in declared(asked).items():
        assert f"{name}: {parameter.type.__name__} (default " in told
        assert parameter.meaning in told
    assert "0.1..600 s; of training" in told


def test_a_parameter_tells_itself_in_one_line(asked):
    assert str(declared(asked)["steps"]) == "steps: int = 600 (10 to 20000)  updates of the weights"
    assert str(declared(asked)["model"]) == "model: str = 'cnn' (cnn | mlp)  which model learns"


@pytest.mark.parametrize("line", ["steps = 600", "steps: list = [1]"])
def test_a_parameter_needs_a_type_that_is_known(tmp_path, line):
    with pytest.raises(BadValue, match=r"'steps' is declared as .* int, float, str, bool"):
        declared(asking(tmp_path / "a.ipynb", line))


@pytest.mark.parametrize(
    "line",
    [
        "steps: int = 2 * 300  # 10..20000; steps",  # not a plain value
        "steps: int = 5  # 10..20000; steps",  # the default is out of its own range
        "steps: float = 'many'",
        "model: str = 'gpt'  # cnn | mlp; model",
    ],
)
def test_a_default_that_cannot_be_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(BadValue, match=line.split(":")[0]):
        declared(asking(tmp_path / "a.ipynb", line))


@pytest.mark.parametrize(
    "line",
    ["steps: int = 600  # 10..20000", "steps: int = 600  # 10 .. 20000; steps; many of them"],
)
def test_a_range_is_never_overlooked(tmp_path, line):
    assert declared(asking(tmp_path / "a.ipynb", line))["steps"].high == 20_000


def test_a_notebook_without_parameters_has_none(tmp_path):
    plain = asking(tmp_path / "plain.ipynb", "1 + 1", tags=())
    assert declared(plain) == {}
    with pytest.raises(UnknownName, match=r"parameter of plain\.ipynb"):
        check_parameters(plain, {"steps": 1})


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("steps", "20", 20),
        ("steps", 20, 20),
        ("steps", "10", 10),  # the ends belong to the range
        ("steps", "20000", 20_000),
        ("lr", "1", 1.0),
        ("lr", "1e-4", 1e-4),
        ("shift", "-3", -3),
        ("shift", "0", 0),
        ("model", "mlp", "mlp"),
        ("threads", "2", 2),
        ("threads", 4, 4),
        ("budget_s", "600", 600.0),
        ("budget_s", 1, 1.0),
        ("live", "true", True),
        ("live", "False", False),
        ("live", True, True),
        ("note", "12", "12"),
        ("note", "any word; or two", "any word; or two"),
    ],
)
def test_a_value_becomes_one_of_its_type(asked, name, given, value):
    (checked,) = check_parameters(asked, {name: given}).values()
    assert checked == value and type(checked) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("steps", "many", "needs a whole number"),
        ("steps", "20.5", "needs a whole number"),
        ("steps", 20.0, "needs a whole number"),
        ("steps", "True", "needs a whole number"),
        ("steps", "", "needs a whole number"),
        ("steps", "__import__('os')", "needs a whole number"),
        ("steps", "9", "not possible. steps: int = 600 (10 to 20000)"),
        ("steps", "20001", "not possible"),
        ("lr", "fast", "needs a number"),
        ("lr", "0", "not possible"),
        ("lr", "nan", "needs a number"),
        ("shift", "1", "not possible"),
        ("model", "cmn", "not possible; did you mean 'cnn'? model"),
        ("model", "gpt", "not possible. model: str = 'cnn' (cnn | mlp)"),
        ("threads", "3", "not possible. threads: int = 1 (1 | 2 | 4)"),
        ("budget_s", "601", "not possible. budget_s: float = 30.0 (0.1 to 600 s)  of training"),
        ("budget_s", "30 s", "needs a number"),
        ("live", "yes", "needs true or false"),
        ("live", 1, "needs true or false"),
        ("note", 12, "needs a word"),
    ],
)
def test_a_wrong_value_says_what_was_given_and_what_is_possible(asked, name, given, told):
    with pytest.raises(BadValue) as refused:
        check_parameters(asked, {name: given})
    assert str(refused.value).startswith(f"{name}={given!r}: ")
    assert told in str(refused.value)


def test_an_unknown_name_lists_the_near_ones(asked):
    with pytest.raises(UnknownName, match=r"of asked.ipynb is called 'step'; did you mean 'steps'"):
        check_parameters(asked, {"step": 1})


@pytest.mark.parametrize("given", [{"step": 20}, {"steps": "many"}, {"model": "gpt"}])
def test_nothing_runs_if_a_parameter_is_wrong(asked, given, tmp_path):
    with pytest.raises((UnknownName, BadValue)):
        run(asked, tmp_path / "out" / "out.ipynb", given)
    assert [path.name for path in tmp_path.iterdir()] == ["asked.ipynb"]


@pytest.mark.parametrize("limits", ["1" * 300_000 + " ..", "1" * 300_000 + "|", "1 " * 150_000])
def test_limits_of_any_length_are_read_in_one_pass(limits):
    """A pattern that tries again from each digit would take hours."""
    from kit.experiments.parameters import _limits

    _limits(limits, str)
