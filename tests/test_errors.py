"""Errors: one tree, drawn in the docstring, and messages that say what to do."""

import builtins
import inspect
import pickle
import re
import sys
from pathlib import Path

import pytest

from kit.core import errors
from kit.core.files import python_command

TREE = {
    name: thing
    for name, thing in vars(errors).items()
    if inspect.isclass(thing) and issubclass(thing, Exception)
}


def drawn() -> list[tuple[int, str, str | None]]:
    """(depth, name, built-in parent) of each line of the tree in the docstring."""
    lines = re.findall(r"^([│├└─ ]*)(\w+)(?: \((\w+)\))?(?:  .*)?$", errors.__doc__, re.MULTILINE)
    return [(len(indent) // 4, name, builtin or None) for indent, name, builtin in lines]


def test_the_drawn_tree_is_the_real_one():
    path: list[str] = []
    for depth, name, builtin in drawn():
        path[depth:] = [name]
        if depth:
            assert TREE[name].__bases__[0] is TREE[path[depth - 1]]
        if builtin:
            assert issubclass(TREE[name], getattr(builtins, builtin))
    assert {name for _, name, _ in drawn()} == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_all_are_caught_as_errors_of_the_kit(name):
    assert issubclass(TREE[name], errors.KitError)


def test_an_unknown_name_lists_the_near_ones_first_and_then_all():
    error = errors.UnknownName("model", "cnm", ["mlp", "cnn", "gpt"])
    assert error.near == ["cnn"]
    assert str(error) == "no model is called 'cnm'; did you mean 'cnn'? There are: mlp, cnn, gpt."


def test_a_name_far_from_all_gets_the_list_alone():
    assert str(errors.UnknownName("claim", 7, ["xx"])) == "no claim is called 7. There are: xx."


def test_the_beginning_of_a_name_is_near():
    assert errors.UnknownName("split", "val", ["train", "validation"]).near == ["validation"]


def test_a_refusal_names_its_check():
    error = errors.CheckpointRefused("digest", "a.kit: altered.")
    assert error.check == "digest"
    assert str(error) == "refused by the check 'digest': a.kit: altered."


def test_a_non_finite_loss_carries_its_history():
    assert errors.NonFiniteLoss("nan", history=[1.0]).history == [1.0]


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (["engine"], "engine, which is not installed"),
        (["engine", "tongue"], "engine, tongue, which are not installed"),
    ],
)
def test_what_is_not_installed_is_named_with_the_line_that_brings_it(missing, told):
    error = errors.NotInstalled("the workload 'speech'", missing, "speech")
    assert str(error) == (
        f"the workload 'speech' needs {told}: "
        f'{python_command()} -m pip install -c constraints.txt -e ".[speech]"'
    )


def test_what_is_not_installed_goes_into_the_python_that_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    line = str(errors.NotInstalled("the workload 'speech'", ["engine"], "speech"))
    assert f"not installed: {Path('.venv/bin/python')} -m pip install " in line


@pytest.mark.parametrize(
    "error",
    [
        errors.UnknownName("model", "x", ["y"]),
        errors.NotInstalled("the workload 'speech'", ["engine"], "speech"),
        errors.CheckpointRefused("digest", "altered"),
        errors.NonFiniteLoss("nan", [1.0]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
