"""The stored drawings, and the panel that drifts the digits."""

import pytest
import torch

import kit
from kit.course.drawn_digits import drawings, drawn_digits
from kit.course.drift_sliders import DEGREES, drift_picture, drift_sliders
from kit.inference.evaluation import judge


@pytest.fixture(scope="module")
def work():
    return kit.workloads.vision()


@pytest.fixture(scope="module")
def model(work):
    kit.seed(0)
    model = work.model("mlp")
    kit.train(model, work, steps=250, live=False, evaluate_every=10_000)
    return model


def test_each_digit_is_drawn_by_two_hands():
    inked, digits = drawings()
    assert sorted(digits) == sorted([*range(10)] * 2) and all(each.any() for each in inked)
    raw = drawn_digits()
    assert raw.inputs.shape == (20, 1, 8, 8) and 0 <= raw.inputs.min() <= raw.inputs.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in raw.inputs}) == 20


def test_unprepared_drawings_cost_score_and_preparing_brings_it_back(work, model):
    raw, prepared = (
        judge(model, work.with_split("test", drawn_digits(way)))[1].mean() for way in (False, True)
    )
    assert raw < 0.7 and prepared > raw + 0.2


def test_the_panel_begins_without_drift_and_follows_its_sliders(work, model):
    validation, test = work.data["validation"], work.data["test"]
    panel = drift_sliders(model, validation, test)
    assert set(panel.chosen.values()) == {0} and "No detector alarms" in panel.panel.picture
    texts = {control["label"]: control["texts"] for control in panel.panel.controls}
    assert (texts["rotation"][0], texts["noise"][0], texts["mix"][2]) == (
        *("-30°", "none"),
        "70% are 0, 1 or 2",
    )
    assert (texts["thickness"][0], texts["thickness"][-1]) == ("0.8 thinner", "0.8 thicker")
    still = drift_picture(model, validation, test)
    assert still.caption in panel.panel.picture
    panel.panel.chosen = [len(values) - 1 for values in DEGREES.values()]
    assert "Alarm by: outputs" in panel.panel.picture


def test_without_the_panel_the_picture_is_the_same_function(work, model):
    picture = drift_picture(model, work.data["validation"], work.data["test"], rotation=30)
    assert "Alarm by" in picture.caption and "true score" in picture._repr_html_()
    assert torch.is_tensor(work.data["test"].inputs)
