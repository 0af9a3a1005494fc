"""Training: equal to a loop written by hand, repeatable, resumable, interruptible, and frugal."""

import copy
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import families
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from kit.checkpoints import load, save
from kit.core.errors import BadValue, NonFiniteLoss, ShapeMismatch, UnknownName
from kit.data import Dataset, Split
from kit.inference import Score, evaluate
from kit.models import FAMILIES, MLP, MLPConfig
from kit.training import History, StepInfo, loop, step, train
from kit.training.loop_state import READ_EVERY_S
from kit.workloads import Workload

PER_EPOCH = 1_197 // 32  # 37 whole batches


def fresh(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(MLPConfig(hidden=16, layers=1))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: nn.Module, b: nn.Module) -> bool:
    """Bit for bit."""
    return all(map(torch.equal, weights(a), weights(b)))


class Dropping(nn.Module):
    """A model whose training draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(x.flatten(1)))


def run(model: nn.Module, work, steps: int = 5, **options) -> History:
    return train(model, work, steps=steps, live=False, **options)


def work_for(model: nn.Module) -> Workload:
    """Something to learn for a model of any family: 40 examples, in epochs of 5 steps of 8."""
    inputs = families.inputs_for(model, 40)
    split = Split(inputs, torch.zeros(len(inputs)))
    data = Dataset("made up", {"train": split, "validation": split}, (), "made up", "CC0")
    return Workload(
        name="made up",
        stands_for="whatever the model is for",
        differs="the numbers are made up",
        load=lambda: data,
        models={},
        loss=families.loss_of,
        score=lambda outputs, targets: targets,
        measure="of nothing",
        target=1.0,
    )


# --- One step ------------------------------------------------------------------------------------


def test_a_step_is_what_its_formula_says():
    """Plain gradient descent on a squared error: w − lr · 2·(w·x − y)·x."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, targets = torch.tensor([[3.0]]), torch.tensor([[5.0]])
    loss = step(model, optimizer, inputs, targets, nn.functional.mse_loss)
    assert float(loss) == (2 * 3 - 5) ** 2  # before the update
    assert model.weight.item() == pytest.approx(2 - 0.1 * 2 * (2 * 3 - 5) * 3)
    assert not loss.requires_grad


def test_a_step_forgets_the_gradients_before_it():
    model, other = fresh(), fresh()
    inputs, targets = torch.rand(4, 1, 8, 8), torch.tensor([1, 2, 3, 4])
    for p in other.parameters():
        p.grad = torch.full_like(p, 1e6)
    for each in (model, other):
        step(each, torch.optim.SGD(each.parameters(), lr=0.1), inputs, targets, cross_entropy)
    assert same(model, other)


def test_a_step_refuses_unequal_numbers_with_both_shapes():
    model = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ShapeMismatch, match=r"\(2, 1, 8, 8\).*\(3,\).*one target per example"):
        step(model, optimizer, torch.zeros(2, 1, 8, 8), torch.zeros(3).long(), cross_entropy)


def test_the_fast_way_to_clear_gradients_gives_the_same_weights_bit_for_bit():
    """`step` against the same lines with PyTorch's own `zero_grad`."""
    model, other = fresh(), fresh()
    optimizers = [torch.optim.AdamW(each.parameters(), lr=0.1) for each in (model, other)]
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.rand(4, 1, 8, 8, generator=generator)
        targets = torch.randint(10, (4,), generator=generator)
        step(model, optimizers[0], inputs, targets, cross_entropy)
        optimizers[1].zero_grad()
        cross_entropy(other(inputs), targets).backward()
        optimizers[1].step()
    assert same(model, other)


# --- The loop ------------------------------------------------------------------------------------


def test_the_loop_calls_the_step_that_everybody_can_call(vision, monkeypatch):
    calls = []

    def counted(*args, **options):
        calls.append(args)
        return step(*args, **options)

    monkeypatch.setattr(loop, "step", counted)
    run(fresh(), vision, steps=7)
    assert len(calls) == 7


# --- After each step -----------------------------------------------------------------------------


