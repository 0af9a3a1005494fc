"""Training: equal to a loop written by hand, repeatable, resumable, interruptible, and frugal."""

import copy
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from kit.checkpoints import load, save
from kit.errors import BadValue, NonFiniteLoss, ShapeMismatch
from kit.inference import evaluate
from kit.models import FAMILIES, MLP, MLPConfig
from kit.training import History, step, train
from kit.training.run import LOOK_S

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


# --- The loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_a_loop_written_by_hand_computes(vision, family):
    torch.manual_seed(0)
    model = FAMILIES[family][0]()
    mine = copy.deepcopy(model)
    history = run(model, vision, steps=PER_EPOCH + 3, lr=1e-3)

    optimizer, losses = torch.optim.AdamW(mine.parameters(), lr=1e-3), []
    for epoch in range(2):
        for inputs, targets in vision.batches("train", 32, order=epoch):
            if len(losses) < PER_EPOCH + 3:
                optimizer.zero_grad()
                loss = cross_entropy(mine(inputs), targets)
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
    batches = 2  # of the 300 validation examples, read twice each: how many right, and the loss
    assert reads.items == len(history.scores) * batches * 2
    assert reads.stacks <= history.train_s / LOOK_S + 2
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
        ({"lr": 0.1}, r"lr=0\.1: the run to go on with has lr=0\.003"),
        ({"batch_size": 16}, r"batch_size=16: .* batch_size=32"),
        ({"seed": 1}, r"seed=1: .* seed=0"),
        ({"optimizer": torch.optim.SGD}, r"optimizer='SGD': .* optimizer='AdamW'"),
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
    first = run(model, at_step(vision, 21, interrupt), steps=60)
    second = run(model, vision, steps=60, resume=first.state)
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
    for inputs, targets in vision.batches("train", 32, order=0):
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
        ({"steps": 1, "optimizer": "adam"}, r"optimizer='adam'"),
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
