"""Results: every kind has one line, a table and a record that stays in an executed notebook."""

import json
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from http_servers import serving

import kit
from kit import (
    devices,
    inference,
    loadgen,
    measurement,
    techniques,
    training,
)
from kit.core.results import RECORD, Result
from kit.core.statistics import Estimate
from kit.costs import lifetime_options, planning_check, two_plans
from kit.costs.accelerator_speedup import accelerator_speedups
from kit.costs.counting import count
from kit.costs.generation_counts import count_generation
from kit.costs.prediction_turns import PredictionTurns, TrainingInPredictions
from kit.costs.run_cost import RunCost, run_cost
from kit.costs.step_cost import step_cost
from kit.costs.step_cost_grid import step_costs
from kit.course import approaches, claims, ordering_panel, recordings
from kit.course.roads import Road
from kit.course.verdict_table import verdicts
from kit.experiments import class_measurements, experiment_folder
from kit.experiments.class_records import ClassMeasurements
from kit.ladders.fastest import Fastest, fastest
from kit.ladders.inference import InferenceLadder, inference_ladder
from kit.ladders.training import TrainingLadder, training_ladder
from kit.models import GPT, MLP, MLPConfig

SHORT = {"budget_s": 0.01}


def tiny() -> MLP:
    return MLP(MLPConfig(hidden=4, layers=1))


def nothing(_: object = None) -> None:
    pass


def asked_often() -> loadgen.ServerResult:
    return loadgen.server(nothing, rate=1e3, target_s=1, queries=10)


def class_measured() -> ClassMeasurements:
    return class_measurements(experiment_folder("recorded", "class"))


def in_turns(work) -> TrainingInPredictions:
    model, turns = tiny(), PredictionTurns(lambda n: nothing, (1, 2), **SHORT)
    return turns.of(training.train(model, work, steps=5, live=False, after_step=turns))


def trained_and_used(work) -> RunCost:
    model = tiny()
    return run_cost(
        history=training.train(model, work, steps=3, live=False),
        score=inference.evaluate(model, work),
        target=work.target,
        step_cost=step_cost(model, work, batch_size=32, **SHORT),
        latency=measurement.measure(nothing, **SHORT),
    )


def advised(_: object) -> approaches.Recommendation:
    right, answer = Estimate(0.7, 0.6, 0.8, "%"), Estimate(1e-2, 9e-3, 1.1e-2, "s")
    kinds = {"words": 4, "head": 4, "last-block": 4, "as-is": 0}
    roads = {kind: Road({n: right}, {n: 0.1 * n}, answer, 100_000) for kind, n in kinds.items()}
    return approaches.recommend(roads, approaches.case_answers("chatbot"))


def climbed(work) -> TrainingLadder:
    return training_ladder(tiny, work, target_loss=2.2, most_steps=60, **SHORT)


def in_forms(work) -> InferenceLadder:
    first = inference_ladder(tiny(), work, batch_sizes=(1, 4), **SHORT)
    return first.then("half", techniques.half).then("channels_last", techniques.channels_last)


def chosen(work) -> Fastest:
    return fastest(tiny(), work, max_bytes=1e6, techniques=("none", "half"))


def written(_: object = None) -> inference.Generation:
    return inference.generate(GPT(), [1, 2, 3], max_new_tokens=4)


def asked_over_http():
    with serving() as state:
        url = f"http://127.0.0.1:{state.port}/quick"
        return kit.traffic(url, b"", rate=50, duration_s=0.2, target_s=1.0)


def a_life():
    return kit.lifetime(10.0, 0.01, answers_per_day=100.0)


def lived(work):
    return kit.monitoring.lives([tiny()], work, lambda week: 0.0, ["never"], periods=2)