def gradient(info: StepInfo) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in info.model.parameters()])


class GradientNoise:
    """How much gradients scatter: trace of their covariance ÷ squared length of their mean.

    McCandlish et al., "An Empirical Model of Large-Batch Training", 2018.
    """

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, info: StepInfo) -> None:
        now = gradient(info)
        self.n += 1
        self.mean = self.mean + (now - self.mean) / self.n
        self.squares += float(now.square().sum())

    @property
    def scale(self) -> float:
        length = float(self.mean.square().sum())
        return (self.squares / self.n - length) / length


def test_a_hook_measures_gradient_noise_without_a_change_to_the_loop(vision):
    noise, rate = {}, 1e-9  # so small that the weights stay: all gradients are of one point
    for batch_size in (8, 128):
        noise[batch_size] = GradientNoise()
        options = {"lr": rate, "optimizer": torch.optim.SGD, "batch_size": batch_size}
        run(fresh(), vision, steps=60, after_step=noise[batch_size], **options)
    assert {each.n for each in noise.values()} == {60}
    assert noise[8].scale > 4 * noise[128].scale > 0  # 16 times the examples


def test_hooks_see_each_step_in_order_and_change_nothing(vision):
    one, other, seen, again = fresh(), fresh(), [], []

    def note(info: StepInfo) -> None:
        assert info.model is one and isinstance(info.optimizer, torch.optim.AdamW)
        assert gradient(info).abs().sum() > 0 and len(info.inputs) == len(info.targets) == 32
        seen.append((info.step, float(info.loss)))

    history = run(one, vision, steps=9, after_step=[note, lambda info: again.append(info.step)])
    assert run(other, vision, steps=9).losses == history.losses
    assert seen == list(enumerate(history.losses, 1)) and again == list(range(1, 10))
    assert same(one, other)


def test_a_hook_goes_on_counting_where_the_training_goes_on(vision):
    model, seen = fresh(), []
    state = run(model, vision, steps=3).state
    run(model, vision, steps=5, resume=state, after_step=seen.append)
    assert [(info.step, info.total) for info in seen] == [(4, 5), (5, 5)]


@pytest.mark.parametrize("wrong", [3, [3], "log"])
def test_a_hook_that_cannot_be_called_is_refused(vision, wrong):
    with pytest.raises(BadValue, match=r"after_step=.*: needs a function of one argument"):
        run(fresh(), vision, after_step=wrong)


# --- What the loop computes ----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_a_loop_written_by_hand_computes(family):
    model = families.fresh(family)
    mine, work = copy.deepcopy(model), work_for(model)
    history = run(model, work, steps=8, batch_size=8, lr=1e-3)

    optimizer, losses = torch.optim.AdamW(mine.parameters(), lr=1e-3, fused=True), []
    for epoch in range(2):
        for inputs, targets in work.batches("train", 8, seed=epoch):
            if len(losses) < 8:
                optimizer.zero_grad()
                loss = work.loss(mine(inputs), targets)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    assert history.losses == tuple(losses)
    assert same(model, mine)


def test_the_same_seed_gives_the_same_weights(vision):
    one, other, third = fresh(), fresh(), fresh()
    run(one, vision, seed=3), run(other, vision, seed=3), run(third, vision, seed=4)
    assert same(one, other) and not same(one, third)


class Seen:
    """A workload that notes the targets of each training batch."""

    def __init__(self, work):
        self.work, self.targets = work, []

    def __getattr__(self, name):
        return getattr(self.work, name)

    def batches(self, split, *args):
        for inputs, targets in self.work.batches(split, *args):
            if split == "train":
                self.targets.append(tuple(targets.tolist()))
            yield inputs, targets


def order(vision, model: nn.Module, **options) -> list[tuple[int, ...]]:
    seen = Seen(vision)
    run(model, seen, steps=2 * PER_EPOCH, **options)
    return seen.targets


def test_the_order_depends_on_seed_and_epoch_alone(vision):
    once = order(vision, fresh(), seed=1)
    torch.manual_seed(99)
    assert order(vision, Dropping(), seed=1, lr=0.1, evaluate_every=3) == once
    assert order(vision, fresh(), seed=2) != once
    assert once[:PER_EPOCH] != once[PER_EPOCH:]  # another order in each epoch


