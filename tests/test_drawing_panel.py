"""The drawing panel: a drawing becomes an image like the data's, and models read it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from strokes import DIGITS

from kit.course.drawing_panel import BITMAP, Pad, bars_html, draw, probabilities, reads, to_image
from kit.models import CNN, MLP
from kit.training import train
from kit.workloads import vision

PEN = 1 / 14  # as in drawing.js


def drawn(strokes, side=BITMAP, shift=(0.0, 0.0), scale=1.0):
    """What the pad sends for these strokes: True within half a pen of a line."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    ink = np.zeros((side, side), dtype=bool)
    for stroke in strokes:
        points = (np.array(stroke) - 0.5) * scale + 0.5 + np.array(shift)
        for (x0, y0), (x1, y1) in pairwise(points):
            along = np.array([x1 - x0, y1 - y0])
            t = ((x - x0) * along[0] + (y - y0) * along[1]) / max(along @ along, 1e-12)
            t = t.clip(0, 1)
            near = np.hypot(x - x0 - t * along[0], y - y0 - t * along[1])
            ink |= near <= PEN / 2
    return ink


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = CNN()
    train(model, vision(), steps=300, live=False)
    return model


def test_no_ink_is_an_empty_image():
    image = to_image(np.zeros((BITMAP, BITMAP)))
    assert image.shape == (1, 8, 8) and image.dtype == torch.float32
    assert image.count_nonzero() == 0


def test_a_full_frame_leaves_the_margins_of_the_data():
    rows = to_image(np.ones((50, 50)))[0]
    assert rows.tolist() == [[0, 0.5, 1, 1, 1, 1, 0.5, 0]] * 8


@pytest.mark.parametrize("digit", DIGITS)
def test_an_image_is_like_those_of_the_data(digit):
    image = to_image(drawn(DIGITS[digit]))
    data = vision().data["train"].inputs
    assert image.min() >= 0 and image.max() <= 1
    low, high = data.mean(dim=(1, 2, 3)).quantile(torch.tensor([0.01, 0.99]))
    assert low <= image.mean() <= high  # as much ink
    assert image[0, 0].any() and image[0, -1].any()  # from the top row to the bottom row


@pytest.mark.parametrize("shift", [(0.1, 0), (-0.08, 0.06), (0, -0.1)])
def test_where_a_digit_is_drawn_hardly_matters(shift):
    here, there = to_image(drawn(DIGITS[3])), to_image(drawn(DIGITS[3], shift=shift))
    assert (here - there).abs().mean() < 0.05


def test_a_thin_line_stays_thin():
    image = to_image(drawn([[(0.5, 0.1), (0.5, 0.9)]]))[0]
    assert image[:, :2].count_nonzero() == 0 and image[:, 6:].count_nonzero() == 0


@pytest.mark.parametrize("digit", DIGITS)
def test_a_trained_model_reads_what_is_drawn(trained, digit):
    (shares,) = probabilities({"trained": trained}, to_image(drawn(DIGITS[digit]))).values()
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert reads(shares).startswith(f"reads {digit},")


@pytest.mark.parametrize("scale", [0.5, 0.75])
def test_a_small_digit_is_read_as_well(trained, scale):
    image = to_image(drawn(DIGITS[2], scale=scale))
    (shares,) = probabilities({"trained": trained}, image).values()
    assert reads(shares).startswith("reads 2,")


def test_reading_leaves_the_mode_alone():
    model = MLP().train()
    probabilities({"m": model}, torch.ones(1, 8, 8))
    assert model.training


def test_nothing_drawn_is_not_read():
    assert probabilities({"m": MLP()}, torch.zeros(1, 8, 8)) == {"m": []}
    assert "waits for ink" in bars_html("m", [])


def test_bars_are_labelled_and_safe():
    html = bars_html("<b>", [0.0] * 9 + [1.0])
    assert 'aria-label="&lt;b&gt;: reads 9, ' in html
    assert "<b>" not in html and html.count("align-items:center") == 10


def test_what_the_browser_sends_reaches_the_models():
    panel = draw({"m": MLP()}, example=torch.ones(1, 8, 8))
    before = panel.picture.value
    assert "an example from the data" in before
    bits = np.packbits(drawn(DIGITS[1])).tobytes()
    panel.pad.set_state({"bitmap": memoryview(bits)})  # as a comm message brings it
    assert panel.pad.drawing.sum() == drawn(DIGITS[1]).sum()
    assert "your drawing" in panel.picture.value != before


def test_without_a_kernel_the_picture_stays():
    panel = draw({"m": MLP()}, example=torch.ones(1, 8, 8))
    bundle = panel._repr_mimebundle_()
    assert bundle["text/html"] == panel.picture.value
    assert any("widget-view" in kind for kind in bundle)


def test_the_example_is_named_and_what_is_read_is_said():
    panel = draw({"m": MLP()}, torch.ones(1, 8, 8), 7)
    assert 'alt="an example from the data, a 7, as 8 by 8 grey squares"' in panel.picture.value
    assert panel.pad.spoken.startswith("m reads ")
    panel.pad.set_state({"bitmap": memoryview(bytes(BITMAP * BITMAP // 8))})
    panel._follow(None)
    assert panel.pad.spoken == "m waits for ink"


def test_the_pad_brings_its_own_script():
    assert "pointerdown" in str(Pad._esm) and "touch-action" in str(Pad._css)
