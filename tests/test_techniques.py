"""Techniques: each leaves the model alone, keeps to its tolerance, and says where it cannot work.

A new one is tested as soon as it is on the shelf: on every family if it is quick, else on a few.
Whatever is not installed is skipped with its reason.
"""

import copy
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec

import pytest
import torch
from families import fresh, inputs_for
from torch import nn

import kit
from kit import techniques
from kit.core.errors import (
    BadValue,
    CheckpointRefused,
    DeviceUnavailable,
    NotInstalled,
    NotSupported,
    UnknownName,
)
from kit.costs.counting import count
from kit.inference import device_of, predict
from kit.models import FAMILIES, MLP, MLPConfig, halved
from kit.models.transformer import Attention
from kit.techniques import TECHNIQUES, Exported, Technique, exporting, get
from kit.techniques.technique import UnsuitableModel, _difference, inference_copy

# Quick ones are tried on every family of models; what takes seconds, on a few.
QUICK = {"none", "half", "float16", "channels_last", "int8_weights", "int8_dynamic", "int4_weights"}
QUICK |= {"zeroed", "pruned", "low_rank", "onnx"}
FEW = {"MLP", "CNN1d"}
# Family by family: forms in turn of one model share its ONNX file.
PAIRS = [(f, name) for f in FAMILIES for name in TECHNIQUES if name in QUICK or f in FEW]


def made(family, name, n=32, **options):
    """A model, inputs and the technique's form of it; skipped where that cannot be had."""
    model = fresh(family).train()
    inputs = inputs_for(model, n)
    try:
        return model, inputs, get(name)(model, inputs, **options)
    except (NotInstalled, NotSupported) as error:
        pytest.skip(str(error))


@cache
def made_once(family, name):
    """The same for tests that only read: a package takes the compiler some eight seconds."""
    return made(family, name)