def test_validation_leaves_no_trace(vision):
    torch.manual_seed(0)
    one = Dropping()
    other = copy.deepcopy(one)
    state = torch.get_rng_state()
    often = run(one, vision, steps=20, evaluate_every=1)
    torch.set_rng_state(state)
    once = run(other, vision, steps=20, evaluate_every=20)
    assert [at for at, _ in often.scores] == list(range(21))
    assert [at for at, _ in once.scores] == [0, 20]
    assert same(one, other)


def test_epochs_are_counted_in_steps(vision):
    assert train(fresh(), vision, epochs=2, live=False).steps == 2 * PER_EPOCH
    assert train(fresh(), vision, epochs=0.5, live=False).steps == round(PER_EPOCH / 2)


@pytest.mark.parametrize("steps", [1, PER_EPOCH, 10 * PER_EPOCH + 5])
def test_it_is_scored_before_and_after_and_at_least_an_epoch_apart(vision, steps):
    at = [place for place, _ in run(fresh(), vision, steps=steps).scores]
    assert (at[0], at[-1]) == (0, steps)
    assert all(b - a >= PER_EPOCH for a, b in pairwise(at[:-1]))
    assert len(at) <= 12


def test_the_last_score_is_the_trained_models(vision):
    model = fresh()
    history = run(model, vision, steps=40)
    assert history.scores[-1][1] == evaluate(model, vision, "validation")


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_it_found_is_put_back(vision, mode):
    model = fresh().train(mode)
    run(model, vision)
    assert {part.training for part in model.modules()} == {mode}


def test_each_part_gets_its_own_mode_back(vision):
    """As of a model that is fine-tuned with some of its parts at rest."""
    model = Dropping().train()
    model.drop.eval()
    run(model, vision)
    assert model.training and not model.drop.training


# --- Frugal --------------------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Counts where Python waits for a number: `.item()`, `float(…)`, and losses read together."""

    items = stacks = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.items += func is torch.ops.aten._local_scalar_dense.default
        self.stacks += func is torch.ops.aten.stack.default
        return func(*args, **(kwargs or {}))


def test_the_loop_hardly_ever_reads_a_loss(vision):
    with Reads() as reads:
        history = run(fresh(), vision, steps=500, evaluate_every=500, optimizer=torch.optim.SGD)
    assert reads.items == len(history.scores) * 3  # of each: the loss, the sum, the squares
    first = 5  # after one step, and then it knows the pace better and better
    assert reads.stacks <= 2 * history.train_s / READ_EVERY_S + first
    assert history.steps == 500


# --- Resuming ------------------------------------------------------------------------------------


def momentum(params, lr):
    return torch.optim.SGD(params, lr=lr, momentum=0.9)


@pytest.mark.parametrize("split", [1, PER_EPOCH - 1, PER_EPOCH, 50, 79])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, momentum])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(
    vision, tmp_path, split, optimizer
):
    whole = fresh()
    straight = run(whole, vision, steps=80, optimizer=optimizer)

    started = fresh()
    first = run(started, vision, steps=split, optimizer=optimizer)
    stopped = load(save(tmp_path / "half.kit", started, first))
    torch.manual_seed(12345)  # another process, another state
    second = run(stopped.model, vision, steps=80, optimizer=optimizer, resume=stopped.state)
    assert same(whole, stopped.model)
    assert second.losses == straight.losses


def test_a_run_may_be_stopped_many_times(vision, tmp_path):
    whole, state = fresh(), None
    straight = run(whole, vision, steps=60)
    model = fresh()
    for steps in (7, 8, 38, 60):
        saved = load(save(tmp_path / "a.kit", model, run(model, vision, steps=steps, resume=state)))
        model, state = saved.model, saved.state
    assert same(whole, model)
    assert state["losses"] == list(straight.losses)


