"""Answers that come late: the pole's physics between two decisions, jitter, and the panel."""

import dataclasses
import time

import pytest
import torch

from kit.core.errors import BadValue, ShapeMismatch
from kit.core.results import RECORDING
from kit.course.pole_panel import READY, balance, pole_picture
from kit.data.cart_pole import PERIOD_S, PUSH_N, STATE_SCALE, expert_action, next_states
from kit.models import Policy
from kit.workloads import Delays, LatePoles, drive, drive_late, tilts
from kit.workloads.late_control import STEP_S, STEPS


def controller(inputs):
    """The computed controller, as a way to predict."""
    return torch.nn.functional.one_hot(expert_action(inputs * torch.tensor(STATE_SCALE)), 2)


def answers(*pushes):
    """A way to predict that gives these pushes, one after the other, then the last one."""
    left = list(pushes)

    def predict(inputs):
        push = left.pop(0) if len(left) > 1 else left[0]
        return torch.nn.functional.one_hot(torch.full((len(inputs),), push), 2)

    return predict


def speeds(predict, delays, periods):
    """The cart's speed after each period, of one pole."""
    pole, found = LatePoles(1), []
    for _ in range(periods):
        pole.period(predict, delays)
        found.append(float(pole.states[0, 1]))
    return found


# --- When an answer acts -------------------------------------------------------------------------


def test_without_delay_the_answer_acts_at_once():
    pole = LatePoles(3)
    state = pole.states
    pole.period(answers(1), Delays(0.0))
    for _ in range(STEPS):
        state = next_states(state, torch.full((3,), PUSH_N, dtype=torch.float64), STEP_S)
    torch.testing.assert_close(pole.states, state, rtol=0, atol=1e-12)


def test_ten_milliseconds_are_half_a_period():
    """Until then the push before acts: left in the first period. The pushes cancel each other."""
    first = speeds(answers(1), Delays(PERIOD_S / 2), 1)[0]
    start = float(LatePoles(1).states[0, 1])
    assert abs(first - start) < 0.02  # half of the period to the left, half to the right
    right, left = speeds(answers(1), Delays(0.0), 1)[0], speeds(answers(0), Delays(0.0), 1)[0]
    assert right - start > 0.1 and start - left > 0.1


def test_an_answer_belongs_to_the_state_of_its_period():
    """The only right push is the answer to period 0; it acts in period 3."""
    changes = [
        after - before
        for before, after in zip(
            [float(LatePoles(1).states[0, 1]), *speeds(answers(1, 0), Delays(3 * PERIOD_S), 6)],
            speeds(answers(1, 0), Delays(3 * PERIOD_S), 6),
            strict=False,
        )
    ]
    assert [change > 0 for change in changes] == [False, True, False, True, False, False]


def test_an_answer_that_arrives_after_a_newer_one_is_ignored():
    class Turns(Delays):
        def drawn(self, episodes, generator):
            steps = late.pop(0)
            return torch.full((episodes,), steps)

    # The answer to period 0 (right) arrives in period 3, that to period 1 (left) in period 2.
    late = [3 * STEPS, STEPS, 10 * STEPS, 10 * STEPS]
    found = speeds(answers(1, 0), Turns(0.0), 4)
    assert found[3] < found[2] < found[1]  # left from period 2 on: the old answer does not act


