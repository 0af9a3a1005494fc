"""Forms of one model: what each is held against, what is beaten, and which one is chosen."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import taken
from torch import nn

import kit
from kit.core.errors import BadValue, UnknownName
from kit.core.statistics import Estimate
from kit.inference import Score, evaluate
from kit.ladders import fastest, inference
from kit.ladders.inference import InferenceLadder, inference_ladder
from kit.ladders.ladder import simultaneous
from kit.ladders.model_form import ModelForm
from kit.measurement import Comparison
from kit.models import MLP, MLPConfig
from kit.techniques import TECHNIQUES, Technique, half, none, pruned, zeroed

SHORT = {"budget_s": 0.02}


@pytest.fixture(scope="module")
def model(vision):
    torch.manual_seed(0)
    made = MLP(MLPConfig(hidden=16, layers=1))
    kit.train(made, vision, steps=100, live=False)
    return made


@pytest.fixture(scope="module")
def ladder(model, vision):
    first = inference_ladder(model, vision, batch_sizes=(1, 4), **SHORT)
    return first.then("as it is", none).then("in bfloat16", half)


def silenced(model, example):
    """A form that always says the first class."""
    model.head.weight.data.zero_()
    model.head.bias.data.copy_(torch.eye(10)[0])
    return model


def broken(model, example):
    """No form: a technique with a fault."""
    raise RuntimeError("broken on purpose")


# --- What is measured ----------------------------------------------------------------------------


def test_the_first_form_is_the_model_in_inference_mode(ladder, model, vision):
    """Nothing can be won by leaving training mode or gradients alone: that costs nothing."""
    first = ladder.first
    assert first.name == "plain PyTorch" and not first.ratios and first.speedup() is None
    assert first.score == evaluate(model, vision) and first.lost is None
    assert set(first.times) == {1, 4} and first.batch_size == 1
    assert first.throughput() == 4 / first.times[4].value
    with ladder._call(first, 4) as call:
        answers = call()
    assert answers.is_inference() and answers.shape == (4, 10)
    assert torch.equal(answers, kit.predict(model, ladder.example[:4]))
    assert re.search("In inference mode: 'plain PyTorch',.* others by kit", ladder.table().details)
    weights = zip(first.bare.parameters(), model.parameters(), strict=True)
    places = [(own.data_ptr(), models.data_ptr()) for own, models in weights]
    assert all(own == models for own, models in places)  # a copy takes no memory to speak of


def test_the_second_form_is_the_model_without_gradients(ladder, model):
    second = ladder.rungs[1]
    assert second.name == "plain PyTorch, no_grad" and second.model is model
    with ladder._call(second, 4) as call:
        assert not model.training  # else each call would switch it over and back
        answers = call()
    assert model.training
    assert not answers.is_inference() and not answers.requires_grad
    assert second.lost.value == 0
    found = (ladder.front(), ladder.undecided(), [ladder.fastest().name], ladder.tied_with(second))
    assert not any(second.name in names for names in found)  # it is the first once more
    assert 0.3 < second.speedup(1).value < 3  # the same work, on any machine


def test_forms_of_pytorch_are_called_alike(ladder):
    """Else a form that does the same work would look slower by what `kit.predict` costs."""
    with ladder._call(ladder["in bfloat16"], 4) as call:
        assert call().is_inference()


class Forced(nn.Module):
    """Its answer is a gradient, as that of a model of forces between atoms."""

    def forward(self, inputs):
        with torch.enable_grad():
            inputs = inputs.detach().requires_grad_(True)
            return torch.autograd.grad((inputs**3).sum(), inputs)[0]


def test_a_model_that_computes_gradients_is_timed_without_inference_mode():
    empty = InferenceLadder(Forced(), torch.ones(4, 3), None, (2,), "test", 0.02)
    ladder = empty.start("plain PyTorch").then("once more", Forced())
    assert ladder.first.bare is None and 0.2 < ladder.newest.speedup().value < 5
    assert "In inference mode: none;" in ladder.table().details


class Compiled(nn.Module):
    """It is compiled in one of several ways, and counts how often."""

    def __init__(self, way):
        super().__init__()
        self.way, self.compilations, self.linear = way, 0, nn.Linear(3, 3)
        if way == "a part":
            self.linear = torch.compile(self.linear, backend=self.count)
        compiled = torch.compile(self.step, backend=self.count)
        self.run = compiled if way == "a method" else self.step
        self.hidden = [compiled]  # as that of a decorated method, nobody sees it

    def forward(self, inputs):
        return self.hidden[0](inputs) if self.way == "hidden" else self.run(inputs)

    def step(self, inputs):
        return self.linear(inputs).relu()

    def count(self, graph, inputs):
        self.compilations += 1
        return graph.forward


@pytest.mark.parametrize("way", ["a part", "a method", "hidden"])
def test_what_is_compiled_is_not_compiled_again_for_inference_mode(way):
    model = Compiled(way)
    empty = InferenceLadder(model, torch.ones(4, 3), None, (4,), "test", 0.02)
    ladder = empty.start("compiled").with_no_grad()
    assert ladder.first.bare is None and model.compilations == 1
    assert len(ladder.rungs) == 1  # it is called as a second row would be
    assert "In inference mode: none" in ladder.table().details


class Merging(nn.Module):
    """As LoRA's layers: evaluation mode adds an update to the weights, training mode removes it."""

    def __init__(self):
        super().__init__()
        self.linear, self.merged = nn.Linear(3, 3), False

    def train(self, mode=True):
        if mode == self.merged:
            self.linear.weight.data += -1.0 if mode else 1.0
            self.merged = not mode
        return super().train(mode)

    def forward(self, inputs):
        return self.linear(inputs)


