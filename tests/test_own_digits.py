"""The panel that collects twenty drawings: what its two buttons do, and what a lesson gets."""

import numpy as np
import pytest
import torch

import kit
from kit.core.errors import NotEnoughSamples
from kit.course.drawing_panel import to_image
from kit.course.drawn_digits import drawings, drawn_digits
from kit.course.own_digits import own_digits


def drawn_on(panel, drawing):
    panel.pad.bitmap = np.packbits(drawing).tobytes()


def draw_some(panel, n):
    for drawing in drawings()[0][:n]:
        drawn_on(panel, drawing)
        panel.next.click()


def test_without_a_reader_the_stored_drawings_are_used():
    panel = own_digits(kit.guess("How many?", 1, 20, plausible=5))
    assert "0 of" not in panel.asked.value and "Draw a 0" in panel.asked.value
    assert panel.whose == "the stored drawings"
    for prepared in (True, False):
        given, stored = panel.examples(prepared), drawn_digits(prepared)
        assert torch.equal(given.inputs, stored.inputs)
    bundle = panel._repr_mimebundle_()
    assert "How many?" in bundle["text/html"] and "twenty" in bundle["text/plain"]


def test_next_keeps_a_drawing_and_undo_asks_for_it_again():
    panel = own_digits()
    panel.next.click()
    assert "The pad is empty." in panel.asked.value and not panel.drawings
    draw_some(panel, 3)
    assert "Draw a 3" in panel.asked.value and "4 of 20" in panel.asked.value
    assert not panel.pad.drawing.any()  # cleared for the next one
    panel.undo.click()
    assert "Draw a 2" in panel.asked.value and len(panel.drawings) == 2
    with pytest.raises(NotEnoughSamples, match="2 of 20"):
        panel.examples()


def test_twenty_drawings_come_back_as_images_with_their_digits():
    panel = own_digits()
    draw_some(panel, 20)
    assert panel.next.disabled and "All twenty" in panel.asked.value
    panel.take()  # a second click that was on its way
    images, digits = panel.examples(prepared=True)
    assert images.shape == (20, 1, 8, 8) and digits.tolist() == [*range(10)] * 2
    assert torch.equal(images[3], to_image(drawings()[0][3]))
    assert panel.whose == "your drawings"
