"""Step costs: made-up times add up by hand; a real one counts what `count` counts."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import taken

from kit.costs.counting import count
from kit.costs.step_cost import StepCost, step_cost
from kit.costs.step_cost_grid import StepCosts, step_costs
from kit.measurement import Parts
from kit.models import MLP, MLPConfig

ROUNDS = 20
MADE_UP_S = {"predict": 1.0, "forward": 1.5, "backward": 2.0, "optimizer": 0.5}


def parts(seconds: dict[str, float], drift: float = 0.0) -> Parts:
    """Rounds of these seconds; with drift, each round is slower than the one before."""
    slower = [1 + drift * i for i in range(ROUNDS)]
    return Parts({name: taken(s * f for f in slower) for name, s in seconds.items()})


@pytest.fixture(scope="module")
def made_up() -> StepCost:
    model = MLP(MLPConfig(hidden=8, layers=1))
    return StepCost("mlp", 4, count(model, torch.zeros(4, 1, 8, 8)), parts(MADE_UP_S))


def test_the_ratios_of_time_by_hand(made_up):
    assert made_up.step_s() == 4.0
    assert made_up.time_ratio.value == 4.0
    assert made_up.step.value == pytest.approx(made_up.step_s())
    assert made_up.optimizer_share_of_extra.value == pytest.approx(0.5 / 3.0)  # beyond a prediction


def test_a_machine_that_tires_does_not_change_the_ratio(made_up):
    tired = replace(made_up, parts=parts(MADE_UP_S, drift=0.5))
    assert tired.time_ratio.value == pytest.approx(4.0)
    assert tired.time_ratio.high - tired.time_ratio.low < 1e-9


def test_the_ratios_of_work_by_hand(made_up):
    params, b = (64 * 8 + 8) + (8 * 10 + 10), 4
    forward = 2 * b * (64 * 8 + 8 * 10)
    backward = forward + 2 * b * (8 * 10)
    assert made_up.flops_ratio == (forward + backward + 14 * params) / forward
    w, inputs, hidden, outputs = 4 * params, 4 * b * 64, 4 * b * 8, 4 * b * 10
    predict = w + inputs + outputs
    step = (predict + hidden) + (w + inputs + hidden + w) + (2 * w + w + 4 * w)
    assert made_up.traffic_ratio == step / predict
    assert made_up.memory_ratio == made_up.count.training_bytes / made_up.count.inference_bytes


def test_the_table_has_each_phase_and_the_ratio(made_up):
    rows = {row[0]: row for row in made_up.table().rows}
    assert list(rows) == [
        "prediction",
        "training step",
        "· forward",
        "· backward",
        "· optimizer",
        "step ÷ prediction",
    ]
    assert rows["step ÷ prediction"][1] == "4.00 ×"
    assert rows["training step"][1] == "4.00 s"
    assert "A multiply-add is 2 FLOPs" in made_up.table().details


def test_the_picture_says_its_numbers(made_up):
    assert made_up.plot().caption == (
        "MLP(hidden=8, layers=1): 610 parameters; batch 4: a prediction takes 1.00 s; "
        "a training step forward 1.50 s, backward 2.00 s, optimizer 500 ms."
    )


def test_several_step_costs_are_found_by_model_and_batch(made_up):
    both = StepCosts((made_up, replace(made_up, batch_size=8)))
    assert both["mlp", 8].batch_size == 8
    assert [b.batch_size for b in both] == [4, 8]
    assert len(both.table().rows) == 2
    assert "mlp from 4.00 × at batch 4 to 4.00 × at 8" in both.plot().caption


def test_a_step_cost_that_is_not_there_is_named(made_up):
    with pytest.raises(LookupError, match=r"mlp.*99|99.*mlp"):
        StepCosts((made_up,))["mlp", 99]


# --- Real ones -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_step_cost_counts_what_count_counts(vision, name):
    real = step_cost(name, vision, batch_size=8, budget_s=0.02)
    inputs, targets = vision.example(8)
    wanted = count(vision.model(name), inputs, lambda outputs: vision.loss(outputs, targets))
    assert (real.name, real.batch_size) == (name, 8)
    assert real.count == wanted


def test_a_training_step_takes_longer_than_a_prediction(vision):
    real = step_cost("mlp", vision, batch_size=32, budget_s=0.05)
    assert real.time_ratio.value > 1.5  # about nine times on most machines
    assert all(real.parts[name].median_s > 0 for name in MADE_UP_S)


def test_the_model_given_stays_as_it_is(vision):
    model = MLP(MLPConfig(hidden=8, layers=1)).eval()
    before = copy.deepcopy(model.state_dict())
    real = step_cost(model, vision, batch_size=2, budget_s=0.01)
    assert real.name == "mlp"
    assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


def test_step_costs_of_all_models_and_sizes(vision):
    both = step_costs(vision.models, vision, batch_sizes=(1, 2), budget_s=0.01)
    assert [(b.name, b.batch_size) for b in both] == [
        ("cnn", 1),
        ("cnn", 2),
        ("mlp", 1),
        ("mlp", 2),
    ]
    assert len(both.to_dict()["bills"]) == 4
