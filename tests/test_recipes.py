"""What makes training shorter or smaller: the same learning, or a refusal."""

import copy
import gc
import multiprocessing
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import families
import pytest
import torch
from test_training import Dropping, Reads, fresh, run, same, weights, work_for
from torch import nn

from kit import workloads
from kit.checkpoints import load, save
from kit.core.errors import BadValue, KitError, NonFiniteLoss, UnknownName
from kit.measurement.memory import peak_bytes
from kit.models import FAMILIES, GPT, MLP, GPTConfig
from kit.training import SCHEDULES, adamw, updates
from kit.training.schedules import rate_at

SMALL_GPT = GPTConfig(d_model=16, n_layers=3, n_heads=2)


@pytest.fixture(scope="module")
def language():
    return workloads.get("language")


def gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(SMALL_GPT)


def nearly(a: nn.Module, b: nn.Module, atol: float = 1e-5) -> bool:
    """Whether each weight is the same within rounding."""
    pairs = zip(weights(a), weights(b), strict=True)
    return all(torch.allclose(x, y, rtol=1e-3, atol=atol) for x, y in pairs)


# --- The fused optimizer -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fused_adamw_moves_weights_as_the_plain_one_does(family):
    one = families.fresh(family)
    other, work = copy.deepcopy(one), work_for(one)
    run(one, work, steps=8, batch_size=8, lr=1e-3)
    run(other, work, steps=8, batch_size=8, lr=1e-3, optimizer=torch.optim.AdamW)
    assert nearly(one, other)


def test_the_named_adamw_is_fused_where_weights_are_real_numbers():
    assert adamw(fresh().parameters()).param_groups[0]["fused"]
    assert not adamw([nn.Parameter(torch.zeros(2, dtype=torch.complex64))]).defaults["fused"]


# --- A batch in parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_in_parts_moves_the_weights_as_the_whole_does(family):
    def loss(outputs, targets):  # outputs of −∞ mean "impossible"
        return torch.where(outputs.isfinite(), outputs - 0.5, 0.0).square().mean()

    whole = families.fresh(family)
    parts, work = copy.deepcopy(whole), replace(work_for(whole), loss=loss)
    sgd = {"optimizer": torch.optim.SGD, "lr": 0.1, "batch_size": 8}  # AdamW would hide a factor
    one = run(whole, work, **sgd)
    two = run(parts, work, accumulate=4, **sgd)
    assert nearly(whole, parts)
    assert two.losses == pytest.approx(one.losses, rel=1e-4)


def step_bytes(language, **options) -> int | None:
    stepping = updates(gpt(), language, batch_size=16, **options)
    next(stepping)
    return peak_bytes(lambda: next(stepping), torch.device("cpu"))


def test_parts_need_less_memory(language):
    assert step_bytes(language, accumulate=8) < 0.4 * step_bytes(language)


def test_a_batch_that_does_not_fall_into_parts_is_refused(vision):
    with pytest.raises(BadValue, match="accumulate=5 with batch_size=32: needs a number that div"):
        run(fresh(), vision, accumulate=5)


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_a_loss_that_is_no_mean_of_its_parts_is_refused(name):
    """Padding counts for nothing, so a short translation's parts weigh otherwise than the whole."""
    work = workloads.get(name)
    options = {"batch_size": 8, "lr": 1e-3, "steps": 2, "evaluate_every": 2}
    whole = work.model()
    parts = copy.deepcopy(whole)
    if name == "translation":
        with pytest.raises(BadValue, match="accumulate=2: the loss of 'translation' is not a mean"):
            run(parts, work, accumulate=2, **options)
        return
    one, two = run(whole, work, **options), run(parts, work, accumulate=2, **options)
    assert two.losses == pytest.approx(one.losses, rel=1e-3)


# --- The length of the gradient ------------------------------------------------------------------


def moved(before: list, model: nn.Module) -> float:
    """How far the weights are from where they were."""
    pairs = zip(before, weights(model), strict=True)
    return float(sum((a - b).square().sum() for a, b in pairs).sqrt())


def test_a_long_gradient_is_scaled_down_and_a_short_one_left(vision):
    sgd = {"optimizer": torch.optim.SGD, "lr": 1.0, "steps": 1}
    free, held, loose = fresh(), fresh(), fresh()
    start = weights(free)
    (
        run(free, vision, **sgd),
        run(held, vision, clip=0.01, **sgd),
        run(loose, vision, clip=99, **sgd),
    )
    assert moved(start, free) > 0.02
    assert moved(start, held) == pytest.approx(0.01, rel=1e-3)
    assert same(free, loose)


def test_nothing_waits_for_the_length_or_the_rate(vision):
    options = {"clip": 1.0, "schedule": "linear", "lr_warmup": 5, "accumulate": 2}
    plain = {"optimizer": torch.optim.SGD, "steps": 200, "evaluate_every": 200}
    with Reads() as reads:
        history = run(fresh(), vision, **options, **plain)
    checked = 1  # whether the loss is a mean, before the first step
    assert reads.items == len(history.scores) * 3 + checked