def installed(*names):
    missing = [name for name in names if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


CONVERT = exporting._converted
onnx_here = installed("onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def _operators_read_once():
    """For each model the exporter reads the source of its five hundred operators again."""
    with pytest.MonkeyPatch.context() as patch:
        with suppress(ImportError, AttributeError):  # private: another PyTorch may lack it
            from torch.onnx._internal._lazy_import import onnxscript_apis as theirs

            patch.setattr(theirs, "get_torchlib_ops", cache(theirs.get_torchlib_ops))
        yield


# --- What all of them promise --------------------------------------------------------------------


@pytest.mark.parametrize(("family", "name"), PAIRS, ids=lambda word: word)
def test_a_form_answers_within_its_tolerance_and_leaves_the_model_as_it_is(family, name):
    before = copy.deepcopy(fresh(family).state_dict())
    model, inputs, form = made(family, name)
    for n in {len(inputs), 1} if isinstance(form, Exported) else {len(inputs)}:
        answers, others = predict(model, inputs[:n]), predict(form, inputs[:n])
        assert others.dtype == answers.dtype and others.shape == answers.shape
        limit = TECHNIQUES[name].tolerance  # None: it changes answers on purpose, to be trained on
        assert limit is None or _difference(answers, others) <= limit
    assert model.training and all(p.requires_grad for p in model.parameters())
    to_be_trained_on = limit is None
    assert all(p.requires_grad == to_be_trained_on for p in form.parameters())
    assert not any(part.training for part in form.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    answers = predict(form, inputs)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(answers.isfinite(), predict(form, inputs).isfinite())
    assert _difference(answers, predict(form, inputs)) == 0  # it has weights of its own


@pytest.mark.parametrize("name", TECHNIQUES)
def test_each_says_what_it_does_and_needs(name):
    technique = TECHNIQUES[name]
    assert technique.name == name and technique.summary
    assert (
        technique.__doc__.startswith(technique.summary[0].upper()) and len(technique.__doc__) > 60
    )
    assert technique.alternative in TECHNIQUES
    assert bool(technique.needs) == bool(technique.extra)
    assert getattr(techniques, name) is technique


def test_the_shelf_is_a_table_of_what_works_here():
    shown = techniques.table()
    assert [row[0] for row in shown.rows] == list(TECHNIQUES)
    here = {row[0]: row[3] for row in shown.rows}
    assert here["none"] == here["half"] == "yes" and "cpu" in shown.caption


@pytest.mark.parametrize("name", ["onnx", "openvino", "packaged", "executorch"])
def test_inputs_may_lie_in_memory_as_they_like(name):
    """Every second row, every second column: AOTInductor would read others, and say nothing."""
    model, inputs, form = made_once("MLP", name)
    wide = torch.randn(64, 2 * inputs.shape[1])
    odd = wide[::2, ::2]
    assert not odd.is_contiguous()
    assert _difference(predict(model, odd), predict(form, odd)) <= TECHNIQUES[name].tolerance


@pytest.mark.parametrize("name", ["onnx", "openvino", "packaged", "executorch"])
@pytest.mark.parametrize("n", [1, 3])
def test_an_answer_stays_as_it_is_when_the_next_one_comes(name, n):
    _, inputs, form = made_once("MLP", name)
    first = predict(form, inputs[:n])
    kept = first.clone()
    second = predict(form, inputs[n : 2 * n])
    assert torch.equal(first, kept) and not torch.equal(first, second)
    second.zero_()  # answers are the caller's own: to change one changes no other
    assert torch.equal(first, kept) and torch.equal(predict(form, inputs[:n]), kept)


def test_a_package_records_no_gradients():
    _, inputs, form = made_once("MLP", "packaged")
    answers = predict(form, inputs.clone().requires_grad_())
    assert not answers.requires_grad and torch.equal(answers, predict(form, inputs))


@onnx_here
def test_batches_may_be_of_any_size():
    model, inputs, form = made("CNN", "onnx")
    for n in (1, 3, 32, 200):
        more = torch.cat([inputs] * 7)[:n]
        assert _difference(predict(model, more), predict(form, more)) <= 1e-3


@onnx_here
def test_a_single_example_is_enough_to_export():
    model = fresh("CNN")
    form = techniques.onnx(model, inputs_for(model, 1))
    assert predict(form, inputs_for(model, 5)).shape == (5, 10)


class Scaled(nn.Module):
    """Computes with weights, with a buffer, and with a number that is only an attribute."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 3), 1.5
        self.register_buffer("shift", torch.ones(3))

    def forward(self, inputs):
        return self.scale * self.linear(inputs) + self.shift


@onnx_here
def test_forms_in_turn_of_one_model_share_its_onnx_file(monkeypatch):
    converted = []
    monkeypatch.setattr(
        exporting, "_converted", lambda it, do=CONVERT: converted.append(1) or do(it)
    )
    torch.manual_seed(0)
    model, inputs = Scaled(), torch.randn(32, 4)
    whole, again, small = (get(n)(model, inputs) for n in ("onnx", "onnx", "onnx_int8_dynamic"))
    assert len(converted) == 1 and whole.data == again.data != small.data


@onnx_here
def test_a_large_onnx_file_is_not_held(monkeypatch):
    torch.manual_seed(0)
    model, inputs = Scaled(), torch.randn(32, 4)
    get("onnx")(model, inputs)
    assert len(exporting._last_made) == 1
    monkeypatch.setattr(exporting, "HELD_BYTES", 10)
    get("onnx")(model, inputs)
    assert not exporting._last_made


CHANGES = {
    "weights": lambda model: model.linear.weight.data[2, 3].mul_(1.01),  # past autograd's counter
    "buffer": lambda model: model.shift.add_(0.01),
    "attribute": lambda model: setattr(model, "scale", 1.500001),
    "layer": lambda model: setattr(model, "linear", nn.Sequential(model.linear, nn.Tanh())),
}


@onnx_here
def test_a_model_that_changed_gets_an_onnx_file_of_its_own():
    torch.manual_seed(0)
    model, inputs, files = Scaled(), torch.randn(32, 4), set()
    files.add(techniques.onnx(model, inputs).data)
    for n, (what, change) in enumerate(CHANGES.items(), start=2):
        change(model)
        form = techniques.onnx(model, inputs)
        files.add(form.data)
        assert len(files) == n, f"the file of before: its {what} changed"
        assert _difference(predict(model, inputs), predict(form, inputs)) < 1e-6, what


# --- Fewer bits ----------------------------------------------------------------------------------


def test_half_takes_half_the_bytes():
    model, inputs, form = made("CNN", "half")
    assert count(form, inputs).weight_bytes * 2 == count(model, inputs).weight_bytes
    assert "bfloat16" in repr(form)


def test_half_really_computes_in_bfloat16():
    """Numbers that bfloat16 cannot tell apart come out the same, and in float32 they do not."""
    model, inputs, form = made("MLP", "half")
    inputs = inputs[:1].bfloat16().float()
    near = inputs * (1 + 2**-12)
    assert torch.equal(predict(form, inputs), predict(form, near))
    assert not torch.equal(predict(model, inputs), predict(model, near))


def test_what_the_model_offers_its_narrow_form_offers_too():
    _, _, form = made("GPT", "half")
    assert form.config.vocab_size and form.cache(1).layers[0].dtype == torch.bfloat16
    with pytest.raises(AttributeError, match="no_such"):
        _ = form.no_such


@pytest.mark.parametrize(("known", "refused"), [({"avx512_fp16": True}, False), ({}, True)])
def test_float16_asks_the_processor(monkeypatch, known, refused):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    if not refused:
        get("float16").check("cpu")
        return
    with pytest.raises(
        NotSupported, match=r"'float16' does not work on cpu.*'half' is the most similar one"
    ):
        get("float16").check("cpu")
    get("float16").check("cuda")


@installed("torchao")
@pytest.mark.parametrize(("name", "share"), [("int8_weights", 0.45), ("int4_weights", 0.4)])
def test_integers_take_fewer_bytes_on_disk(name, share):
    model = MLP(MLPConfig(hidden=256))
    form = get(name)(model, inputs_for(model, 32))
    assert techniques.size_on_disk(form) < share * techniques.size_on_disk(model)


@installed("torchao")
def test_a_layer_of_4_bits_multiplies_as_torchaos_own():
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    from torchao.quantization import quantize_

    torch.manual_seed(0)
    layer, inputs = Attention(64, 2, causal=True), torch.randn(2, 3, 64)
    form = get("int4_weights")(copy.deepcopy(layer), inputs)
    quantize_(layer.bfloat16(), PrototypeInt4WeightOnlyConfig(group_size=32))
    assert torch.equal(predict(form, inputs), layer(inputs.bfloat16()).float())
    # No subclass of Tensor, whose operations Python would have to find; and nothing to count.
    assert {type(each) for each in form.state_dict().values()} == {torch.Tensor}
    assert not techniques.is_pytorch(form)


class ReadsWeight(torch.nn.Module):
    """A part of somebody else, which reads its layer's weight, as T5 does."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 32)

    def forward(self, x):
        return self.layer(x.to(self.layer.weight.dtype))


@installed("torchao")
def test_a_layer_of_4_bits_in_a_part_of_others_keeps_its_weight():
    torch.manual_seed(0)
    model, inputs = ReadsWeight(), torch.randn(4, 64)
    form = get("int4_weights")(copy.deepcopy(model), inputs)
    assert _difference(predict(model, inputs), predict(form, inputs)) < 0.2


@onnx_here
def test_an_int8_file_is_smaller_than_half():
    model = MLP(MLPConfig(hidden=256))
    inputs = inputs_for(model, 32)
    whole, small = techniques.onnx(model, inputs), techniques.onnx_int8(model, inputs)
    assert techniques.size_on_disk(small) < 0.5 * techniques.size_on_disk(whole)
    assert not torch.equal(predict(whole, inputs), predict(small, inputs))


@pytest.mark.parametrize("name", ["onnx_int8", "openvino_int8", "int8_static"])
@pytest.mark.parametrize("copies", [1, 64])
def test_a_calibration_set_of_one_is_refused(name, copies):
    model = fresh("MLP")
    try:
        get(name).check("cpu")
    except (NotInstalled, NotSupported) as error:
        pytest.skip(str(error))
    one = inputs_for(model, 1).expand(copies, -1)  # the same one, many times, teaches no more
    with pytest.raises(
        BadValue, match=r"given 1 different example to calibrate int8; needs at least 16"
    ):
        get(name)(model, one)


# --- The compiler --------------------------------------------------------------------------------


def test_a_compiled_model_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    try:
        get("compiled").check("cpu")
    except NotSupported as error:
        pytest.skip(str(error))
    model = fresh("MLP", hidden=24)
    inputs = inputs_for(model, 8)
    start = time.perf_counter()
    form = techniques.compiled(model, inputs)
    first_s = time.perf_counter() - start
    assert list(tmp_path.rglob("*")), "the compiler left no kernels"
    start = time.perf_counter()
    predict(form, inputs)
    assert time.perf_counter() - start < first_s / 5


def test_without_a_compiler_it_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for name in ("compiled", "packaged"):
        with pytest.raises(NotSupported, match=r"needs a C\+\+ compiler"):
            get(name).check("cpu")


# --- Less to compute -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_zeros_are_as_many_as_asked_for_and_take_as_many_bytes(share):
    model, inputs = fresh("CNN"), inputs_for(fresh("CNN"), 8)
    form = techniques.zeroed(model, inputs, share=share)
    names = [name for name, p in form.named_parameters() if p.ndim > 1]
    weights = torch.cat([form.get_parameter(name).flatten() for name in names])
    assert float((weights == 0).float().mean()) == pytest.approx(share, abs=1e-3)
    assert techniques.size_on_disk(form) == techniques.size_on_disk(model)
    kept = torch.cat([model.get_parameter(name).flatten() for name in names])[weights != 0]
    gone = torch.cat([model.get_parameter(name).flatten() for name in names])[weights == 0]
    assert kept.abs().min() >= gone.abs().max()


@pytest.mark.parametrize("optimizer", ["adamw", "muon", torch.optim.SGD])
def test_zeros_stay_and_the_others_learn_by_any_optimizer(optimizer, vision):
    """Muon's step at a place depends on all of the gradient, so zeros would come back."""
    model, inputs = fresh("MLP"), inputs_for(fresh("MLP"), 8)
    form = techniques.zeroed(model, inputs, share=0.8).requires_grad_(True)
    before = {name: p.detach().clone() for name, p in form.named_parameters() if p.ndim > 1}
    with techniques.keep_zeros(form) as same:
        kit.train(same, vision, steps=5, optimizer=optimizer, live=False)
    after = dict(form.named_parameters())
    assert set(after) == set(dict(model.named_parameters()))  # no mask is left
    for name, weights in before.items():
        assert (after[name][weights == 0] == 0).all()
        assert (after[name][weights != 0] != weights[weights != 0]).any()


def test_zeros_are_kept_where_the_training_breaks_off():
    form = fresh("MLP")
    with pytest.raises(KeyboardInterrupt), techniques.keep_zeros(form):
        raise KeyboardInterrupt
    assert set(form.state_dict()) == set(fresh("MLP").state_dict())


@installed("torch_pruning")
@pytest.mark.parametrize("family", ["CNN", "MLP", "CNN1d", "Policy"])
def test_channels_that_are_gone_are_gone(family, tmp_path):
    model, inputs, form = made(family, "pruned", share=0.5)
    assert count(form, inputs).forward_flops < 0.6 * count(model, inputs).forward_flops
    assert predict(form, inputs).shape == predict(model, inputs).shape
    assert form.config == halved(model).config  # so it can be kept, and trained on
    kit.save(tmp_path / "small.kit", form)
    again = kit.load(tmp_path / "small.kit").model
    assert torch.equal(predict(again, inputs), predict(form, inputs))


@installed("torch_pruning")
def test_a_pruned_gpt_still_attends(tmp_path):
    model = fresh("GPT")
    inputs = inputs_for(model, 32)
    form = techniques.pruned(model, inputs, share=0.5)  # not `made`: it would skip a refusal
    assert form.blocks[0].up.out_features == model.blocks[0].up.out_features // 2
    assert form.blocks[0].attention.qkv.out_features == model.blocks[0].attention.qkv.out_features
    assert predict(form, inputs).shape == predict(model, inputs).shape
    assert len(kit.generate(form, [1, 2], max_new_tokens=5).tokens[0]) == 5
    kit.save(tmp_path / "gpt.kit", form)
    with pytest.raises(CheckpointRefused, match="Make the model yourself"):
        kit.load(tmp_path / "gpt.kit")
    _, _, again = made("GPT", "pruned", share=0.5)
    kit.load(tmp_path / "gpt.kit", model=again)
    assert torch.equal(predict(again, inputs), predict(form, inputs))


@installed("torch_pruning")
def test_the_channels_with_the_smallest_weights_go():
    model = MLP(MLPConfig(hidden=8, layers=1))
    with torch.no_grad():
        model.hidden[0].weight[::2] *= 100
    form = techniques.pruned(model, inputs_for(model, 8))
    assert torch.equal(form.hidden[0].weight, model.hidden[0].weight[::2])


def test_full_rank_would_lose_nothing_and_less_keeps_the_largest_parts():
    torch.manual_seed(0)
    model = MLP(MLPConfig(hidden=64, layers=2))
    inputs = inputs_for(model, 8)
    with torch.no_grad():  # a matrix that has rank 8 anyway
        model.hidden[2].weight.copy_(torch.randn(64, 8) @ torch.randn(8, 64) / 20)
    form = techniques.low_rank(model, inputs, share=0.5)
    first, second = form.hidden[2]
    assert first.out_features == 16 and second.in_features == 16  # half of 64² in 2 · 64 · 16
    torch.testing.assert_close(
        second.weight @ first.weight, model.hidden[2].weight, atol=1e-5, rtol=1e-4
    )
    assert count(form, inputs).params < count(model, inputs).params


@pytest.mark.parametrize("name", ["zeroed", "pruned", "low_rank"])
@pytest.mark.parametrize("share", [0, 1, -0.5, "half"])
def test_a_share_lies_between_none_and_all(name, share):
    model = fresh("MLP")
    try:
        get(name).check("cpu")
    except NotInstalled as error:
        pytest.skip(str(error))
    with pytest.raises(BadValue, match="share="):
        get(name)(model, inputs_for(model, 4), share=share)


# --- Taught by another ---------------------------------------------------------------------------


def test_a_student_is_told_both_the_label_and_the_teachers_answer(vision):
    teacher = vision.model("mlp")
    taught = techniques.taught_by(teacher, vision, weight=0.5, temperature=2.0)
    inputs, targets = next(taught.batches("train", 16, seed=3))
    plain, labels = next(vision.batches("train", 16, seed=3))
    assert torch.equal(inputs, plain) and torch.equal(targets[:, -1].long(), labels)
    assert torch.equal(targets[:, :-1], predict(teacher, inputs))
    outputs = torch.randn(16, 10, generator=torch.Generator().manual_seed(0))
    soft = -(targets[:, :-1] / 2).softmax(1).mul((outputs / 2).log_softmax(1)).sum(1).mean() * 4
    by_hand = 0.5 * soft + 0.5 * nn.functional.cross_entropy(outputs, labels)
    assert taught.loss(outputs, targets) == pytest.approx(float(by_hand), rel=1e-5)
    assert taught.loss(outputs, labels) == vision.loss(outputs, labels)  # as validation asks
    assert next(iter(taught.batches("test", 4)))[1].ndim == 1
    assert (taught.name, taught.measure) == (vision.name, vision.measure)


def test_a_student_learns_what_its_teacher_says_even_if_it_is_wrong(vision):
    class Contrary(nn.Module):
        """Sees a 1 in everything."""

        def forward(self, images):
            return 10 * nn.functional.one_hot(torch.ones(len(images), dtype=torch.long), 10)

    taught = techniques.taught_by(Contrary(), vision, weight=1.0, temperature=1.0)
    student = vision.model("mlp")
    kit.train(student, taught, steps=60, live=False)
    images, _ = vision.data["test"]
    assert (predict(student, images).argmax(1) == 1).float().mean() > 0.95


def test_a_gpt_can_be_taught_place_by_place():
    work = kit.workloads.language()
    taught = techniques.taught_by(work.model("gpt-small"), work)
    history = kit.train(work.model("gpt-small"), taught, steps=2, batch_size=4, live=False)
    assert history.steps == 2


@pytest.mark.parametrize("name", ["forecast", "recommendation"])
def test_who_does_not_answer_in_classes_cannot_teach(name):
    work = kit.workloads.get(name)
    with pytest.raises(
        NotSupported, match=rf"distillation of '{name}' on cpu: .* on the data alone"
    ):
        techniques.taught_by(work.model(), work)


@pytest.mark.parametrize("options", [{"weight": 2}, {"temperature": 0}, {"weight": None}])
def test_a_teacher_has_a_weight_and_a_temperature(vision, options):
    with pytest.raises(BadValue, match=next(iter(options))):
        techniques.taught_by(vision.model(), vision, **options)


# --- Files ---------------------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path):
    _, inputs, form = made("CNN", "onnx")
    path = techniques.write(form, tmp_path / "folder" / "digits.onnx")
    return path, inputs, predict(form, inputs)


@onnx_here
def test_an_exported_model_comes_back(exported):
    path, inputs, answers = exported
    again = techniques.read(path)
    assert torch.equal(predict(again, inputs), answers)
    assert techniques.size_on_disk(again) == path.stat().st_size
    assert repr(again) == f"{path.stat().st_size:,} bytes for onnxruntime"
    assert device_of(again) == torch.device("cpu")


@onnx_here
def test_anybody_can_check_the_file(exported):
    path, _, _ = exported
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum here")
    told = subprocess.run(
        ["sha256sum", "-c", f"{path.name}.sha256"], cwd=path.parent, capture_output=True, text=True
    )
    assert told.returncode == 0 and f"{path.name}: OK" in told.stdout


@onnx_here
def test_another_runtime_reads_the_same_file(exported):
    path, inputs, answers = exported
    if find_spec("openvino") is None:
        pytest.skip("not installed: openvino")
    assert _difference(answers, predict(techniques.read(path, "openvino"), inputs)) < 1e-3


@onnx_here
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_refused(exported, kept):
    path, _, _ = exported
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(CheckpointRefused, match="cut short or altered") as refused:
        techniques.read(path)
    assert refused.value.check == "digest"


@onnx_here
def test_an_altered_file_is_refused_wherever_it_was_altered(exported):
    path, _, _ = exported
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 20):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckpointRefused, match="digest"):
            techniques.read(path)
    path.write_bytes(whole)
    techniques.read(path)


@onnx_here
def test_a_file_without_its_sum_is_refused(exported):
    path, _, _ = exported
    path.with_name(path.name + ".sha256").unlink()
    with pytest.raises(CheckpointRefused, match=r"no digits\.onnx\.sha256 beside it.*Copy both"):
        techniques.read(path)


@onnx_here
def test_a_file_that_its_runtime_cannot_run_is_refused(tmp_path):
    path = tmp_path / "odd.onnx"
    path.write_bytes(b"not a model")
    digest = "b9a36ba8c3b4f2e2f6b4ad8c1d5d4a8e"
    path.with_name("odd.onnx.sha256").write_text(f"{digest}  odd.onnx\n")
    with pytest.raises(CheckpointRefused) as refused:
        techniques.read(path)
    assert refused.value.check == "digest"
    import hashlib

    digest = hashlib.sha256(b"not a model").hexdigest()
    path.with_name("odd.onnx.sha256").write_text(f"{digest}  odd.onnx\n")
    with pytest.raises(CheckpointRefused) as refused:
        techniques.read(path)
    assert refused.value.check == "format"


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(CheckpointRefused, match="exists"):
        techniques.read(tmp_path / "none.onnx")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointRefused, match=r"format.*needs one of onnxruntime \.onnx"):
        techniques.read(tmp_path / "model.bin")
    (tmp_path / "model.pte").write_bytes(b"x")
    with pytest.raises(CheckpointRefused, match="not a file for onnxruntime"):
        techniques.read(tmp_path / "model.pte", "onnxruntime")


