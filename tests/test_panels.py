"""Panels: sliders that are really moved, and what stays of a panel where no kernel is behind it."""

from itertools import pairwise

import ipywidgets
import pytest

from kit.course.panels import explore, guess
from kit.errors import BadValue
from kit.figures import Table

WIDGET = "application/vnd.jupyter.widget-view+json"


def slider(panel, name: str | None = None):
    return panel._slider if name is None else panel._sliders[name]


@pytest.fixture
def question():
    return guess("How many <times>?", 0.1, 1_000, "×")


def test_nobody_has_guessed_before_the_slider_moves(question):
    assert question.value is None
    assert repr(question) == "How many <times>? Your guess: no guess yet."
    assert str(question.beside(3.0)) == "No guess was made; measured: 3.00 ×."


def test_a_moved_slider_is_a_guess(question):
    text, value = slider(question).options[31]
    slider(question).value = value
    assert question.value == value == pytest.approx(10, rel=1e-6)  # the middle of 0.1 to 1,000
    assert text == "10.0 ×"


@pytest.mark.parametrize(("measured", "factor"), [(10, "1.00"), (30, "3.00"), (2.5, "4.00")])
def test_the_guess_stands_beside_the_measurement_with_its_factor(question, measured, factor):
    slider(question).value = slider(question).options[31][1]
    told = str(question.beside(measured))
    assert told.startswith("Your guess: 10.0 ×; measured:")
    assert told.endswith(f"factor of {factor}.")


@pytest.mark.parametrize("measured", [0, -1])
def test_there_is_no_factor_to_nothing(question, measured):
    slider(question).value = slider(question).options[31][1]
    assert "factor" not in str(question.beside(measured))


def test_a_guess_can_be_taken_back(question):
    slider(question).value = slider(question).options[31][1]
    slider(question).index = 0
    assert question.value is None


def test_the_slider_goes_from_end_to_end_in_even_factors(question):
    values = [value for _, value in slider(question).options[1:]]
    assert (values[0], values[-1]) == (pytest.approx(0.1), pytest.approx(1_000))
    factors = [b / a for a, b in pairwise(values)]
    assert factors == pytest.approx([factors[0]] * len(factors))


def test_a_guess_is_a_widget_and_a_sentence(question):
    bundle = question._repr_mimebundle_()
    assert WIDGET in bundle
    assert "How many &lt;times&gt;?" in bundle["text/html"]
    assert bundle["text/plain"] == repr(question)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (2, 1), (1, 1)])
def test_a_guess_needs_room(low, high):
    with pytest.raises(BadValue, match=rf"from {low} to {high}: needs 0 < low < high"):
        guess("?", low, high)


# --- Explorer ------------------------------------------------------------------------------------


@pytest.fixture
def calls():
    return []


@pytest.fixture
def panel(calls):
    def picture(batch, width):
        calls.append((batch, width))
        if width == 13:
            raise ZeroDivisionError
        return Table(("batch", "width"), [(str(batch), str(width))])

    return explore(picture, batch=[1, 8, 64], width=[4, 16, 13])


def test_it_starts_in_the_middle_with_the_functions_own_picture(panel, calls):
    assert calls == [(8, 16)]
    assert "<td" in panel._shown.value and ">16<" in panel._shown.value


def test_each_move_shows_what_the_function_returns(panel, calls):
    slider(panel, "batch").value = 64
    assert calls[-1] == (64, 16)
    assert ">64<" in panel._shown.value
    assert panel._shown.layout.opacity == "1"


def test_an_error_of_the_function_leaves_the_picture_visible(panel):
    before = panel._shown.value
    with pytest.raises(ZeroDivisionError):
        slider(panel, "width").value = 13
    assert panel._shown.value == before
    assert panel._shown.layout.opacity == "1"


def test_a_panel_is_a_widget_and_its_picture(panel):
    slider(panel, "batch").value = 1
    bundle = panel._repr_mimebundle_()
    assert WIDGET in bundle
    assert bundle["text/html"].startswith(panel._shown.value)
    assert bundle["text/plain"] == "A panel to set batch, width."


@pytest.mark.parametrize("choices", [{}, {"batch": [1]}, {"batch": [1, 2], "width": []}])
def test_a_panel_needs_something_to_move(choices):
    with pytest.raises(BadValue, match="at least one keyword, and each keyword at least two"):
        explore(lambda **_: Table((), ()), **choices)


def test_choices_may_be_words():
    shown = explore(lambda model: Table(("model",), [(model,)]), model=["cnn", "mlp"])
    assert ">mlp<" in shown._shown.value


def test_true_and_false_are_a_box_to_tick():
    shown = explore(lambda waits: Table(("waits",), [(str(waits),)]), waits=[True, False])
    box = slider(shown, "waits")
    assert isinstance(box, ipywidgets.Checkbox) and box.value is True
    box.value = False
    assert ">False<" in shown._shown.value