class Different(nn.Module):
    """It answers otherwise in inference mode; one output is very large."""

    def forward(self, inputs):
        answers = inputs + torch.is_inference_mode_enabled()
        return torch.cat([answers, torch.full_like(answers, -1e9)], 1)


class Renewed(nn.Module):
    """Each call puts other numbers in place of its weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, inputs):
        self.weight.data = self.weight.data.clamp(max=2.0)
        return inputs * self.weight


class Yes(nn.Module):
    """Its outputs are no numbers."""

    def forward(self, inputs):
        return inputs > 0


def patched():
    """A model whose forward pass was replaced by a function that knows the model."""
    model = Counting()
    before = model.forward
    model.forward = lambda inputs: before(inputs)
    return model


@pytest.mark.parametrize(
    ("make", "bare"),
    [
        (Merging, True),
        (lambda: Merging().eval(), True),
        (Renewed, True),
        (Yes, True),
        (lambda: torch.jit.trace(nn.Linear(3, 3), torch.ones(1, 3)), True),
        (Different, False),
        (patched, False),
    ],
)
def test_a_bare_call_leaves_the_model_and_its_answers_alone(make, bare):
    model, inputs = make(), torch.ones(4, 3)
    before = kit.predict(model, inputs)
    ladder = InferenceLadder(model, inputs, None, (2,), "test", 0.02).start("plain PyTorch")
    assert (ladder.first.bare is not None) is bare
    assert torch.equal(kit.predict(model, inputs), before)
    assert not any(p.is_inference() for p in model.parameters())


class Counting(nn.Module):
    """It keeps how often it was called, in a tensor that it makes anew and one that it changes."""

    def __init__(self):
        super().__init__()
        self.calls = torch.zeros(1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs):
        self.calls = self.calls + 1
        self.seen += 1
        return inputs + 0 * self.calls + 0 * self.seen


def test_what_a_model_keeps_in_inference_mode_stays_in_the_ladders_copy():
    model = Counting()
    empty = InferenceLadder(model, torch.ones(4, 3), None, (2,), "test", 0.02)
    ladder = empty.start("plain PyTorch").then("a copy", none).then("itself", model)
    for form in ladder.rungs:
        assert form.bare.calls.is_inference() and not form.model.calls.is_inference()
        form.model.calls.add_(1)  # an inference tensor would refuse this


def test_each_further_form_is_timed_in_turns_with_the_first(ladder):
    form = ladder["in bfloat16"]
    for n in (1, 4):
        ratio = form.ratios[n]
        assert form.times[n].value == pytest.approx(ladder.first.times[n].value * ratio.value)
        assert form.speedup(n).value == pytest.approx(1 / ratio.value)
        assert form.noise[n] >= 0.005
    assert form.bytes < 0.7 * ladder.first.bytes
    assert ladder.newest is form and ladder.present == list(ladder.rungs)


def test_what_was_lost_is_told_on_the_same_examples(ladder, vision):
    spoilt = ladder.then("silenced", silenced)
    lost = spoilt.newest.lost
    right = (vision.data["test"].targets == 0).float().mean().item()
    assert lost.value == pytest.approx(ladder.first.score.mean.value - right)
    assert spoilt.newest.worse and "and worse" in str(spoilt.table())
    assert ladder["as it is"].lost.value == 0 and not ladder["as it is"].worse


def test_a_form_may_be_made_from_another(ladder):
    more = ladder.then("zeros", zeroed, share=0.5).then("zeros, narrow", half, of="zeros")
    weights = more["zeros, narrow"].model.model.hidden[0].weight
    assert weights.dtype == torch.bfloat16 and (weights == 0).float().mean() > 0.3


def test_a_model_that_is_ready_is_a_form_too(ladder, vision):
    other = vision.model("mlp")
    assert ladder.then("another", other).newest.model is other


def test_what_does_not_work_here_stands_there_with_its_reason(ladder):
    lame = Technique("lame", "nothing", silenced, 0.0, why_not=lambda device: "it is lame")
    absent = Technique("absent", "nothing", silenced, 0.0, needs=("no_such",), extra="edge")
    more = ladder.then("lame", lame).then("absent", absent).then("of it", half, of="lame")
    assert [f.name for f in more.rungs[-3:] if f.absent] == ["lame", "absent", "of it"]
    assert more["lame"].absent == "it is lame" and "no_such" in more["absent"].absent
    assert "could not be made: it is lame" in more["of it"].absent
    shown = str(more.table())
    assert "not here: it is lame" in shown and repr(more["lame"]).endswith("it is lame")
    assert "lame" not in more.front() and more.plot().caption
    assert more.to_dict()["forms"][4]["absent"] == "it is lame"


class Greedy(nn.Module):
    """A model that asks for more memory than there is."""

    def forward(self, inputs):
        return torch.empty(10**15)


def test_a_form_for_which_memory_does_not_suffice_stands_there_too(ladder):
    more = ladder.then("made in vain", lambda *_: torch.empty(10**15)).then("greedy", Greedy())
    assert [f.absent for f in more.rungs[-2:]] == ["out of memory"] * 2
    assert more.present == ladder.present


def test_bad_input_is_no_row_but_an_error(ladder):
    with pytest.raises(RuntimeError, match="broken on purpose"):
        ladder.then("broken", broken)
    with pytest.raises(BadValue, match="share=2"):
        ladder.then("wrong", zeroed, share=2)
    with pytest.raises(UnknownName, match="no rung is called 'nobody'"):
        ladder.then("of nobody", half, of="nobody")


def test_two_forms_of_one_name_are_refused_before_anything_is_made(ladder):
    with pytest.raises(BadValue, match="has a rung of this name"):
        ladder.then("as it is", lambda *_: pytest.fail("it was made"))


@pytest.mark.parametrize("sizes", [(), (0,), (1, 2.5)])
def test_batches_have_sizes(model, vision, sizes):
    with pytest.raises(BadValue, match="batch_sizes="):
        inference_ladder(model, vision, batch_sizes=sizes)


# --- What follows, with known numbers ------------------------------------------------------------


def form(name, seconds, size, lost=0.0, spread=0.01):
    """A form that is measured without doubt, against a first one of 1 s and 100 bytes."""
    ratio = Estimate(seconds, seconds * (1 - spread), seconds * (1 + spread), "×")
    right = round(100 - 100 * lost)
    return ModelForm(
        name,
        nn.Identity(),
        size,
        {1: Estimate(seconds, seconds, seconds, "s")},
        {1: ratio},
        {1: 0.005},
        Score(right, right, 100, "test", 0.1),
        Estimate(lost, lost - 0.01, lost + 0.01, "%"),
        (torch.arange(100) < right).float(),  # 1 for each example that is right
    )


def known(vision, *forms):
    first = replace(form("first", 1.0, 100), ratios={}, noise={}, lost=None)
    return InferenceLadder(
        nn.Identity(), torch.zeros(2, 1), vision, (1,), "test", 0.1, rungs=(first, *forms)
    )


@pytest.fixture
def many(vision):
    return known(
        vision,
        form("quick", 0.2, 100),
        form("small", 0.9, 25),
        form("both", 0.5, 50),
        form("beaten", 0.6, 60),
        form("quick but bad", 0.1, 90, lost=0.2),
    )


def test_the_front_is_what_nothing_beats_in_all_three(many):
    assert many.front() == ["quick", "small", "both", "quick but bad"]
    assert many.undecided() == []


def test_one_example_more_puts_no_form_on_the_front(vision):
    """As measured, `lucky` loses less than all others. Its interval does not say so."""
    lucky = form("lucky", 0.9, 100, lost=0.0)
    quick = form("quick", 0.2, 100, lost=0.01)
    found = known(vision, lucky, quick)
    assert found.front() == ["quick"] and found.undecided() == ["lucky"]
    assert "Half filled, because noise decides: lucky" in found.plot().caption


def test_equal_forms_are_both_on_the_front_and_one_is_undecided(vision):
    found = known(vision, form("a", 0.5, 100), form("b", 0.501, 100))
    assert found.front() == ["a", "b"] and found.undecided() == ["b"]
    caption = found.plot().caption  # b is drawn half filled, so the caption does not call it filled
    assert caption.startswith("No form beats those that are filled: a 500 ms, 100 B. Half filled, ")
    assert caption.endswith("because noise decides: b.")


def test_names_with_commas_can_be_told_apart(vision):
    forms = (form("runtime", 0.5, 100), form("8 bits, runtime", 0.501, 100), form("c", 0.502, 100))
    found = known(vision, *forms)
    assert "Half filled, because noise decides: 8 bits, runtime; c." in found.plot().caption
    assert repr(found).endswith("; tied with it: '8 bits, runtime', 'c'")


def test_a_form_whose_time_is_hardly_known_beats_no_quick_one(vision):
    """It is smaller, and not surely slower, but as measured it is."""
    vague = replace(form("vague", 0.9, 50), ratios={1: Estimate(0.9, 0.1, 5.0, "×")})
    quick = form("quick", 0.3, 100)
    assert not vague.beats(quick, 1)
    assert known(vision, vague, quick).front() == ["vague", "quick"]


def test_what_is_surely_worse_in_one_beats_nothing(vision):
    quick, good = form("quick", 0.2, 100, lost=0.2), form("good", 0.9, 100)
    assert not quick.beats(good, 1) and not good.beats(quick, 1)
    assert form("small", 0.2, 50, lost=0.2).beats(quick, 1)
    assert not form("as large", 0.2, 97, lost=0.2).beats(quick, 1)  # 3 % smaller: a tie


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({}, "quick but bad"),
        ({"max_score_loss": 0.05}, "quick"),
        ({"max_bytes": 60}, "both"),
        ({"max_bytes": 60, "max_score_loss": 0.05}, "both"),
        ({"max_bytes": 25}, "small"),
        ({"max_bytes": 24}, None),
    ],
)
def test_the_best_is_the_fastest_within_the_limits(many, limits, name):
    best = many.fastest(**limits)
    assert (best and best.name) == name
    caption = many.plot(**limits).caption
    if name is None:
        assert caption.startswith("No form is within the limits.")
    elif limits:
        assert caption.startswith(f"Fastest within the limits: {name} ")
    assert ("Dashed lines: the limits, at most " in caption) == bool(limits)


@pytest.mark.parametrize(
    ("seconds", "size", "lost", "verdict"),
    [
        (0.5, 50, 0.0, "smaller and faster"),
        (0.5, 100, 0.0, "as large but faster"),
        (1.0, 50, 0.0, "smaller but as fast"),
        (2.0, 50, 0.0, "smaller but slower"),
        (2.0, 150, 0.0, "larger and slower"),
        (1.003, 97, 0.0, "as large and as fast"),
        (0.99, 50, 0.0, "smaller, cannot tell if faster"),
        (0.5, 50, 0.1, "smaller and faster, and worse"),
    ],
)
def test_the_verdict_in_words(vision, seconds, size, lost, verdict):
    spread = 0.1 if "cannot tell" in verdict else 0.01
    told = known(vision, form("it", seconds, size, lost, spread)).table()
    assert told.rows[1][-1] == verdict
    assert told.rows[0][-1] == "where we start"


def test_the_gain_is_told_of_the_fastest(many):
    assert "the fastest 'quick but bad': 10.0 ×" in repr(many)
    alone = known(many.workload)
    assert repr(alone).endswith("none faster than 'first'")


def test_the_limit_of_the_machine_stands_beside(model, vision):
    from kit.measurement import Peaks

    peaks = Peaks({"float32": 1e9}, 1e9, {}, "cpu", 1)
    climbed = inference_ladder(model, vision, peaks=peaks, **SHORT)
    flops = 2 * (64 * 16 + 16 * 10)
    assert climbed.bound_s(1) == pytest.approx(flops / 1e9)
    assert "needs at least" in climbed.table().details


def test_more_than_the_peak_is_an_error(model, vision):
    from kit.measurement import Peaks

    with pytest.raises(BadValue, match="of this machine's peak"):
        inference_ladder(model, vision, peaks=Peaks({"float32": 1e3}, 1e9, {}, "cpu", 1), **SHORT)


def test_forms_within_the_interval_are_tied(vision):
    found = known(vision, form("a", 0.5, 100), form("b", 0.505, 100), form("c", 0.6, 100))
    assert found.tied_with(found["a"]) == ["b"] and repr(found).endswith("; tied with it: 'b'")
    assert found.tied_with(found["c"]) == []


def test_what_is_surely_slower_than_the_first_is_tied_with_no_form(vision):
    """The fastest is hardly known, so its interval reaches further than that of a slow form."""
    vague = replace(form("8 bits, runtime", 0.8, 30), ratios={1: Estimate(0.8, 0.1, 5.0, "×")})
    slow = form("slow", 2.0, 50)
    found = known(vision, vague, slow, form("as it is", 1.0, 100))
    assert found.table().rows[2][-1] == "smaller but slower"
    assert repr(found).endswith("; tied with it: 'first', 'as it is'")


def test_what_the_noise_floor_hides_is_tied(vision):
    near = replace(form("near", 0.99, 100), ratios={1: Estimate(0.99, 0.985, 0.996, "×")})
    found = known(vision, near)
    assert found.tied_with(found["near"]) == ["first"]  # the table does not call it faster
    assert found.table().rows[1][-1] == "as large and as fast"


def test_a_form_without_an_interval_has_no_verdict(vision):
    few = replace(form("few rounds", 0.5, 50), ratios={1: Estimate(0.5, 0.0, math.inf, "×")})
    told = known(vision, few)
    assert told.table().rows[1][-1] == "smaller, cannot tell if faster"
    assert few.speedup().high == math.inf


def as_timed(monkeypatch, ratio, **measurements):
    """Let each comparison find this ratio."""
    made = measurements or {"both": taken([1.0] * 40)}
    found = SimpleNamespace(ratio=lambda: ratio, noise_floor=0.005, measurements=made)
    monkeypatch.setattr(inference, "compare", lambda *_, **__: found)


def test_a_forms_time_has_the_error_of_both(ladder, monkeypatch):
    """The first form's error and the ratio's add in squares; ratios hold for 96 at once."""
    first = replace(
        ladder.first, times={n: Estimate(1.0, 1 / 1.1, 1.1, "s") for n in ladder.batch_sizes}
    )

    as_timed(monkeypatch, Estimate(0.5, 0.5 / 1.02, 0.5 * 1.02, "×"))
    made = replace(ladder, rungs=(first,)).then("half", half).newest
    wide = math.log(1.02) * 3.4695 / 1.95996  # of a normal one, at 0.05 ÷ 96 instead of 0.05
    assert math.log(made.ratios[1].high / 0.5) == pytest.approx(wide, rel=1e-3)
    assert math.log(made.latency.high / 0.5) == pytest.approx(
        math.hypot(wide, math.log(1.1)), rel=1e-3
    )


def test_equal_forms_hardly_ever_seem_faster():
    """Twenty equal forms, 95 % intervals each: together they hold, and none is called faster."""
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(1_000):
        errors = 0.02 * draw.standard_normal(20)
        ends = np.array([0, -0.0392, 0.0392])
        ratios = [simultaneous(Estimate(*np.exp(e + ends)), 24) for e in errors]
        wrong += any(not r.low <= 1 <= r.high for r in ratios)
    assert wrong <= 50


def test_what_a_large_batch_changes_is_the_quotient_of_its_ratios(vision):
    of = {1: Estimate(0.2, 0.1, 0.4, "×"), 64: Estimate(0.8, 0.8, 0.8, "×")}
    found = replace(form("it", 0.2, 100), ratios=of).many_to_one
    assert (found.value, found.low, found.high) == pytest.approx((4, 2, 8)) and found.unit == "×"
    unknown = form("first", 1.0, 100)
    assert math.isnan(replace(unknown, ratios={}).many_to_one.value)


def test_two_forms_are_compared_by_the_quotient_of_their_ratios(vision):
    runtime, rounded = form("runtime", 0.2, 100), form("rounded", 0.4, 50)
    found = known(vision, runtime, rounded, ModelForm("lame", absent="it is lame"))
    told = found.against("rounded", "runtime").text
    assert told.startswith("'rounded' compared with 'runtime': in batches of 1, slower: 2.00 × its")
    assert "faster: 0.200 × its time" in found.against("runtime", found.first.name).text
    assert found.against("lame", "runtime").text == "Nothing to compare: 'lame' is not here."


def test_what_a_form_saves_has_the_errors_of_the_time_and_of_the_ratio(vision):
    of = {1: Estimate(0.2, 0.1, 0.4, "×")}
    found = known(vision, replace(form("it", 0.2, 100), ratios=of))
    found = replace(
        found, rungs=(replace(found.first, times={1: Estimate(3, 2, 6, "s")}), found["it"])
    )
    saved = found.saved("it", 1)
    assert (saved.value, saved.unit) == (pytest.approx(3 * 0.8), "s")
    assert math.log(2.4 / saved.low) == pytest.approx(math.hypot(math.log(3 / 2), math.log(8 / 6)))
    assert math.log(saved.high / 2.4) == pytest.approx(math.hypot(math.log(2), math.log(9 / 8)))


def test_a_form_that_may_be_slower_saves_nothing_that_is_known(vision):
    lame = ModelForm("lame", absent="it is lame")
    found = known(vision, form("slow", 2.0, 100), form("vague", 0.99, 100, spread=0.1), lame)
    assert found.saved("slow", 1).value == -1 and found.saved("slow", 1).interval == "unknown"
    assert found.saved("vague", 1).interval == "unknown"
    assert math.isnan(found.saved("lame", 1).value) and found.saved("lame", 1).interval == "unknown"


def test_several_batch_sizes_have_a_column_each(ladder):
    table = ladder.table()
    assert list(table.header)[1:3] == ["time for 1", "time for 4"] and len(table.header) == 6
    assert re.fullmatch(r"\S+ \S?s, \S+ × \[(\S+ to \S+ ×|unknown)\] as fast", table.rows[1][1])
    assert table.rows[0][1].endswith(", 1 × as fast")


def test_a_table_shows_the_interval_of_each_ratio(vision):
    table = known(vision, form("a", 0.5, 100)).table()
    assert table.header[2] == "× as fast"
    assert [row[2] for row in table.rows] == ["1", "2 [1.98 to 2.02]"]


def test_a_table_shows_the_doubts_of_its_times(ladder, monkeypatch):
    as_timed(monkeypatch, Estimate(0.5, 0.4, 0.6, "×"), few=taken([1.0, 1.0, 1.0]))
    made = replace(ladder, rungs=(replace(ladder.first, doubts=()),)).then("half", half)
    few = "only 3 timings: too few to show whether they follow each other"
    assert made.newest.doubts == tuple(f"for {n}: {few}" for n in (1, 4))
    for table in (made.table(), made.last(1)):
        assert f"Doubts: 'half' for 1: {few}; 1 more below." in table.caption
        assert f"Also in doubt: 'half' for 4: {few}." in table.details
    assert made.to_dict()["forms"][1]["doubts"] == list(made.newest.doubts)
    assert f"Doubts: for 1: {few}" in made.newest.table().caption


def test_the_first_form_keeps_the_doubts_of_its_own_timing(ladder, monkeypatch):
    monkeypatch.setattr(inference, "measure", lambda *_, **__: taken([1.0, 1.0, 3.0]))
    again = replace(ladder, rungs=()).start("plain PyTorch")
    assert again.first.doubts[0].startswith("for 1: only 3 timings")
    assert "Doubts: 'plain PyTorch' for 1: only 3 timings" in again.table().caption


def test_two_forms_are_timed_in_turns_with_each_other(ladder):
    ratio = ladder.ratio("in bfloat16", "as it is")
    assert 0 <= ratio.low <= ratio.value <= ratio.high  # 0: unknown, on a busy machine
    lame = Technique("lame", "nothing", silenced, 0.0, why_not=lambda device: "it is lame")
    assert ladder.then("lame", lame).ratio("lame", "as it is").interval == "unknown"


def test_a_form_that_is_trained_on_keeps_its_zeros(model, vision):
    example = vision.example(8)[0]
    short = replace(vision, recipe={**vision.recipe, "epochs": 1})
    form = inference.trained_on(zeroed, short, share=0.5)(model, example)
    begun = zeroed(model, example, share=0.5)
    for before, after in zip(begun.parameters(), form.parameters(), strict=True):
        if before.ndim > 1:
            assert (after[before == 0] == 0).all() and not torch.equal(before, after)
    assert not any(p.requires_grad for p in form.parameters())


def test_a_form_is_allowed_within_both_limits():
    it = form("it", 1.0, 100, lost=0.01)
    assert it.within(None, None) and it.within(100, 0.01)
    assert not it.within(99, None) and not it.within(None, 0.009)


# --- Ties ----------------------------------------------------------------------------------------


def timed(**times):
    """Calls that took turns: their times in each round, twice each."""
    return Comparison({name: taken(list(seconds)) for name, seconds in times.items()})


def test_finals_within_the_interval_are_tied():
    draw = np.random.default_rng(0)
    a, b = (1 + 0.05 * draw.standard_normal((2, 60))).clip(0.5)
    name, tied = fastest.winners(timed(a=a, b=b, c=2 * a))
    assert name in "ab" and tied == tuple(set("ab") - {name})
    assert fastest.winners(timed(a=a, b=a / 2, c=2 * a)) == ("b", ())


def test_equal_finals_are_hardly_ever_told_apart():
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        calls = dict(zip("abcd", 1 + 0.05 * draw.standard_normal((4, 40)), strict=True))
        wrong += len(fastest.winners(timed(**calls))[1]) < 3
    assert wrong <= 10  # of 200: 5 %


def test_ties_are_told(quick, model, vision, monkeypatch):
    monkeypatch.setattr(fastest, "winners", lambda timed: ("none", ("half",)))
    monkeypatch.setattr(fastest, "NEAR", 1e9)
    found = kit.fastest(model, vision, techniques=("none", "half"))
    assert found.tied == ("half",) and "tied with half" in repr(found)
    assert "Tied, since the difference is within the interval" in found.table().caption
    assert found.to_dict()["tied"] == ["half"]


# --- The fastest ---------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """First looks and finals that take no time to speak of."""
    monkeypatch.setattr(fastest, "TRIAL_S", 0.01)
    monkeypatch.setattr(fastest, "FINAL_S", 0.05)


def test_the_limits_choose(quick, model, vision):
    example, _ = vision.example(1)
    size = kit.techniques.size_on_disk(model)
    found = kit.fastest(model, vision, max_bytes=size - 1, techniques=("none", "half"))
    assert found.name == "half" and found.form.bytes < size
    assert kit.predict(found.model, example).shape == (1, 10)
    assert found.ladder.split == "validation"
    assert f"bytes at most {kit.units.words(size - 1, 'B')}: half" in found.table().caption
    assert found.to_dict()["fastest"] == "half" and found.plot().caption


def test_what_loses_too_much_is_not_taken_however_quick(quick, monkeypatch, model, vision):
    class Instant(nn.Module):
        """Says nothing, at once."""

        def forward(self, inputs):
            return torch.zeros(len(inputs), 10)

    monkeypatch.setitem(fastest.TRIED, "instant", lambda model, example: Instant())
    given = {"batch_size": 64, "techniques": ("none", "instant")}
    assert kit.fastest(model, vision, **given).name == "instant"
    assert kit.fastest(model, vision, max_score_loss=0.05, **given).name != "instant"


def test_when_the_time_is_over_the_others_are_named(quick, monkeypatch, model, vision):
    monkeypatch.setitem(fastest.TRIED, "never", lambda *_: pytest.fail("it was begun"))
    found = kit.fastest(model, vision, budget_s=1e-6, techniques=("none", "never"))
    assert found.untried == ("never",) and "no time was left: never" in found.table().caption
    assert found.name == "none"


def test_without_a_workload_nothing_is_judged(quick, model, vision):
    example, _ = vision.example(8)
    found = kit.fastest(model, example, techniques=("none", "half"))
    assert found.form.score is None and "lost" not in found.table().header
    with pytest.raises(BadValue, match="no scores to show"):
        found.plot()


def test_the_model_stays_as_it_is(quick, model, vision):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kit.fastest(model, vision.example(2)[0], techniques=("none", "half", "channels_last"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_score_loss": 0.01}, "needs a workload"),
        ({"max_score_loss": 5}, "max_score_loss=5: needs a share from 0 to 1"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"max_bytes": "small"}, "max_bytes='small'"),
        ({"budget_s": -1}, "budget_s=-1"),
    ],
)
def test_limits_that_make_no_sense_are_refused_before_anything_is_made(
    monkeypatch, model, options, match
):
    monkeypatch.setattr(InferenceLadder, "start", lambda *_: pytest.fail("it began"))
    with pytest.raises(BadValue, match=match):
        kit.fastest(model, torch.zeros(1, 64), **options)


def test_a_technique_that_needs_training_is_not_tried(model):
    with pytest.raises(UnknownName, match="no technique to try is called 'pruned'"):
        kit.fastest(model, torch.zeros(1, 64), techniques=("pruned",))
    assert pruned.name not in fastest.TRIED
    assert set(fastest.TRIED) == {
        name for name in TECHNIQUES if TECHNIQUES[name].tolerance is not None
    }


def test_limits_that_nothing_keeps_tell_how_near_one_can_come(quick, model, vision):
    with pytest.raises(BadValue, match=r"max_bytes=10: the smallest, 'half', has [\d,]+\. Allow"):
        kit.fastest(model, vision.example(1)[0], max_bytes=10, techniques=("none", "half"))


def test_nan_weights_are_no_row(quick, vision):
    spoilt = MLP(MLPConfig(hidden=16, layers=1))
    with torch.no_grad():
        spoilt.head.bias[0] = float("nan")
    with pytest.raises(BadValue, match=r"'head\.bias' holds NaN"):
        kit.fastest(spoilt, vision.example(1)[0], techniques=("none",))