def test_only_exported_models_are_written_and_under_their_name(tmp_path):
    with pytest.raises(BadValue, match=r"MLP is not exported: .* kit\.save"):
        techniques.write(fresh("MLP"), tmp_path / "model.onnx")
    _, _, form = made("MLP", "onnx")
    with pytest.raises(BadValue, match=r"a model for onnxruntime needs a name ending in \.onnx"):
        techniques.write(form, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["packaged", "executorch"])
def test_other_runtimes_files_come_back_too(name, tmp_path):
    model, inputs, form = made_once("MLP", name)
    path = tmp_path / f"model{techniques.runtimes.SUFFIXES[form.runtime]}"
    again = techniques.read(techniques.write(form, path), trusted=True)
    assert _difference(predict(model, inputs), predict(again, inputs)) <= 1e-3


def test_a_package_for_a_device_that_is_not_here_is_refused(tmp_path, monkeypatch):
    """A real package, whose own words say that it is for a GPU."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA GPU here")
    _, _, form = made_once("MLP", "packaged")
    monkeypatch.setattr(form, "home", torch.device("cuda"))
    path = techniques.write(form, tmp_path / "model.pt2")
    with pytest.raises(DeviceUnavailable, match=r"made for 'cuda'.* present here: cpu"):
        techniques.read(path, trusted=True)


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TECHNIQUES)
def test_weights_that_are_no_numbers_are_refused_by_all(name):
    model = fresh("MLP")
    inputs = inputs_for(model, 32)
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    try:
        get(name).check("cpu")
    except (NotInstalled, NotSupported) as error:
        pytest.skip(str(error))
    with pytest.raises(BadValue, match=r"'head\.weight' holds NaN or ∞"):
        get(name)(model, inputs)


def test_an_example_is_a_batch():
    for example in (torch.tensor(1.0), torch.zeros(0, 64)):
        with pytest.raises(BadValue, match="needs a batch of real inputs"):
            techniques.half(fresh("MLP"), example)


class Bessel(nn.Module):
    """Uses an operation that no exporter to ONNX knows."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.special.bessel_j0(self.layer(x))


