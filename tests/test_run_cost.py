"""Run costs: sums against their parts, and what a table of experiments gets."""

import json
from dataclasses import replace

import pytest
import torch

import kit
from kit.core.results import RECORD
from kit.costs.run_cost import RunCost
from kit.costs.step_cost import StepCost
from kit.devices import Meter
from kit.measurement import Peaks


@pytest.fixture(scope="module")
def parts():
    work = kit.workloads.vision()
    torch.manual_seed(0)
    model = work.model("mlp")
    history = kit.train(model, work, epochs=2, live=False)
    inputs, _ = work.example(1)
    served = kit.techniques.half(model, inputs)
    return {
        "history": history,
        "score": kit.evaluate(served, work),
        "target": 0.9,
        "step_cost": kit.step_cost(model, work, batch_size=32, budget_s=0.05, served=served),
        "latency": kit.measure(lambda: kit.predict(served, inputs), budget_s=0.05),
    }


@pytest.fixture(scope="module")
def account(parts) -> RunCost:
    return kit.run_cost(**parts, technique="half")


def test_the_training_is_its_steps(account):
    count, steps = account.step_cost.count, account.history.steps
    assert steps == 2 * (1_197 // 32)
    assert account.training_flops == steps * count.step_flops
    moved = sum(count.phases[name].moved_bytes for name in ("forward", "backward", "optimizer"))
    assert account.training_moved_bytes == steps * moved


def test_the_whole_run_in_predictions_of_one_example(account):
    one = account.step_cost.count.forward_flops / 32
    assert account.whole_run_flops_ratio == pytest.approx(account.training_flops / one)
    ratio, latency = account.whole_run_time_ratio, account.latency.median
    assert ratio.value == pytest.approx(account.history.train_s / latency.value)
    assert ratio.low <= ratio.value <= ratio.high


def test_the_target_counts_on_test_and_its_time_on_validation(parts, account):
    assert account.reached == (account.score.mean.value >= 0.9)
    assert account.seconds_to_target == account.history.seconds_to(0.9)
    never = kit.run_cost(**{**parts, "target": 1.0})
    assert not never.reached and never.seconds_to_target is None
    assert "missed" in repr(never) and "reached" in repr(kit.run_cost(**{**parts, "target": 0.0}))


def test_what_does_not_belong_together_is_refused(parts):
    work = kit.workloads.vision()
    wrong = {
        "batch_size=32, the step cost 8": {
            "step_cost": kit.step_cost("mlp", work, batch_size=8, budget_s=0.02),
        },
        "training was of MLP.*step cost is of CNN": {
            "step_cost": kit.step_cost("cnn", work, budget_s=0.02)
        },
        "'validation'; needs the score on 'test'": {
            "score": kit.evaluate(work.model("mlp"), work, "validation"),
        },
        "target=1.01: needs a score from 0 to 1": {"target": 1.01},
    }
    for told, other in wrong.items():
        with pytest.raises(kit.errors.BadValue, match=told):
            kit.run_cost(**{**parts, **other})
    with pytest.raises(kit.errors.BadValue, match=r"history is the model .*kit\.train"):
        kit.run_cost(work.model("mlp"), work)


def test_one_line_where_a_step_cost_cannot_be_measured():
    work = kit.workloads.vision()
    frozen = work.model("mlp").requires_grad_(False)
    with pytest.raises(kit.errors.BadValue, match="weight tensors are frozen"):
        kit.step_cost(frozen, work)
    with pytest.raises(kit.errors.UnknownName, match="no precision is called 'fp8'"):
        kit.step_cost(frozen, work, precision="fp8")
    if not torch.cuda.is_available():
        with pytest.raises(kit.errors.DeviceUnavailable, match="asked for 'cuda'"):
            kit.step_cost("mlp", work, device="cuda")
    with pytest.raises(kit.errors.BadValue, match="batch_sizes=4"):
        kit.inference_ladder(frozen, work, batch_sizes=4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"target_loss": ".6"}, "target_loss='.6': needs a number above 0"),
        ({"evaluate_every": 0}, "evaluate_every=0"),
        ({"lrr": 3}, "'lrr'; did you mean 'lr'"),
    ],
)
def test_a_ladder_refuses_what_it_does_not_know(wrong, told):
    work = kit.workloads.vision()
    with pytest.raises(kit.errors.KitError, match=told):
        kit.training_ladder(lambda: work.model("mlp"), work, **{"target_loss": 0.6, **wrong})


