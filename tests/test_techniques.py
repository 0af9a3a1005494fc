"""Techniques: each leaves the model alone, keeps to its tolerance, and says where it cannot work.

A new one is tested as soon as it is on the shelf.
"""

import copy
import time

import pytest
import torch
from families import fresh, inputs_for

from kit.comparison import agree
from kit.counting import count
from kit.errors import NotSupported, UnknownName
from kit.inference import predict
from kit.models import FAMILIES
from kit.techniques import SHELF, Technique, get, half, untouched

QUICK = [name for name in SHELF if name != "compile"]  # a compiler takes seconds per model
PAIRS = [(family, name) for family in FAMILIES for name in QUICK] + [("MLP", "compile")]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request):
    family, name = request.param
    if name == "compile":
        try:
            get(name).check("cpu")
        except NotSupported as error:
            pytest.skip(str(error))
    return fresh(family), get(name)


def test_the_answers_stay_within_the_tolerance(pair):
    model, technique = pair
    inputs = inputs_for(model, 16)
    answers = predict(model, inputs)
    served = predict(technique(model), inputs)
    largest = float(answers[answers.isfinite()].abs().max())
    assert served.dtype == answers.dtype
    assert agree(answers, served, atol=technique.tolerance * largest)


def test_the_model_given_stays_as_it_is(pair):
    model, technique = pair
    before, mode = copy.deepcopy(model.state_dict()), model.training
    served = technique(model)
    predict(served, inputs_for(model, 4))
    assert model.training == mode and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for p in served.parameters():
        p.data.zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_comes_out_is_for_use_not_for_training(pair):
    model, technique = pair
    served = technique(model.train())
    assert not any(p.requires_grad for p in served.parameters())
    assert not any(part.training for part in served.modules())


def test_half_takes_half_the_bytes():
    model = fresh("CNN")
    inputs = inputs_for(model, 8)
    assert count(half(model), inputs).weight_bytes * 2 == count(model, inputs).weight_bytes
    assert "bfloat16" in repr(half(model))


def test_half_really_computes_in_bfloat16():
    """Numbers that bfloat16 cannot tell apart come out the same, and in float32 they do not."""
    model = fresh("MLP")
    inputs = inputs_for(model, 1).bfloat16().float()
    near = inputs * (1 + 2**-12)
    assert torch.equal(predict(half(model), inputs), predict(half(model), near))
    assert not torch.equal(predict(model, inputs), predict(model, near))


def test_a_compiled_model_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    technique = get("compile")
    try:
        technique.check("cpu")
    except NotSupported as error:
        pytest.skip(str(error))
    model = fresh("MLP", hidden=24)
    served, inputs = technique(model), inputs_for(model, 8)
    start = time.perf_counter()
    predict(served, inputs)
    first_s = time.perf_counter() - start
    assert list(tmp_path.rglob("*")), "the compiler left no kernels"
    start = time.perf_counter()
    predict(served, inputs)
    assert time.perf_counter() - start < first_s / 5


def test_a_device_that_it_does_not_work_on_is_refused_before_anything_happens():
    lame = Technique("lame", "nothing", untouched, 0.0, lacks=lambda device: "it is lame")
    with pytest.raises(NotSupported, match=r"'lame' does not work on cpu: it is lame\. The tech"):
        lame(fresh("MLP"))


def test_without_a_compiler_compile_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NotSupported, match=r"needs a C\+\+ compiler"):
        get("compile").check("cpu")


def test_an_unknown_technique_lists_those_there_are():
    with pytest.raises(UnknownName, match="no technique is called 'halve'; did you mean 'half'"):
        get("halve")