@onnx_here
def test_an_operator_that_the_exporter_lacks_is_named_and_nothing_is_lost():
    model = Bessel()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NotSupported) as refused:
        techniques.onnx(model, torch.randn(4, 4))
    told = str(refused.value)
    assert "'onnx' does not work on cpu: it lacks the operator " in told
    assert (
        "bessel_j0. The technique 'compiled' is the most similar one." in told and "\n" not in told
    )
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_a_form_whose_answers_lie_too_far_apart_is_refused():
    def spoil(model, example):
        model.head.weight.data += 1
        return model

    spoilt = Technique("spoilt", "nothing good", spoil, tolerance=0.01, alternative="half")
    model = fresh("MLP")
    with pytest.raises(NotSupported, match=r"outputs differ by .* of the largest; at most 0\.01"):
        spoilt(model, inputs_for(model, 4))


def test_a_form_that_answers_nan_is_refused():
    def spoil(model, example):
        model.head.weight.data[0] = float("nan")
        return model

    model = fresh("MLP")
    with pytest.raises(NotSupported, match="differ by inf"):
        Technique("spoilt", "nothing good", spoil, tolerance=0.5)(model, inputs_for(model, 4))


def test_a_form_of_another_shape_is_refused():
    def cut(model, example):
        model.head = nn.Linear(128, 3)
        return model

    model = fresh("MLP")
    with pytest.raises(NotSupported, match=r"shape \(4, 3\), not \(4, 10\)"):
        Technique("cut", "less", cut, tolerance=None)(model, inputs_for(model, 4))


