"""Panels: sliders that are really moved, and what stays of a panel where no kernel is behind it."""

import math
from itertools import pairwise

import pytest

from kit.core.errors import BadValue
from kit.core.results import RECORDING
from kit.core.statistics import Estimate, at_least, at_most
from kit.core.units import words
from kit.course.panels import explore, guess
from kit.plots import Table, bars, dots, lines

WIDGET = "application/vnd.jupyter.widget-view+json"


def move(panel, index: int, name: str | None = None) -> None:
    """What the browser does when a control is moved: another index for it."""
    chosen = list(panel.panel.chosen)
    chosen[0 if name is None else list(panel.choices).index(name)] = index
    panel.panel.set_state({"chosen": chosen})


def texts(panel, control: int = 0) -> list[str]:
    """What a control shows and speaks at each place."""
    return panel.panel.controls[control]["texts"]


@pytest.fixture
def question():
    return guess("How many <times>?", 0.1, 1_000, "×")


def test_nobody_has_guessed_before_the_slider_moves(question):
    assert question.value is None
    assert repr(question) == "How many <times>? Your guess: no guess yet."
    assert str(question.beside(3.0)) == "No guess was made; measured: 3.00 ×."


def test_a_moved_slider_is_a_guess(question):
    move(question, 31)
    assert question.value == pytest.approx(10, rel=1e-6)  # the middle of 0.1 to 1,000
    assert texts(question)[31] == "10.0 ×"


@pytest.mark.parametrize(("measured", "factor"), [(10, "1.00"), (30, "3.00"), (2.5, "4.00")])
def test_the_guess_stands_beside_the_measurement_with_its_factor(question, measured, factor):
    move(question, 31)
    told = str(question.beside(measured))
    assert told.startswith("Your guess: 10.0 ×; measured:")
    assert told.endswith(f"factor of {factor}.")


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ((11, 8, 12), "measured: 11.0 × [8.00 to 12.0 ×]. The guess lies within the interval."),
        ((4, 2.5, 9), "measured: 4.00 × [2.50 to 9.00 ×]. Off by a factor of 2.50."),
        (
            (4, 3, math.inf),
            "measured: 4.00 × [at least 3.00 ×]. This run does not rule out the guess.",
        ),
        ((25, 12, math.inf), "Off by a factor of 2.50."),
        ((4, 4, 4), "measured: 4.00 ×. Off by a factor of 2.50."),  # a count has no interval
    ],
)
def test_a_guess_within_the_interval_is_not_off(question, measured, said):
    move(question, 31)  # 10
    assert str(question.beside(Estimate(*measured, "×"))).endswith(said)


def test_where_the_interval_is_unknown_the_distance_is_that_of_this_run(question):
    """Lesson 11 said that a guess may be right that was eight times off."""
    move(question, 31)  # 10
    told = str(question.beside(Estimate(80.6, 0.0, math.inf, "×")))
    assert told == (
        "Your guess: 10.0 ×; measured: 80.6 × [interval unknown]. In this run the guess is off by "
        "a factor of 8.06. Another run may give another value."
    )
    share = guess("Which share?", 0.1, 1, "%")
    move(share, 31)
    told = str(share.beside(Estimate(0.5, 0.0, 1.0, "%")))  # a share always lies between 0 and 1
    assert "In this run the guess is off by 18.4 points." in told


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (at_most(20), "measured: at most 20 examples. This run does not rule out the guess."),
        (at_most(5), "measured: at most 5 examples. Off by at least a factor of 2.00."),
        (at_least(5), "measured: at least 5 examples. This run does not rule out the guess."),
        (at_least(40), "measured: at least 40 examples. Off by at least a factor of 4.00."),
        (30, "measured: 30 examples. Off by a factor of 3.00."),
    ],
)
def test_a_guess_beside_a_bound_or_a_count(bound, said):
    """Lesson 13: the smallest number that was tried was enough, which is no measured value."""
    many = guess("How many?", 1, 100, "examples")
    move(many, 31)  # 10
    assert str(many.beside(bound)) == f"Your guess: 10 examples; {said}"


def test_the_other_value_may_come_from_elsewhere(question):
    move(question, 31)
    assert str(question.beside(9.5, "theory")) == (
        "Your guess: 10.0 ×; theory: 9.50 ×. Off by a factor of 1.05."
    )


def test_shares_differ_by_points():
    share = guess("Which share?", 0.1, 1, "%")
    move(share, 31)  # √0.1
    assert str(share.beside(Estimate(0.5, 0.45, 0.55, "%"))).endswith("Off by 18.4 points.")


@pytest.mark.parametrize("measured", [0, -1])
def test_there_is_no_factor_to_nothing(question, measured):
    move(question, 31)
    assert "factor" not in str(question.beside(measured))


def test_a_guess_can_be_taken_back(question):
    move(question, 31)
    move(question, 0)
    assert question.value is None


def test_the_slider_goes_from_end_to_end_in_even_factors(question):
    values = question.values[1:]
    assert texts(question)[0] == "no guess yet" and len(texts(question)) == len(question.values)
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


