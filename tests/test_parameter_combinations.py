"""Combinations: values that are possible one by one, but not together, or not on this computer."""

import random
from dataclasses import replace

import psutil
import pytest
import torch
from written import asking

from kit import devices, techniques, workloads
from kit.core.errors import (
    BadValue,
    DeviceUnavailable,
    KitError,
    NotInstalled,
    NotSupported,
    UnknownName,
)
from kit.experiments import check_parameters, find_notebook, run
from kit.experiments.parameter_combinations import check_together

PRESENT = [device.type for device in devices.present_devices()]
ABSENT = sorted({"cuda", "mps", "xpu"} - set(PRESENT))  # no computer has them all
LINES = """
workload: str = "vision"  # what is learnt
model: str = "default"  # one of the workload's models by name, or its default
device: str = "auto"  # auto | cpu | cuda | mps | xpu; where to compute
batch_size: int = 0  # 0..100000 examples; per step; 0: as the recipe
precision: str = "fp32"  # fp32 | bf16 | fp16; of matmuls
technique: str = "none"  # how the trained model is run
budget_s: float = 30.0  # 0.1..600 s; of training
"""


@pytest.fixture(scope="module")
def shelves():
    """One more workload, that needs what nobody has, and a technique that works nowhere."""
    lacking = replace(workloads.vision(), name="lacking", needs=("no_such_module",), extra="speech")
    nowhere = techniques.Technique(
        "int1", "a bit", techniques.inference_copy, 0.0, lambda _: "no bits"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(workloads.WORKLOADS, "lacking", lambda: lacking)
        patch.setitem(techniques.TECHNIQUES, "int1", nowhere)
        yield


@pytest.fixture(scope="module")
def asked(shelves, tmp_path_factory):
    """A notebook with those parameters, and a cell that would show if a kernel ran."""
    return asking(tmp_path_factory.mktemp("asked") / "asked.ipynb", LINES)


# --- One rule at a time --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        ({"workload": "vison"}, UnknownName, "did you mean 'vision'"),
        ({"workload": "vision", "model": "gpt"}, UnknownName, "workload 'vision' is called 'gpt'"),
        ({"workload": "vision", "model_name": "gpt"}, UnknownName, "are: cnn, mlp, default"),
        ({"workload": "lacking", "device": "cpu"}, NotInstalled, r'pip install .* ".\[speech\]"'),
        ({"device": ABSENT[0]}, DeviceUnavailable, f"present here: {PRESENT[0]}.* -p device auto"),
        ({"precision": "fp16", "device": "cpu"}, BadValue, "on the CPU, use fp32 or bf16"),
        ({"technique": "prune"}, UnknownName, "There are: none, half, onnx"),
        ({"technique": "int1", "device": "cpu"}, NotSupported, "does not work on cpu: no bits"),
        (
            {"workload": "vision", "batch_size": 1198, "device": "cpu"},
            BadValue,
            "batch_size=1198 with workload='vision': there are 1,197 training examples",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(shelves, values, error, told):
    with pytest.raises(error, match=told) as refused:
        check_together(values)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"workload": "vision", "model": "default"},
        {"workload": "vision", "model": "mlp", "device": "cpu", "batch_size": 1197},
        {"workload": "vision", "batch_size": 0, "device": "cpu"},
        {"model": "gpt"},  # whose, nobody said
        {"workload": "lacking"},  # a notebook without a device reads of it, and needs no data
        {"device": "auto", "precision": "bf16", "technique": "half"},
        {"precision": "fp16"},  # of what, and where, nobody said
        {"unheard_of": 1},
    ],
)
def test_what_no_rule_forbids_is_possible(shelves, values):
    check_together(values)


def test_what_this_computer_lacks_is_left_to_the_one_that_runs_it(asked):
    for given in ({"device": ABSENT[0]}, {"workload": "lacking"}, {"technique": "int1"}):
        check_parameters(asked, given, here=False)
        with pytest.raises(KitError):
            check_parameters(asked, given)
    with pytest.raises(UnknownName):
        check_parameters(asked, {"model": "gpt"}, here=False)  # what nobody has is refused