def test_a_narrow_model_is_counted_as_it_is_used(parts, account):
    assert (
        account.step_cost.inference_count.weight_bytes * 2 == account.step_cost.count.weight_bytes
    )
    record = account.to_dict()
    assert record["inference"]["memory_bytes"] == account.step_cost.inference_count.inference_bytes
    assert record["training"]["memory_bytes"] == account.step_cost.count.training_bytes
    plain = StepCost("mlp", 32, parts["step_cost"].count, parts["step_cost"].parts)
    assert plain.memory_ratio < parts["step_cost"].memory_ratio


@pytest.mark.parametrize(
    ("technique", "rate"),
    [("half", "bfloat16"), ("none", "float32"), ("onnx", "float32"), ("onnx_int8", None)],
)
def test_a_prediction_is_held_against_the_rate_of_what_it_multiplies(parts, technique, rate):
    peaks = Peaks({"float32": 1e13, "bfloat16": 2e13}, 1e11, {}, "cpu", 1)
    told = kit.run_cost(**parts, technique=technique, peaks=peaks)
    if rate is None:  # no peak is known of integers
        assert told.prediction_share is None
        return
    seconds = parts["step_cost"].parts["predict"].median_s
    limit = peaks.matmul_flops_per_s[rate]
    assert told.prediction_share == pytest.approx(
        told.step_cost.count.forward_flops / seconds / limit
    )


def test_what_cannot_be_taken_apart_is_counted_as_the_model(parts):
    work = kit.workloads.vision()
    model = work.model("mlp")
    try:
        served = kit.techniques.onnx(model, work.example(8)[0])
    except kit.errors.NotInstalled as error:
        pytest.skip(str(error))
    assert not kit.techniques.is_pytorch(served) and kit.techniques.is_pytorch(model)
    cost = kit.step_cost(model, work, batch_size=8, budget_s=0.02, served=served)
    assert cost.inference_count == cost.count


def test_unknown_energy_and_limits_are_none_and_a_dash(account):
    record = account.to_dict()
    assert record["training"]["energy_joules"] is None
    assert record["limit"]["step_share"] is None
    assert "No energy counter can be read here" in account.table().caption
    rows = {row[0]: row[1:] for row in account.table().rows}
    assert set(rows["energy"]) == {"—"}


def test_a_prediction_that_was_timed_twice_says_how_each_time(account):
    assert "same prediction" not in account.table().caption
    cost = replace(account.step_cost, batch_size=1)
    caption = replace(account, step_cost=cost).table().caption
    in_turns = cost.parts["predict"].median
    assert f"same prediction: {in_turns} in turns with training steps" in caption
    assert f"and {account.latency.median} many times in a row. No energy" in caption


def test_joules_and_limits_are_shown_where_they_are_known(parts):
    peaks = kit.peaks(budget_s=0.1)
    read = Meter("processor (RAPL)", 12.0)
    known = kit.run_cost(**parts, technique="half", training_energy=read, peaks=peaks)
    assert known.to_dict()["training"]["energy_joules"] == 12.0
    assert "Energy of the processor (RAPL)" in known.table().caption
    flops, seconds = known.step_cost.count.step_flops, known.step_cost.step_s()
    best = peaks.matmul_flops_per_s["float32"]
    assert known.step_share == pytest.approx(flops / seconds / best)
    narrow = known.step_cost.count.forward_flops / known.step_cost.parts["predict"].median_s
    if "bfloat16" in peaks.matmul_flops_per_s:
        best = peaks.matmul_flops_per_s["bfloat16"]
        assert known.prediction_share == pytest.approx(narrow / best)
    else:  # a processor without instructions for it has no peak to hold it against
        assert known.prediction_share is None


def test_the_record_is_plain_json_that_names_its_experiment(account):
    record = account._repr_mimebundle_()[RECORD]
    assert json.loads(json.dumps(record)) == record
    assert record["kind"] == "RunCost"
    told = {name: record[name] for name in ("workload", "technique", "precision", "batch_size")}
    assert told == {
        "workload": "vision",
        "technique": "half",
        "precision": "fp32",
        "batch_size": 32,
    }
    assert {"value", "low", "high", "unit"} == set(record["ratio"]["step_time"])


def test_a_step_cost_in_bfloat16_computes_in_bfloat16():
    work = kit.workloads.vision()
    model = work.model("mlp")
    seen = []
    model.head.register_forward_hook(lambda m, i, outputs: seen.append(outputs.dtype))
    kit.step_cost(model, work, batch_size=4, budget_s=0.02, precision="bf16")
    assert set(seen) == {torch.bfloat16}
