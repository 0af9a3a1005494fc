"""A server that watches its answers: a real one, with calm requests and with drifted ones."""

import numpy as np
import pytest
import torch
from torch import nn

import kit
from kit.core.errors import BadValue, CheckpointRefused, NotEnoughSamples
from kit.monitoring import read_reference, save_reference
from kit.serving import serve
from kit.serving.metrics import Metrics, numbers
from kit.serving.output_watch import OutputWatch, probabilities
from tests.test_serving import infer, until

CLASSES = 10


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return kit.models.MLP()


@pytest.fixture(scope="module")
def reference(model, tmp_path_factory):
    inputs = torch.randn(400, 64, generator=torch.Generator().manual_seed(1))
    return save_reference(tmp_path_factory.mktemp("reference") / "r.safetensors", model, inputs)


def ask_for(server, inputs):
    for rows in inputs.split(32):
        assert infer(server, rows)[0].status == 200


def test_drifted_requests_raise_the_gauge_and_calm_ones_do_not(model, reference):
    generator = torch.Generator().manual_seed(2)
    with serve(model, watch=reference) as server:
        assert server.metrics()["kit_drift_examples"] == 0  # the warm-up is no answer
        ask_for(server, torch.randn(512, 64, generator=generator))
        until(lambda: server.metrics()["kit_drift_examples"] == 500)
        calm = server.metrics()
        assert calm["kit_drift_effect"] < 0.2
        assert calm["kit_drift_p_value"] > 0.001
        ask_for(server, torch.randn(512, 64, generator=generator) + 0.7)
        until(lambda: server.metrics()["kit_drift_effect"] > 0.3)
        assert server.metrics()["kit_drift_p_value"] < 1e-5


def test_a_reference_that_does_not_fit_is_refused_before_or_at_the_start(reference, tmp_path):
    with pytest.raises(CheckpointRefused, match="no such file"):
        serve(kit.models.MLP(), watch=tmp_path / "none.safetensors")
    other = kit.save(tmp_path / "model.kit", kit.models.MLP())
    with pytest.raises(BadValue, match="save_reference"):
        serve(kit.models.MLP(), watch=other)
    with pytest.raises(BadValue, match="the reference has outputs of 10 classes"):
        serve(nn.Linear(4, 2), example=torch.rand(2, 4), watch=reference)


def test_a_reference_is_what_the_model_answers_and_nothing_else(model, tmp_path):
    inputs = torch.rand(40, 64)
    found = read_reference(save_reference(tmp_path / "new folder" / "r", model, inputs))
    wanted = kit.predict(model, inputs).softmax(1).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    (tmp_path / "r").write_bytes((tmp_path / "new folder" / "r").read_bytes()[:-8])
    with pytest.raises(CheckpointRefused):
        read_reference(tmp_path / "r")
    with pytest.raises(NotEnoughSamples):
        save_reference(tmp_path / "r", model, inputs[:3])
    with pytest.raises(BadValue, match="NaN"):
        save_reference(tmp_path / "r", model, inputs.where(inputs < 0.9, torch.nan))
    with pytest.raises(BadValue, match="folder"):
        save_reference(tmp_path, model, inputs)


def watch_of(reference, **how) -> tuple[OutputWatch, Metrics]:
    metrics = Metrics("m")
    return OutputWatch(reference, metrics, every_s=3600, **how), metrics


def test_the_deque_is_bounded_and_few_or_old_answers_are_not_compared(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    generator = np.random.default_rng(0)
    watch, metrics = watch_of(probabilities(generator.normal(size=(200, 3))), recent=100)
    watch.add(generator.normal(size=(5, 3)))
    watch.look()
    assert numbers(metrics.text().decode())["kit_drift_examples"] == 0
    for _ in range(2):
        watch.add(generator.normal(size=(40, 3)))
    watch.add(np.full((1, 3), np.nan))  # left out
    watch.look()
    seen = numbers(metrics.text().decode())
    assert seen["kit_drift_examples"] == 85
    watch.reference = watch.reference[:50]
    watch.look()  # nothing is new
    assert numbers(metrics.text().decode()) == seen
    watch.add(generator.normal(size=(300, 3)))
    assert len(watch._recent) == 100


def test_outputs_that_never_vary_have_no_effect(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    watch, metrics = watch_of(np.full((50, 2), 0.5))
    watch.add(np.zeros((20, 2)))
    watch.look()
    seen = numbers(metrics.text().decode())
    assert (seen["kit_drift_effect"], seen["kit_drift_p_value"]) == (0, 1)
    assert seen["kit_drift_examples"] == 20