# One of each kind. A new kind of result needs a line here.
MAKERS = {
    "AcceleratorSpeedups": lambda work: accelerator_speedups(
        planning_check.against_published(0.4),
        measurement.Peaks({"float32": 1e11}, 4e10, {}, "cpu", 1),
    ),
    "Drift": lambda work: kit.drift(*(work.data[s] for s in ("validation", "test")), trials=0),
    "EdgeRun": lambda work: kit.edge(tiny(), torch.zeros(4, 1, 8, 8), calls=20, every_s=None),
    "Life": lambda work: next(iter(lived(work)["never"])),
    "Lifetime": lambda work: a_life(),
    "Lives": lived,
    "Options": lambda work: lifetime_options.options({"a": a_life(), "b": a_life()}, "time"),
    "Plan": lambda work: kit.plan("llama-3.1-8b", tokens=1e9, deadline_days=30),
    "PlanCheck": lambda work: planning_check.against_published(0.4),
    "TwoPlans": lambda work: two_plans.two_plans("olmo-2-7b", users=100, target=20),
    "Recommendation": advised,
    "ServingCheck": lambda work: planning_check.serving_against_published(),
    "Published": lambda work: kit.published("bloom-api"),
    "RealTime": lambda work: kit.deployment.real_time_factors({"a": ([0.01] * 50, 0.1)}),
    "Repairs": lambda work: kit.monitoring.repairs(
        [tiny(), tiny()], work, work, labels=20, names=["last layer"]
    ),
    "Tornado": lambda work: a_life().tornado("time"),
    "Agreement": lambda work: measurement.agree(torch.zeros(2, 2), torch.zeros(2, 2)),
    "StepCost": lambda work: step_cost(tiny(), work, batch_size=2, **SHORT),
    "StepCosts": lambda work: step_costs(["mlp"], work, batch_sizes=[1, 2], **SHORT),
    "Fastest": chosen,
    "ModelForm": lambda work: in_forms(work)["half"],
    "Generation": written,
    "GenerationCount": lambda work: count_generation(GPT(), 3, 4),
    "InferenceLadder": in_forms,
    "Comparison": lambda work: measurement.compare({"a": nothing, "b": nothing}, **SHORT),
    "Count": lambda work: count(tiny(), torch.zeros(2, 1, 8, 8)),
    "GuessedOrder": lambda work: ordering_panel.guess_order(["a", "b"], "Which?").against(
        {"a": 1.0, "b": 2.0}
    ),
    "HighestRate": lambda work: loadgen.HighestRate((asked_often(),)),
    "History": lambda work: training.train(tiny(), work, steps=3, live=False),
    "TrainingInPredictions": in_turns,
    "TrainingLadder": climbed,
    "Machine": lambda work: devices.machine(),
    "Measurement": lambda work: measurement.measure(nothing, **SHORT),
    "OfflineResult": lambda work: loadgen.offline(nothing, samples=8, batch_size=4),
    "Parts": lambda work: measurement.measure_parts({"a": nothing}, **SHORT),
    "Peaks": lambda work: measurement.Peaks({"float32": 1e11}, 4e10, {}, "cpu", 1),
    "TrainingRung": lambda work: climbed(work).newest,
    "Score": lambda work: inference.evaluate(tiny(), work),
    "ServerResult": lambda work: asked_often(),
    "StreamResult": lambda work: loadgen.multi_stream(nothing, **SHORT),
    "Sweep": lambda work: measurement.sweep(lambda size: nothing, [1, 2], **SHORT),
    "RunCost": trained_and_used,
    "Recordings": lambda work: recordings.recordings("05"),
    "TrafficResult": lambda work: asked_over_http(),
    "ClassMeasurements": lambda work: class_measured(),
    "Compared": lambda work: class_measured().of(""),
    "Waits": lambda work: loadgen.waits([asked_often()], asked_often(), 100.0),
    "Verdict": lambda work: claims.verdict("01", weights_moved=1.0, loss_ratio=None),
    "Verdicts": lambda work: verdicts(claims.verdict("01", weights_moved=1.0, loss_ratio=None)),
}


@pytest.fixture(scope="module", params=MAKERS)
def result(request, vision) -> Result:
    return MAKERS[request.param](vision)


def test_every_kind_of_result_is_made_here():
    for room in (loadgen, kit.deployment, kit.monitoring):  # imported when they are first used
        for name in dir(room):
            getattr(room, name)
    found, ahead = set(), [Result]
    while ahead:
        children = ahead.pop().__subclasses__()
        ahead += children
        ours = [child for child in children if child.__module__.startswith("kit.")]
        found |= {child.__name__ for child in ours if not child.__subclasses__()}
    assert found == set(MAKERS)


def test_its_name_in_a_list_is_one_line(result):
    assert repr(result) and "\n" not in repr(result)


def test_it_has_a_table_of_text(result):
    table = result.table()
    assert table.rows
    assert all(isinstance(cell, str) for row in table.rows for cell in row)
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_its_record_travels_with_it_as_json(result):
    bundle = result._repr_mimebundle_()
    assert bundle["text/html"] == result._repr_html_() and "<table" in bundle["text/html"]
    assert bundle["text/plain"] == repr(result)
    kept = json.loads(json.dumps(bundle[RECORD], allow_nan=False))
    assert kept.pop("kind") == type(result).__name__
    assert kept == json.loads(json.dumps(result.to_dict()))


def test_it_cannot_be_changed_afterwards(result):
    with pytest.raises(FrozenInstanceError):
        setattr(result, fields(result)[0].name, None)


def test_its_picture_describes_itself_in_numbers(result):
    if not hasattr(result, "plot"):
        pytest.skip(f"a {type(result).__name__} has no picture")
    picture = result.plot()
    assert any(letter.isdigit() for letter in picture.caption) and picture.caption.endswith(".")
    assert picture.png().startswith(b"\x89PNG")