def test_dropout_goes_on_with_the_same_random_numbers(vision):
    torch.manual_seed(0)
    one = Dropping()
    other, start = copy.deepcopy(one), torch.get_rng_state()
    run(one, vision, steps=30)
    torch.set_rng_state(start)
    first = run(other, vision, steps=11)
    torch.manual_seed(12345)
    run(other, vision, steps=30, resume=first.state)
    assert same(one, other)


def test_resuming_does_not_touch_the_state_it_is_given(vision):
    model = fresh()
    history = run(model, vision, steps=5)
    before = copy.deepcopy(history.state["optimizer"]["state"][0]["exp_avg"])
    run(model, vision, steps=9, resume=history.state)
    assert torch.equal(history.state["optimizer"]["state"][0]["exp_avg"], before)
    assert len(history.losses) == 5


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lr": 0.1}, r"lr=0\.1: the saved training has lr=0\.003"),
        ({"batch_size": 16}, r"batch_size=16: .* batch_size=32"),
        ({"seed": 1}, r"seed=1: .* seed=0"),
        ({"optimizer": torch.optim.SGD}, r"optimizer='SGD': .* optimizer='AdamW'"),
        ({"precision": "bf16"}, r"precision='bf16': .* precision='fp32'"),
    ],
)
def test_other_settings_cannot_be_resumed(vision, changed, told):
    model = fresh()
    state = run(model, vision, steps=3).state
    with pytest.raises(BadValue, match=told):
        run(model, vision, steps=5, resume=state, **changed)


def test_another_model_cannot_be_resumed(vision):
    state = run(fresh(), vision, steps=3).state
    for other in (MLP(MLPConfig(hidden=17, layers=1)), FAMILIES["CNN"][0]()):
        with pytest.raises(BadValue, match="model"):
            run(other, vision, steps=5, resume=state)


def older(state: dict) -> dict:
    """The state as it was kept before there were precisions, shares and named parameters."""
    old = copy.deepcopy(state)
    for name in ("precision", "compile", "accumulate", "clip", "schedule", "lr_warmup"):
        del old["settings"][name]
    for _, score in old["scores"]:
        score["right"] = int(score.pop("total"))
        del score["squares"], score["measure"]
    for group in old["optimizer"]["param_groups"]:
        del group["param_names"]
    return old


def test_a_state_of_an_older_kit_goes_on_in_fp32(vision):
    whole, model = fresh(), fresh()
    straight = run(whole, vision, steps=80)
    state = older(run(model, vision, steps=40).state)
    with pytest.raises(BadValue, match=r"precision='bf16': .* precision='fp32'"):
        run(model, vision, steps=80, resume=state, precision="bf16")
    history = run(model, vision, steps=80, resume=state)
    assert same(whole, model)
    assert history.scores[0] == straight.scores[0]
    assert history.scores[-1] == straight.scores[-1]


def test_a_history_given_in_place_of_its_state_is_told(vision):
    model = fresh()
    history = run(model, vision, steps=3)
    with pytest.raises(BadValue, match=r"\.state"):
        run(model, vision, steps=5, resume=history)


@pytest.mark.parametrize("steps", [2, 3])
def test_a_run_that_is_done_has_nothing_to_resume(vision, steps):
    model = fresh()
    state = run(model, vision, steps=3).state
    with pytest.raises(BadValue, match=r"nothing left to do: .* 3 are done"):
        run(model, vision, steps=steps, resume=state)


# --- Narrower arithmetic -------------------------------------------------------------------------


def test_in_bf16_layers_compute_in_bfloat16_and_weights_stay_as_they_are(vision):
    model, computed = fresh(), set()
    for layer in (model.hidden[0], model.head):
        layer.register_forward_hook(
            lambda layer, inputs, outputs: computed.add((outputs.dtype, layer.training))
        )
    history = run(model, vision, precision="bf16")
    assert computed == {(torch.bfloat16, True), (torch.float32, False)}  # scores are in full
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    kept = history.state["optimizer"]["state"][0]
    assert kept["exp_avg"].dtype == torch.float32
    assert (history.precision, history.to_dict()["precision"]) == ("bf16", "bf16")
    assert "bf16" in history.table().caption