# --- The learning rate over time -----------------------------------------------------------------


class Noting(torch.optim.SGD):
    """Notes its learning rate at each step."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.seen = []

    def step(self, closure=None):
        self.seen.append(self.param_groups[0]["lr"])
        return super().step(closure)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_step_has_the_rate_of_its_schedule(vision, schedule):
    made = []

    def noting(params, lr):
        made.append(Noting(params, lr))
        return made[0]

    run(fresh(), vision, steps=20, lr=0.1, schedule=schedule, lr_warmup=5, optimizer=noting)
    expected = [0.1 * rate_at(i, 20, schedule, 5) for i in range(20)]
    assert made[0].seen == pytest.approx(expected)
    assert made[0].seen[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


def test_the_schedules_at_known_places():
    halfway = {name: rate_at(10, 20, name, 0) for name in SCHEDULES}
    assert halfway == {"constant": 1, "linear": 0.5, "cosine": 0.5, "trapezoid": 1}
    last = {name: rate_at(19, 20, name, 0) for name in SCHEDULES}
    assert last["constant"] == 1 and 0 < last["cosine"] < last["linear"] < last["trapezoid"] < 0.2


def test_an_unknown_schedule_lists_those_there_are(vision):
    with pytest.raises(UnknownName, match="no schedule is called 'cosin'; did you mean 'cosine'"):
        run(fresh(), vision, schedule="cosin")


def test_a_training_with_a_schedule_goes_on_bit_for_bit(vision):
    options = {"steps": 60, "schedule": "cosine", "lr_warmup": 10}
    whole, model = fresh(), fresh()
    straight = run(whole, vision, **options)
    first = run(model, vision, budget_s=1e-9, **options)
    second = run(model, vision, resume=first.state, **options)
    assert 0 < first.steps < 60
    assert same(whole, model) and second.losses == straight.losses


def test_a_schedule_cannot_go_on_to_another_end(vision):
    model = fresh()
    state = run(model, vision, steps=5, schedule="linear").state
    with pytest.raises(BadValue, match="steps=9: the saved training has steps=5"):
        run(model, vision, steps=9, schedule="linear", resume=state)


# --- Recomputed ----------------------------------------------------------------------------------


def test_recomputed_layers_learn_the_same_with_less_memory(language):
    one, other = gpt(), gpt()
    options = {"steps": 5, "batch_size": 4, "evaluate_every": 5}
    assert run(one, language, recompute=True, **options).losses == (
        run(other, language, **options).losses
    )
    assert same(one, other)
    assert "forward" not in vars(one.blocks[0])  # put back
    assert step_bytes(language, recompute=True) < 0.7 * step_bytes(language)


def test_a_model_without_repeated_layers_has_nothing_to_recompute(vision):
    with pytest.raises(BadValue, match="recompute=True: MLP has no list of layers"):
        run(fresh(), vision, recompute=True)


# --- Compiled ------------------------------------------------------------------------------------


def test_a_compiled_training_learns_the_same_and_says_how_long_the_compiler_took(vision):
    torch.manual_seed(0)
    one = Dropping()
    other = copy.deepcopy(one)
    torch.manual_seed(1)
    compiled = run(one, vision, steps=3, compile=True, optimizer=torch.optim.SGD, lr=0.1)
    after = torch.get_rng_state()
    torch.manual_seed(1)
    plain = run(other, vision, steps=3, optimizer=torch.optim.SGD, lr=0.1)
    assert compiled.compile_s > 10 * compiled.train_s and plain.compile_s == 0
    assert compiled.losses[0] == pytest.approx(plain.losses[0], rel=0.2)  # its own dropout
    assert after is not None and compiled.to_dict()["compile_s"] == compiled.compile_s


def test_compiled_is_nearly_the_same(vision):
    one, other = fresh(), fresh()
    run(one, vision, steps=10, compile=True), run(other, vision, steps=10)
    assert nearly(one, other, atol=1e-4)


# --- The collector -------------------------------------------------------------------------------


def test_the_garbage_collector_is_held_during_the_steps_alone(vision):
    seen = []

    def loss(outputs, targets):
        seen.append((outputs.requires_grad, gc.isenabled()))
        return vision.loss(outputs, targets)

    run(fresh(), replace(vision, loss=loss), steps=3)
    assert {enabled for training, enabled in seen if training} == {False}
    assert gc.isenabled()


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_put_back_after_an_error_too(vision, was_on):
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(NonFiniteLoss):
            run(fresh(), replace(vision, loss=lambda *_: torch.tensor(float("nan"))))
        assert gc.isenabled() == was_on
    except RuntimeError:  # a loss without a gradient
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


# --- To a loss -----------------------------------------------------------------------------------


def test_it_ends_at_the_first_validation_loss_that_is_low_enough(vision):
    history = run(fresh(), vision, steps=400, evaluate_every=20, target_loss=1.0)
    losses = {at: score.loss for at, score in history.scores}
    assert history.stopped == "target loss reached"
    assert losses[history.steps] <= 1.0 < min(v for at, v in losses.items() if at < history.steps)
    assert history.steps_to_loss(1.0) == history.steps
    assert history.seconds_to_loss(1.0) == pytest.approx(history.train_s)
    assert history.steps_to_loss(1e-9) is None is history.seconds_to_loss(1e-9)


# --- Step by step --------------------------------------------------------------------------------


def test_updates_are_the_steps_of_the_loop(vision):
    one, other = fresh(), fresh()
    stepping = updates(other, vision, batch_size=64)
    losses = [float(next(stepping)) for _ in range(40)]
    assert other.training
    stepping.close()
    assert run(one, vision, steps=40, batch_size=64).losses == pytest.approx(losses)
    assert same(one, other)


def test_updates_have_no_end_so_no_schedule(vision):
    with pytest.raises(BadValue, match="no end"):
        updates(fresh(), vision, schedule="linear")


# --- Kept, killed, and gone on with ---------------------------------------------------------------


def done_in(file: Path) -> int:
    """How many steps the training in a checkpoint has made."""
    return len(load(file).state["losses"]) if file.exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_at_any_step_it_ends_bit_for_bit_like_one_that_was_not(vision, tmp_path):
    """Kill -9 in a process of its own, three times after a number of steps drawn at random."""
    whole, file = fresh(), tmp_path / "killed.kit"
    options = {"steps": 600, "evaluate_every": 10, "schedule": "linear", "lr_warmup": 20}
    straight = run(whole, vision, **options)

    def started():
        process = multiprocessing.get_context("fork").Process(
            target=run, args=(fresh(), vision), kwargs=options | {"checkpoint": file}
        )
        process.start()
        return process

    seen = [0]
    for most in (120, 240, 360):
        wanted = seen[-1] + random.randint(1, max(1, most - seen[-1]))
        process = started()
        while done_in(file) < wanted:
            assert process.is_alive()
            time.sleep(random.uniform(0, 0.05))  # at any moment, also while it saves
        process.kill()
        process.join()
        seen.append(done_in(file))
    assert seen == sorted(seen) and seen[-1] < 600, seen
    last = started()
    last.join()
    assert last.exitcode == 0
    kept = load(file)
    assert same(whole, kept.model)
    assert kept.state["losses"] == list(straight.losses)


def test_a_training_that_is_done_is_not_done_again(vision, tmp_path):
    file = tmp_path / "done.kit"
    first = run(fresh(), vision, steps=20, checkpoint=file)
    model = fresh(seed=1)
    again = run(model, vision, steps=20, checkpoint=file)
    assert again.losses == first.losses and again.train_s == first.train_s
    assert same(model, load(file).model)


def test_a_good_checkpoint_is_not_lost_to_a_broken_loss(vision, tmp_path):
    file, calls = tmp_path / "good.kit", []

    def loss(outputs, targets):
        calls.append(outputs.requires_grad)
        return vision.loss(outputs, targets) * (float("nan") if sum(calls) > 25 else 1)

    with pytest.raises(NonFiniteLoss):
        run(fresh(), replace(vision, loss=loss), steps=40, evaluate_every=10, checkpoint=file)
    kept = load(file)
    assert len(kept.state["losses"]) == 20
    assert all(w.isfinite().all() for w in weights(kept.model))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lr": 0.1}, r"lr=0\.1: the saved training has lr=0\.003"),
        ({"steps": 4}, r"nothing left to do: asked for 4 steps in all, 5 are done"),
        ({"resume": {}}, "exists, but resume is given too"),
        ({"accumulate": 2}, "accumulate=2: the saved training has accumulate=1"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_training_is_refused_and_left(vision, tmp_path, change, told):
    file = tmp_path / "other.kit"
    run(fresh(), vision, steps=5, checkpoint=file)
    before, model = file.read_bytes(), fresh(seed=1)
    untouched = weights(model)
    with pytest.raises(BadValue, match=told):
        run(model, vision, **{"steps": 9, "checkpoint": file, **change})
    assert file.read_bytes() == before
    assert all(map(torch.equal, untouched, weights(model)))


def test_a_checkpoint_without_a_training_is_refused(vision, tmp_path):
    file = save(tmp_path / "weights.kit", fresh())
    with pytest.raises(BadValue, match="without the state of its training"):
        run(fresh(), vision, checkpoint=file)


def test_a_checkpoint_of_another_model_is_refused(vision, tmp_path):
    file = tmp_path / "mlp.kit"
    run(fresh(), vision, steps=3, checkpoint=file)
    with pytest.raises(KitError, match="model"):
        run(MLP(), vision, steps=5, checkpoint=file)


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_first_step(vision, tmp_path):
    (tmp_path / "file").write_text("")
    model = fresh()
    before = weights(model)
    with pytest.raises(KitError, match="checkpoint"):
        run(model, vision, checkpoint=Path(tmp_path / "file" / "inside.kit"))
    assert all(map(torch.equal, before, weights(model)))