def test_checking_leaves_the_threads_as_they_are(shelves):
    torch.set_num_threads(2)
    check_together({"device": "cpu", "precision": "fp32"})
    assert torch.get_num_threads() == 2


# --- All of them, at random ----------------------------------------------------------------------

POOL = {  # name -> (values that can be, those that cannot whatever the others are)
    "workload": (["vision"], ["lacking", "audio", ""]),
    "model": (["default", "mlp", "cnn"], ["gpt", ""]),
    "device": (["auto", *PRESENT], [*ABSENT, "tpu", ""]),
    "batch_size": (["0", 1, "32", 1197], ["-1", 1198, "many", 2.5]),
    "precision": (["fp32", "bf16"], ["fp64", ""]),
    "technique": (["none", "half"], ["int1", "prune"]),
    "budget_s": (["0.1", 2, 600.0], ["0", "600.1", "long", True]),
}


def drawn(make: random.Random) -> tuple[dict[str, object], bool]:
    """Some parameters with values, and whether a run with them is possible."""
    given, possible = {}, True
    for name in make.sample(list(POOL), k=make.randint(1, len(POOL))):
        good = make.random() < 0.85
        given[name] = make.choice(POOL[name][0 if good else 1])
        possible = possible and good
    if make.random() < 0.15:  # each word is known, but they do not go together everywhere
        given["precision"] = "fp16"
        where = given.get("device", "auto")
        possible = possible and (PRESENT[0] if where == "auto" else where) != "cpu"
    if make.random() < 0.1:
        given["bach_size"] = 32
        possible = False
    return given, possible


def draw(possible: bool, n: int) -> list[dict[str, object]]:
    make = random.Random(0)
    found = (drawn(make) for _ in range(20 * n))
    return [given for given, can_be in found if can_be is possible][:n]


def test_each_of_many_impossible_combinations_is_refused_before_a_kernel_starts(asked):
    wrong, children = draw(False, 120), psutil.Process().children(recursive=True)
    assert len(wrong) == 120 and len({str(given) for given in wrong}) > 90
    for given in wrong:
        with pytest.raises(KitError) as refused:
            run(asked, asked.parent / "out" / "out.ipynb", given)
        assert "\n" not in str(refused.value)
        named = [*given, *map(str, given.values())]
        assert any(word and word in str(refused.value) for word in named), (given, refused.value)
    assert [path.name for path in asked.parent.iterdir()] == ["asked.ipynb"]
    assert psutil.Process().children(recursive=True) == children


def test_each_of_many_possible_combinations_is_taken(asked):
    right = draw(True, 80)
    assert len(right) == 80 and len({str(given) for given in right}) > 50
    for given in right:
        assert list(check_parameters(asked, given)) == list(given)


def test_a_possible_combination_runs(asked, tmp_path):
    assert not asked.with_suffix(".ran").exists()
    run(asked, tmp_path / "out.ipynb", {"model": "mlp", "batch_size": "64", "technique": "half"})
    assert asked.with_suffix(".ran").exists()  # so no kernel had run before


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"d_model": 64, "n_heads": 3}, "d_model=64 with n_heads=3: needs a d_model"),
        (
            {"prompt_tokens": 400, "new_tokens": 200, "context": 512},
            "prompt_tokens=400 and new_tokens=200 with context=512: 600 tokens do not fit",
        ),
    ],
)
def test_what_no_model_could_do_is_refused_before_a_kernel_starts(values, told):
    with pytest.raises(BadValue, match=told):
        check_together(values)
    check_together({**values, **{"n_heads": 4, "new_tokens": 100}})


# --- Files and folders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("sweep-report", {"folder": "nowhere"}, "folder='nowhere': no such folder in"),
        ("class-results", {"folder": "nowhere"}, "folder='nowhere': no such folder in"),
        ("training-ladder", {"text": "nowhere.txt"}, "text='nowhere.txt': no such file in"),
    ],
)
def test_a_folder_or_file_that_is_not_there_is_found_before_a_kernel_starts(name, given, told):
    with pytest.raises(BadValue, match=told):
        check_parameters(find_notebook(name), given)


def test_a_folder_is_looked_for_where_the_user_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert check_parameters(find_notebook("sweep-report"), {"folder": "mine"})