def test_a_device_that_it_does_not_work_on_is_refused_before_anything_happens():
    never = Technique(
        "lame", "nothing", lambda *_: pytest.fail("began"), 0.0, lambda _: "it is lame"
    )
    with pytest.raises(
        NotSupported, match=r"'lame' does not work on cpu: it is lame\. The tech"
    ) as e:
        never(fresh("MLP"), torch.zeros(1, 64))
    assert e.value.reason == "it is lame"


def test_what_finds_nothing_to_do_says_so():
    def idle(model, example):
        raise UnsuitableModel("there is nothing in it")

    with pytest.raises(NotSupported, match="there is nothing in it"):
        Technique("idle", "nothing", idle, 0.0)(fresh("MLP"), torch.zeros(1, 64))


def test_what_is_not_installed_is_one_clear_line():
    absent = Technique("absent", "nothing", inference_copy, 0.0, needs=("no_such",), extra="edge")
    with pytest.raises(NotInstalled) as refused:
        absent(fresh("MLP"), torch.zeros(1, 64))
    told = str(refused.value)
    assert (
        "\n" not in told and "no_such" in told and 'install -c constraints.txt -e ".[edge]"' in told
    )


@pytest.mark.parametrize(
    "name", [name for name in TECHNIQUES if TECHNIQUES[name].why_not(torch.device("cuda"))]
)
def test_runtimes_for_the_cpu_refuse_a_gpu(name):
    with pytest.raises((NotSupported, NotInstalled)):
        get(name).check("cuda")


def test_an_unknown_technique_lists_those_there_are():
    with pytest.raises(UnknownName, match="no technique is called 'halve'; did you mean 'half'"):
        get("halve")


# --- In a notebook -------------------------------------------------------------------------------

QUIET = """
import torch, kit
torch.set_num_threads(1)
work = kit.workloads.vision()
model, example = work.model(), work.example(32)[0]
for technique in kit.techniques.TECHNIQUES.values():
    if technique.tolerance is not None:
        continue
    try:
        technique(model, example)
    except (kit.errors.NotInstalled, kit.errors.NotSupported):
        pass
"""


def test_nothing_that_libraries_say_is_seen():
    """Not one line on stdout or stderr; the inference ladder has its own forms in its test."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "" and done.stderr == ""