def test_in_fp32_nothing_is_narrow(vision):
    model, computed = fresh(), set()
    model.head.register_forward_hook(lambda layer, i, outputs: computed.add(outputs.dtype))
    assert run(model, vision).precision == "fp32"
    assert computed == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bf16_the_losses_are_nearly_the_same(family):
    wide, narrow = families.fresh(family), families.fresh(family)
    work = work_for(wide)
    full = run(wide, work, steps=20, batch_size=8, lr=1e-3)
    half = run(narrow, work, steps=20, batch_size=8, lr=1e-3, precision="bf16")
    assert half.losses == pytest.approx(full.losses, rel=0.02)  # 8 bits: 0.4 % per number
    assert half.losses != full.losses


def test_in_bf16_it_learns_as_much(vision):
    model = fresh()
    run(model, vision, steps=5 * PER_EPOCH, precision="bf16")
    assert evaluate(model, vision).mean.value > 0.8  # and a coin of ten sides 0.1


def test_a_run_in_bf16_can_be_resumed(vision):
    whole, model = fresh(), fresh()
    run(whole, vision, steps=20, precision="bf16")
    state = run(model, vision, steps=7, precision="bf16").state
    run(model, vision, steps=20, precision="bf16", resume=state)
    assert same(whole, model)


def test_an_unknown_precision_lists_those_there_are(vision):
    with pytest.raises(UnknownName, match=r"no precision is called 'int8'\. There are: fp32, bf16"):
        run(fresh(), vision, precision="int8")


# --- Ended before its last step ------------------------------------------------------------------


def test_a_spent_budget_ends_it_with_a_score(vision):
    model = fresh().eval()
    history = run(model, vision, steps=10**7, budget_s=0.05)
    assert history.stopped == "budget spent" and not history.interrupted
    assert 0 < history.steps < 10**7 and history.train_s >= 0.05
    assert history.scores[-1] == (history.steps, evaluate(model, vision, "validation"))
    assert "(budget spent)" in repr(history) and "(budget spent)" in history.table().caption
    assert history.to_dict()["stopped"] == "budget spent"
    assert not model.training


def test_a_budget_that_is_not_spent_changes_nothing(vision):
    one, other = fresh(), fresh()
    run(one, vision, steps=10)
    assert run(other, vision, steps=10, budget_s=1e6).stopped == ""
    assert same(one, other)


def test_it_ends_at_the_first_score_that_reaches_the_target(vision):
    free = run(fresh(), vision, steps=100, evaluate_every=10)
    shares = [score.mean.value for _, score in free.scores]
    wanted = max(shares[:6])
    first = shares.index(wanted)
    assert 0 < first < 10
    model, same_steps = fresh(), fresh()
    history = run(model, vision, steps=100, evaluate_every=10, target=wanted)
    assert history.stopped == "target reached"
    assert history.steps == history.steps_to(wanted) == 10 * first
    assert history.scores == free.scores[: first + 1]
    assert history.losses == free.losses[: 10 * first]
    run(same_steps, vision, steps=10 * first)
    assert same(model, same_steps)


def test_a_target_reached_by_the_last_step_did_not_end_it_early(vision):
    last = run(fresh(), vision, steps=20, evaluate_every=20).scores[-1][1]
    history = run(fresh(), vision, steps=20, evaluate_every=20, target=last.mean.value)
    assert (history.steps, history.stopped) == (20, "")


def test_a_model_that_is_good_enough_is_not_trained(vision):
    model = fresh()
    before = weights(model)
    history = run(model, vision, steps=10, target=0.0)
    assert (history.steps, history.stopped, history.train_s) == (0, "target reached", 0.0)
    assert (history.steps_to(0.0), history.seconds_to(0.0)) == (0, 0.0)
    assert all(map(torch.equal, before, weights(model)))
    assert history.table().rows and history.plot().png()


def test_a_target_that_is_not_reached_lets_it_go_on(vision):
    assert run(fresh(), vision, steps=10, target=1.0).steps == 10