def test_a_recording_makes_the_plausible_guess(monkeypatch):
    assert guess("How many?", 0.1, 1_000, "×", plausible=3).value is None  # a reader makes it
    monkeypatch.setenv(RECORDING, "1")
    assert guess("How many?", 0.1, 1_000, "×").value is None
    made = guess("How many?", 0.1, 1_000, "×", plausible=3)
    told = "A plausible guess: 3.00 ×; measured: 6.00 ×. Off by a factor of 2.00."
    assert made.value == 3 and str(made.beside(6)) == told
    bundle = made._repr_mimebundle_()
    assert "(a plausible guess: 3.00 ×; " in bundle["text/html"]
    assert bundle["text/plain"].endswith("A plausible guess: 3.00 ×.")


@pytest.mark.parametrize("given", [0.1, 2, 50, 256, 1_000])
def test_a_plausible_guess_is_the_given_number_at_its_place_on_the_slider(given, monkeypatch):
    monkeypatch.setenv(RECORDING, "1")
    made = guess("?", 0.1, 1_000, plausible=given)
    assert made.value == given and made.values[1:] == sorted(made.values[1:])
    assert texts(made)[made.panel.chosen[0]] == words(given)


@pytest.mark.parametrize("outside", [0.05, 2_000, -1])
def test_a_plausible_guess_lies_on_the_slider(outside):
    with pytest.raises(BadValue, match=rf"plausible={outside}: needs a value from 0.1 to 1000"):
        guess("?", 0.1, 1_000, plausible=outside)


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
    assert "<td" in panel.panel.picture and ">16<" in panel.panel.picture


def test_each_move_shows_what_the_function_returns(panel, calls):
    move(panel, 2, "batch")
    assert calls[-1] == (64, 16)
    assert ">64<" in panel.panel.picture
    assert not panel.panel.busy


def test_an_error_of_the_function_leaves_the_picture_visible(panel):
    before = panel.panel.picture
    with pytest.raises(ZeroDivisionError):
        move(panel, 2, "width")
    assert panel.panel.picture == before
    assert not panel.panel.busy


def test_a_panel_is_a_widget_and_its_picture(panel):
    move(panel, 0, "batch")
    bundle = panel._repr_mimebundle_()
    assert WIDGET in bundle
    assert bundle["text/html"].startswith(panel.panel.picture)
    assert bundle["text/plain"] == "A panel to set batch, width."


@pytest.mark.parametrize("choices", [{}, {"batch": [1]}, {"batch": [1, 2], "width": []}])
def test_a_panel_needs_something_to_move(choices):
    with pytest.raises(BadValue, match="at least one keyword, and each keyword at least two"):
        explore(lambda **_: Table((), ()), **choices)


def pictured(draw, **choices):
    """A panel of such pictures, and the pictures that it has drawn so far."""
    drawn = []

    def picture(**chosen):
        drawn.append(draw(**chosen))
        return drawn[-1]

    return explore(picture, **choices), drawn


def bounds(picture):
    (pane,) = picture.figure.axes
    return [*pane.get_xbound(), *pane.get_ybound()]


def test_what_does_not_change_stays_in_its_place():
    """The row "all" of a panel of lesson 06: its axis widens, and never narrows again."""

    def share(x):
        return dots({"these": (x, x, x), "all": (0.9, 0.88, 0.92)}, "share", caption="", unit="%")

    shown, drawn = pictured(share, x=[0.2, 0.8, 0.85])
    for index in (0, 2, 1, 0):
        move(shown, index)
    first, widest, *later = map(bounds, drawn)
    assert widest[0] < first[0] and widest[1] >= first[1] and widest[2:] == first[2:]
    assert later == [widest] * 3
    assert drawn[-1].figure.axes[0].yaxis_inverted()  # the first row stays on top


def test_a_level_stays_in_its_place_unless_the_picture_gets_too_small():
    def ratios(x):
        return lines({"ratio": ([1, 2], [1, x])}, "n", "x", caption="", level=("1", 1.0))

    shown, drawn = pictured(ratios, x=[1_000, 2, 8])
    for index in (2, 1, 0, 1):
        move(shown, index)
    two, eight, again, huge, small = map(bounds, drawn)
    assert eight == again and eight[3] > two[3]
    assert huge[3] > 1_000 and small == two  # after the outlier, a picture that can be read


def test_where_nothing_stays_the_same_each_picture_has_its_own_axes():
    def times(batch):
        return bars({"a": {"p": batch}, "b": {"p": 2 * batch}}, "s", caption="")

    shown, drawn = pictured(times, batch=[1, 2, 4])
    move(shown, 2)
    move(shown, 0)
    ends = [bounds(each)[1] for each in drawn]
    assert ends == pytest.approx([ends[0], 2 * ends[0], ends[0] / 2])


def test_choices_may_be_words():
    shown = explore(lambda model: Table(("model",), [(model,)]), model=["cnn", "mlp"])
    assert ">mlp<" in shown.panel.picture


def test_true_and_false_are_a_box_to_tick():
    shown = explore(lambda waits: Table(("waits",), [(str(waits),)]), waits=[True, False])
    assert shown.panel.controls[0]["box"] and shown.chosen == {"waits": True}
    move(shown, 1, "waits")
    assert ">False<" in shown.panel.picture


def test_while_the_picture_is_made_the_old_one_is_said_to_be_old():
    panels, busy = [], []

    def picture(n):
        busy.extend(shown.panel.busy for shown in panels)
        return Table(("n",), [(str(n),)])

    panels.append(explore(picture, n=[1, 2, 3]))
    move(panels[0], 2, "n")
    assert busy == [True] and not panels[0].panel.busy