def test_jitter_has_the_same_mean():
    drawn = Delays(0.04, 0.03).drawn(4_000, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {2, 14}  # 10 or 70 ms
    assert float(drawn.double().mean()) * STEP_S == pytest.approx(0.04, abs=0.002)
    assert set(Delays(0.04).drawn(50, torch.Generator()).tolist()) == {8}


def test_delays_say_what_they_are():
    assert repr(Delays(0.04)) == "40 ms, steady"
    assert repr(Delays(0.04, 0.03)) == "40 ms on average, 10 or 70 ms"


@pytest.mark.parametrize("wrong", [-0.01, 0.001, 3.0, "0.01", None, float("nan"), True])
def test_a_wrong_delay_is_refused(wrong):
    with pytest.raises(BadValue, match="in steps of"):
        Delays(wrong)
    with pytest.raises(BadValue, match="in steps of"):
        drive_late(controller, wrong)


def test_an_answer_before_its_question_is_refused():
    with pytest.raises(BadValue, match="before its question"):
        Delays(0.01, 0.02)


# --- What delay does -----------------------------------------------------------------------------


def test_it_is_the_same_pole_as_gymnasiums():
    """The controller holds both for two periods of delay, and loses both with five."""
    for delay, holds in ((0, True), (2, True), (5, False)):
        late = drive_late(controller, delay * PERIOD_S, episodes=20, periods=200).mean()
        whole = drive(controller, episodes=20, delay=delay).clamp(max=200).double().mean() / 200
        assert (late > 0.9) == (whole > 0.9) == holds


def test_jitter_alone_can_make_it_fall():
    steady, erratic = (
        drive_late(controller, Delays(0.05, jitter), episodes=20, periods=200).mean()
        for jitter in (0.0, 0.05)
    )
    assert steady > 0.9 > erratic


def test_a_seed_gives_one_run():
    once, again, other = (
        drive_late(controller, Delays(0.06, 0.05), episodes=5, periods=60, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_a_fallen_pole_stays_where_it_is():
    pole = LatePoles(2)
    pole.states[0, 2] = 1.0  # it lies
    pole.upright[0] = False
    before = pole.states.clone()
    pole.period(controller, Delays(0.0))
    assert torch.equal(pole.states[0], before[0]) and not torch.equal(pole.states[1], before[1])


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(ShapeMismatch, match=r"needed \(5, 2\)"):
        drive_late(lambda states: torch.zeros(5, 3), 0.0, episodes=5)


def test_a_tilt_ends_with_the_fall():
    assert len(tilts(controller, 0.0, periods=30)) == 30
    fallen = tilts(answers(1), 0.0, periods=100)
    assert len(fallen) < 100 and abs(float(fallen[-1])) > 12


# --- The panel -----------------------------------------------------------------------------------


@pytest.fixture
def panel():
    return balance({"controller": controller, "always right": answers(1)}, seconds=1.0)


def test_the_panel_begins_without_delay(panel):
    assert (panel.name, panel.delays, panel.status) == ("controller", Delays(0.0), READY)
    assert [control["label"] for control in panel.controls][:2] == ["model", "delay"]


def test_the_sliders_choose_model_and_delay(panel):
    assert panel.play(1.0) == pytest.approx(1.0) and not panel.running
    panel.set("always right")
    assert panel.play(2.0) < 1.0 and len(panel.falls_s) > 1  # a fallen pole is set up again
    assert "“always right” itself takes" in panel._words()
    panel.set("controller", delay_s=0.12, jitter_s=0.06)
    assert panel.delays == Delays(0.12, 0.06)
    assert panel.play(2.0) < 2.0
    panel.set("controller", delay_s=0.01, jitter_s=0.06)
    assert panel.delays == Delays(0.01, 0.01)  # at most the delay


def test_the_page_hears_where_the_pole_is(panel):
    sent = []
    panel.send = sent.append
    panel.play(0.1)
    assert len(sent) == 5 and all(len(each["pole"]) == 2 for each in sent)
    assert sent[-1]["stood_s"] == pytest.approx(0.1)


def test_a_models_own_time_is_part_of_the_delay(panel):
    panel.own_s["controller"] = 0.021
    assert panel._all_delays() == Delays(0.02)
    assert panel.delays == Delays(0.0)


def test_start_and_stop_come_from_the_page(panel):
    panel.seconds = 60.0
    panel._receive(panel, {"do": "start"}, [])
    panel._receive(panel, {"do": "start"}, [])  # nothing happens
    panel._receive(panel, {"do": "stop"}, [])
    for _ in range(200):
        if not panel.running:
            break
        time.sleep(0.01)
    assert not panel.running and panel.falls_s[0] < 10


def test_a_recorded_page_shows_a_fall(monkeypatch):
    monkeypatch.setenv(RECORDING, "1")
    panel = balance(controller)
    assert "fell after" in panel.status
    assert "<figure" in panel._repr_mimebundle_()["text/html"]


def test_a_model_of_pytorch_balances_too():
    panel = balance(Policy())
    assert panel.name == "policy" and panel.own_s["policy"] > 0
    panel.play(0.2)


def test_the_picture_says_who_falls():
    picture = pole_picture(controller, [0.0, Delays(0.12)], seconds=3.0)
    caption, drawn = picture.caption, picture.figure.axes[0].get_lines()
    limits = [line.get_ydata()[0] for line in drawn if line.get_linestyle() == "--"]
    assert limits == pytest.approx([12, -12], abs=0.1)
    assert "0 ms, steady: stands for 3.00 s" in caption and "120 ms, steady: falls after" in caption
    with pytest.raises(BadValue, match="no delays"):
        pole_picture(controller, [])


@pytest.mark.parametrize("models", [{}, {"a": 3}, 3])
def test_what_is_not_a_policy_is_refused(models):
    with pytest.raises(BadValue, match="at least one policy"):
        balance(models)
    with pytest.raises(BadValue, match="the slider has"):
        balance(controller).set(delay_s=0.005)
    assert dataclasses.is_dataclass(Delays)