def test_a_run_that_ended_early_goes_on_as_if_it_had_not(vision):
    whole, model = fresh(), fresh()
    run(whole, vision, steps=100)
    first = run(model, vision, steps=100, evaluate_every=10, target=0.2)
    assert 0 < first.steps < 100
    run(model, vision, steps=100, resume=first.state)
    assert same(whole, model)


def test_a_budget_counts_the_time_before_it_was_resumed_too(vision):
    model = fresh()
    first = run(model, vision, steps=5)
    second = run(model, vision, steps=50, resume=first.state, budget_s=first.train_s / 2)
    assert (second.steps, second.stopped) == (5, "budget spent")


# --- Interrupted, or gone wrong ------------------------------------------------------------------


def at_step(vision, k: int, happen):
    """The workload, in whose k-th training step something happens to the loss."""
    steps = 0

    def loss(outputs, targets):
        nonlocal steps
        steps += outputs.requires_grad  # not in validation
        value = vision.loss(outputs, targets)
        return happen(value) if steps == k and outputs.requires_grad else value

    return replace(vision, loss=loss)


def interrupt(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("k", [1, 8, PER_EPOCH + 2])
def test_an_interrupt_keeps_what_was_learnt(vision, k):
    model, wanted = fresh().eval(), fresh()
    history = run(model, at_step(vision, k, interrupt), steps=60)
    assert history.interrupted and history.steps == k - 1
    assert "(interrupted)" in repr(history)
    assert not model.training
    if k > 1:
        assert history.losses == run(wanted, vision, steps=k - 1).losses
    assert same(model, wanted)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(vision):
    whole, model = fresh(), fresh()
    run(whole, vision, steps=60)
    work = at_step(vision, 21, interrupt)  # a loss that counts its calls is still the same loss
    first = run(model, work, steps=60)
    second = run(model, work, steps=60, resume=first.state)
    assert same(whole, model) and not second.interrupted


STOPPED_BY_HAND = """
import torch
from dataclasses import replace
from kit.models import MLP
from kit.training import train
from kit.workloads import vision

work, torch_steps = vision(), 0

def loss(outputs, targets):
    global torch_steps
    torch_steps += outputs.requires_grad
    if torch_steps == 20:
        print("learning", flush=True)
    return work.loss(outputs, targets)

model = MLP().eval()
before = [p.clone() for p in model.parameters()]
history = train(model, replace(work, loss=loss), steps=10**7, lr=1e-4, live=False)
moved = all(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
print(history.interrupted, 19 <= history.steps <= torch_steps, moved, model.training)
print(torch_steps - history.steps)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_a_real_training_with_its_history():
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED_BY_HAND], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "learning\n"
    child.send_signal(signal.SIGINT)
    told, _ = child.communicate(timeout=60)
    said, lost = told.splitlines()
    assert said == "True True True False"
    assert int(lost) <= 1  # at most the step in which it came
    assert child.returncode == 0


def first_bad_step(model: nn.Module, vision, lr: float) -> tuple[int, list[float]]:
    """By hand: at which step plain gradient descent loses its way, and the losses before."""
    losses: list[float] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for inputs, targets in vision.batches("train", 32, seed=0):
        value = float(step(model, optimizer, inputs, targets, cross_entropy))
        if not math.isfinite(value):
            return len(losses) + 1, losses
        losses.append(value)
    raise AssertionError("it never lost its way")


def test_a_loss_that_is_not_finite_stops_with_step_lr_and_history(vision):
    bad, losses = first_bad_step(fresh(), vision, 1e20)
    model = fresh().eval()
    with pytest.raises(NonFiniteLoss, match=rf"at step {bad} with lr=1e\+20: .*try 1e\+19") as told:
        run(model, vision, steps=30, lr=1e20, optimizer=torch.optim.SGD)
    assert list(told.value.history.losses) == losses
    assert not model.training


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_each_kind_of_broken_loss_is_named(vision, value):
    work = at_step(vision, 4, lambda loss: loss * value)
    with pytest.raises(NonFiniteLoss, match=rf"the loss was {value} at step 4"):
        run(fresh(), work, steps=5)


@pytest.mark.parametrize("happening", [interrupt, lambda loss: 1 / 0], ids=["Ctrl-C", "error"])
def test_the_mode_comes_back_even_if_a_broken_loss_was_not_read_yet(vision, happening):
    broken = at_step(vision, 2, lambda loss: loss * math.nan)
    model = fresh().eval()
    with pytest.raises((NonFiniteLoss, ZeroDivisionError)):
        run(model, at_step(broken, 3, happening), steps=5)
    assert not model.training


def test_an_error_of_the_loss_is_not_swallowed(vision):
    model = fresh().eval()
    with pytest.raises(ZeroDivisionError):
        run(model, at_step(vision, 3, lambda loss: 1 / 0), steps=5)
    assert not model.training


# --- Said clearly --------------------------------------------------------------------------------


def test_an_optimizer_may_be_named(vision):
    one, two = fresh(), fresh()
    run(one, vision, optimizer="adamw")
    run(two, vision, optimizer=lambda params, lr: torch.optim.AdamW(params, lr=lr, fused=True))
    assert same(one, two)
    run(two, vision, optimizer="muon")
    assert not same(one, two)


def test_an_unknown_optimizer_lists_those_there_are(vision):
    with pytest.raises(UnknownName, match="no optimizer is called 'adam'; did you mean 'adamw'"):
        run(fresh(), vision, optimizer="adam")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, r"given steps=None and epochs=None: give one of them"),
        ({"steps": 1, "epochs": 1}, r"given steps=1 and epochs=1: give one of them"),
        ({"steps": 0}, r"steps=0: needs a whole number of at least 1"),
        ({"steps": 1.5}, r"steps=1\.5: needs a whole number"),
        ({"steps": True}, r"steps=True: needs a whole number"),
        ({"steps": "3"}, r"steps='3': needs a whole number"),
        ({"epochs": 0}, r"epochs=0: needs a number above 0"),
        ({"epochs": math.nan}, r"epochs=nan: needs a number above 0"),
        ({"steps": 1, "lr": 0}, r"lr=0: needs a number above 0"),
        ({"steps": 1, "lr": -0.1}, r"lr=-0\.1: needs"),
        ({"steps": 1, "lr": math.inf}, r"lr=inf: needs"),
        ({"steps": 1, "lr": "0.1"}, r"lr='0\.1': needs"),
        ({"steps": 1, "batch_size": 0}, r"batch_size=0: needs a whole number from 1 to 1,197"),
        ({"steps": 1, "batch_size": 1_198}, r"batch_size=1198: .* from 1 to 1,197"),
        ({"steps": 1, "evaluate_every": 0}, r"evaluate_every=0: needs a whole number"),
        ({"steps": 1, "seed": 1.5}, r"seed=1\.5: needs"),
        ({"steps": 1, "seed": "a"}, r"seed='a': needs"),
        ({"steps": 1, "optimizer": 3}, r"optimizer=3: needs a name, or a class"),
        ({"steps": 1, "budget_s": 0}, r"budget_s=0: needs a number above 0"),
        ({"steps": 1, "budget_s": math.nan}, r"budget_s=nan: needs a number above 0"),
        ({"steps": 1, "budget_s": "1"}, r"budget_s='1': needs"),
        ({"steps": 1, "target": 97}, r"target=97: needs a score from 0 to 1\. Give 0\.97"),
        ({"steps": 1, "target": -0.1}, r"target=-0\.1: needs a score from 0 to 1"),
        ({"steps": 1, "target": math.nan}, r"target=nan: needs a score"),
        ({"steps": 1, "target": "0.9"}, r"target='0\.9': needs a score"),
        ({"steps": 1, "target": True}, r"target=True: needs a score"),
    ],
    ids=str,
)
def test_a_bad_argument_says_what_was_given_and_what_is_needed(vision, given, told):
    model = fresh()
    before = weights(model)
    with pytest.raises(BadValue, match=told):
        train(model, vision, live=False, **given)
    assert all(map(torch.equal, before, weights(model)))


def test_the_history_keeps_what_happened(vision):
    history = run(fresh(), vision, steps=2 * PER_EPOCH + 5)
    assert history.steps == len(history.losses) == 2 * PER_EPOCH + 5
    first = sum(history.losses[:PER_EPOCH]) / PER_EPOCH
    assert history.epochs() == [pytest.approx(first), pytest.approx(history.epochs()[1])]
    assert len(history.epochs()) == 2  # whole ones
    assert history.examples_per_s == pytest.approx(32 * history.steps / history.train_s)
    assert "79 steps of 32 examples" in history.table().caption


def made_up(*totals: float) -> History:
    """A history of 40 steps of half a second, with a score every ten: totals of 10 examples."""
    scores = tuple(
        (10 * i, Score(total, total, 10, "validation", 1.0)) for i, total in enumerate(totals)
    )
    return History((1.0,) * 40, scores, 20.0, 32, 0.1, 37, 0, "vision", "cpu", 1)


@pytest.mark.parametrize(
    ("target", "steps", "seconds"),
    [
        (0.1, 0, 0.0),
        (0.4, 10, 5.0),
        (0.5, 10, 5.0),
        (0.51, 30, 15.0),
        (0.9, 30, 15.0),
        (1, None, None),
    ],
)
def test_how_long_it_took_to_a_target(target, steps, seconds):
    """The first score that is good enough counts, whatever came later."""
    history = made_up(1, 5, 3, 9, 8)
    assert (history.steps_to(target), history.seconds_to(target)) == (steps, seconds)


def timed(*each_s: float, steps: int = 8) -> History:
    """A history of one raw time for so many steps, again and again: seconds of each."""
    reads = tuple((steps, seconds) for seconds in each_s)
    total = sum(each_s)
    return History((), (), total, 32, 0.1, 37, 0, "vision", "cpu", 1, reads=reads)


def test_the_training_time_has_the_interval_of_its_paces():
    """Student's, for five stretches: they take 1, 2, 3, 4 and 5 s here, 3 ± 2.776 × 0.707."""
    taken = timed(0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2, 2.5, 2.5).train_time
    assert taken.value == 15.0
    assert (taken.low / 5, taken.high / 5) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-3)
    assert timed(*[1] * 5).train_time.low == 5.0
    assert timed(1, 1, 1, 1).train_time.interval == "unknown"
    assert timed(1, 1, 1, 1, 100).train_time.low == 0.0


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_the_interval_of_a_training_time_allows_for_a_pace_that_wanders(rho):
    """A hundred raw times, each like the one before: 95 % of the intervals hold the true mean."""
    draw, held = np.random.default_rng(0), 0
    for _ in range(300):
        noise = draw.normal(size=400) * math.sqrt(1 - rho**2)
        wandering = np.zeros(400)
        for i in range(1, 400):
            wandering[i] = rho * wandering[i - 1] + noise[i]
        taken = timed(*(1 + 0.05 * wandering[300:])).train_time
        held += taken.low <= 100 <= taken.high
    assert held >= 0.91 * 300


def test_a_history_without_a_step_has_no_speed(vision):
    history = run(fresh(), at_step(vision, 1, interrupt))
    assert history.step_s is None and history.examples_per_s is None
    assert "—" in history.table().caption
    assert history.plot().png()


def test_the_seconds_are_of_training_alone(vision):
    """A validation that dawdles is not counted: here it sleeps for 0.6 s in all."""

    def loss(outputs, targets):
        if not outputs.requires_grad:
            time.sleep(0.05)
        return vision.loss(outputs, targets)

    history = run(fresh(), replace(vision, loss=loss), steps=5, evaluate_every=1)
    assert len(history.scores) == 6
    assert history.train_s < 0.5


def test_the_compilers_trial_pass_leaves_batch_norm_as_it_was(monkeypatch, vision):
    """Its statistics count the steps: compiling must not add one."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *_, **__: None)
    monkeypatch.setattr(torch, "compile", lambda call, *_, **__: call)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    train(model, vision, steps=3, compile=True, live=False)
    assert model[2].num_batches_tracked == 3
