"""Control: the physics are Gymnasium's, the controller is the best of its kind, late is worse."""

import math
from functools import cache
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
import torch

from kit.core.errors import BadValue, ShapeMismatch, UnknownName
from kit.costs.counting import count
from kit.data import cart_pole, load_cart_pole
from kit.data.cart_pole import (
    STATE_SCALE,
    expert_action,
    is_upright,
    linearised,
    lqr_gain,
    next_states,
    scale_states,
)
from kit.inference import evaluate, predict
from kit.models import Policy, PolicyConfig
from kit.training import train
from kit.workloads import control, drive
from kit.workloads.control import MAX_STEPS, upright_share


@pytest.fixture(scope="module")
def work():
    work = control()
    assert work.data
    return work


def states_and_pushes(n: int = 2_000) -> tuple[torch.Tensor, torch.Tensor]:
    """States within and a little beyond the limits, and pushes to either side."""
    make = torch.Generator().manual_seed(3)
    states = (2 * torch.rand(n, 4, generator=make, dtype=torch.float64) - 1) * 1.2
    return states * torch.tensor(STATE_SCALE), torch.randint(2, (n,), generator=make)


def choice(push):
    """A way to predict, from one that says where to push in each state."""

    def predict(inputs):
        return torch.nn.functional.one_hot(push(inputs * torch.tensor(STATE_SCALE)), 2)

    return predict


controller = choice(expert_action)


# --- Physics -------------------------------------------------------------------------------------


def test_the_pole_moves_as_gymnasiums_does():
    states, pushes = states_and_pushes()
    ours = next_states(states, cart_pole.PUSH_N * (2 * pushes - 1))
    world = gymnasium.make("CartPole-v1").unwrapped
    for state, push, after in zip(states, pushes, ours, strict=True):
        world.reset(seed=0)
        world.state = state.numpy()
        _, _, fallen, _, _ = world.step(int(push))
        np.testing.assert_allclose(after, world.state, rtol=1e-12, atol=1e-12)
        assert bool(is_upright(after.unsqueeze(0))) == (not fallen)


def test_its_numbers_are_gymnasiums():
    world = gymnasium.make("CartPole-v1").unwrapped
    assert (world.masscart, world.masspole, world.length) == (1.0, 0.1, 0.5)
    assert (world.gravity, world.force_mag, world.tau) == (
        cart_pole.GRAVITY,
        cart_pole.PUSH_N,
        cart_pole.PERIOD_S,
    )
    assert world.x_threshold == cart_pole.MAX_POSITION_M
    assert world.theta_threshold_radians == pytest.approx(cart_pole.MAX_TILT_RAD)
    assert gymnasium.spec("CartPole-v1").max_episode_steps == MAX_STEPS


def test_near_upright_it_is_the_derivative():
    still, none = torch.zeros(4, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    a, b = torch.autograd.functional.jacobian(next_states, (still, none))
    ours_a, ours_b = linearised()
    np.testing.assert_allclose(ours_a, a, atol=1e-12)
    np.testing.assert_allclose(ours_b[:, 0], b, atol=1e-12)


# --- The controller ------------------------------------------------------------------------------


def cost(force: np.ndarray) -> float:
    """The sum of squares from four starts on, if the cart could be pushed by any force."""
    a, b = linearised()
    state, total = np.eye(4) * STATE_SCALE, 0.0  # a column for each start
    for _ in range(5_000):
        if np.abs(state).max() > 1e6:  # it falls and falls
            return math.inf
        newtons = force @ state
        total += ((state.T / STATE_SCALE) ** 2).sum() + ((newtons / cart_pole.PUSH_N) ** 2).sum()
        state = a @ state + b * newtons
    assert np.abs(state).max() < 1e-3  # it came to rest
    return total


def test_no_other_linear_force_costs_less():
    best = np.array(lqr_gain())
    least = cost(best)
    assert math.isfinite(least)
    for i in range(4):
        for factor in (0.9, 0.99, 1.01, 1.1):
            other = best.copy()
            other[i] *= factor
            assert cost(other) > least
    assert cost(np.zeros(4)) == cost(-best) == math.inf


@pytest.mark.parametrize("seed", range(5))
def test_the_controller_never_falls(seed):
    assert drive(controller, episodes=200, seed=seed).tolist() == [MAX_STEPS] * 200


# --- What it was seen to do ----------------------------------------------------------------------


def test_each_target_is_where_the_controller_would_push(work):
    for inputs, targets in work.data.splits.values():
        states = inputs.double() * torch.tensor(STATE_SCALE, dtype=torch.float64)
        sure = (states @ torch.tensor(lqr_gain(), dtype=torch.float64)).abs() > 1e-4
        assert sure.float().mean() > 0.999  # all but those that rounding may turn
        assert torch.equal(expert_action(states)[sure], targets[sure])


def test_what_is_seen_is_upright_and_of_all_kinds(work):
    inputs, targets = work.data["train"]
    assert len(inputs) > 10_000
    assert inputs[:, [0, 2]].abs().max() <= 1  # places and tilts within the limits
    assert (inputs.std(0) > 0.2).all()  # not only what a good controller comes to see
    assert 0.4 < targets.float().mean() < 0.6


def test_each_attempt_goes_on_from_where_it_was():
    """The first 400 states of training are starts; the next ones are where they led to."""
    inputs, targets = load_cart_pole()["train"]
    starts = inputs[:400].double() * torch.tensor(STATE_SCALE, dtype=torch.float64)
    after = next_states(starts, cart_pole.PUSH_N * (2 * targets[:400] - 1))
    other = next_states(starts, -cart_pole.PUSH_N * (2 * targets[:400] - 1))
    seen = inputs[400:800].double() * torch.tensor(STATE_SCALE, dtype=torch.float64)

    def met(states):
        exactly = "donot_use_mm_for_euclid_dist"
        return torch.cdist(states, seen, compute_mode=exactly).min(1).values < 1e-5

    followed, strayed = met(after), met(other)
    assert not (followed & strayed).any()
    fell = ~(followed | strayed)
    assert not (is_upright(after) & is_upright(other))[fell].any()
    assert 0.05 < strayed.float().mean() < 0.15  # one push in five is by chance: one in ten, wrong


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_states_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeMismatch) as told:
        scale_states(torch.zeros(shape))
    assert str(shape) in str(told.value) and "(N, 4)" in str(told.value)


# --- The trial -----------------------------------------------------------------------------------


def slowly(push, start: np.ndarray, delay: int) -> int:
    """One episode in Gymnasium's own single environment: how many steps it lasted."""
    world = gymnasium.make("CartPole-v1")
    world.reset(seed=0)
    world.unwrapped.state = start.astype(np.float64)
    state, actions = start, [period % 2 for period in range(delay)]
    for period in range(MAX_STEPS):
        actions.append(int(push(torch.tensor(state).unsqueeze(0))))
        state, _, fallen, ended, _ = world.step(actions[period])
        if fallen or ended:
            break
    return period + 1


def lean(states):
    """To the side to which the pole leans: it falls soon, and not in all episodes at once."""
    return (states[:, 2] > 0).long()


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_all_at_once_is_as_one_after_the_other(delay):
    starts = []

    def predict(inputs):
        starts.append(inputs * torch.tensor(STATE_SCALE))
        return choice(lean)(inputs)

    steps = drive(predict, episodes=20, seed=4, delay=delay)
    assert len(set(steps.tolist())) > 3  # they end at different times
    assert len(starts) == steps.max()  # and the last one is waited for, no longer
    assert steps.tolist() == [slowly(lean, start.numpy(), delay) for start in starts[0]]


def test_an_action_that_is_late_belongs_to_what_was():
    """Always right of the start, left ever after: what comes to pass is the right in period 3."""
    asked = []

    def predict(inputs):
        asked.append(inputs * torch.tensor(STATE_SCALE))
        return choice(lambda states: torch.full((len(states),), int(len(asked) == 1)))(inputs)

    drive(predict, episodes=3, seed=0, delay=3)
    speeds = [float(states[0, 1]) for states in asked]
    pushed_right = [later > before for before, later in pairwise(speeds)]
    assert pushed_right[:5] == [False, True, False, True, False]  # by turns, then the answers


@pytest.mark.parametrize(
    ("push", "near"),
    [
        (lambda states: torch.zeros(len(states), dtype=torch.int64), 0.02),
        (lambda states: torch.randint(2, (len(states),)), 0.04),
        (lean, 0.09),
    ],
)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_the_naive_reach(push, near, split):
    torch.manual_seed(0)
    assert upright_share(choice(push), split).mean() == pytest.approx(near, abs=0.01)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_controller_passes_the_trial(split):
    assert upright_share(controller, split).tolist() == [1.0] * 100


def test_the_splits_have_starts_of_their_own():
    starts = []

    def predict(inputs):
        starts.append(tuple(inputs.flatten().tolist()))
        raise StopIteration

    for split in ("train", "validation", "test"):
        with pytest.raises(StopIteration):
            upright_share(predict, split)
    assert len(set(starts)) == 3


def test_a_seed_gives_one_trial_and_draws_nothing_from_the_generators_of_others():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    once, again = (drive(choice(lean), seed=1) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, drive(choice(lean), seed=2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@cache
def trained() -> Policy:
    torch.manual_seed(1)
    work = control()
    model = work.model()
    train(model, work, **work.recipe, seed=1, live=False)
    return model


def test_a_trained_policy_reaches_the_target(work):
    score = evaluate(trained(), work)
    assert score.mean.value >= work.target
    assert f"of {MAX_STEPS} steps upright on 100 test examples" in repr(score)
    inputs, targets = work.data["test"]
    assert score.loss == pytest.approx(float(work.loss(predict(trained(), inputs), targets)))


@pytest.mark.parametrize("seed", range(5))
def test_an_untrained_policy_falls(work, seed):
    torch.manual_seed(seed)
    assert evaluate(work.model(), work).mean.value < 0.5 < work.target


def test_the_later_the_answer_the_sooner_it_falls():
    for way in (controller, lambda inputs: predict(trained(), inputs)):
        steps = {delay: drive(way, delay=delay).double().mean() for delay in (0, 2, 4, 6, 10)}
        assert steps[0] >= steps[2] > 1.5 * steps[4] > 1.5 * steps[6]
        assert (
            steps[2] > 0.9 * MAX_STEPS
            and steps[6] < 0.1 * MAX_STEPS
            and steps[10] < 0.1 * MAX_STEPS
        )


@pytest.mark.parametrize("value", [-1, 1.5, "2", True, None])
def test_a_wrong_lateness_or_number_of_episodes_is_refused(value):
    with pytest.raises(BadValue, match=rf"delay={value!r}: needs a whole number of at least 0"):
        drive(controller, delay=value)
    with pytest.raises(BadValue, match=rf"episodes={value!r}: needs a whole number of at least 1"):
        drive(controller, episodes=value)


def test_no_episodes_are_refused():
    with pytest.raises(BadValue, match="episodes=0"):
        drive(controller, episodes=0)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (4, 2), (1, 5, 2)])
def test_outputs_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeMismatch) as told:
        drive(lambda _: torch.zeros(shape), episodes=5)
    assert str(shape) in str(told.value) and "needed (5, 2)" in str(told.value)


def test_an_unknown_split_has_no_starts():
    with pytest.raises(UnknownName, match="no split is called 'tets'; did you mean 'test'"):
        upright_share(controller, "tets")


# --- The policy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "f", "h", "a"), [(1, 4, 16, 2), (100, 4, 16, 2), (3, 5, 7, 6)])
def test_a_policy_costs_what_it_costs_by_hand(b, f, h, a):
    counted = count(Policy(PolicyConfig(features=f, hidden=h, actions=a)), torch.rand(b, f))
    assert counted.params == (f * h + h) + (h * a + a)
    assert counted.forward_flops == 2 * b * (f * h + h * a)
    # Backward: each weight's gradient costs a forward, each input's too, but for the first layer.
    assert counted.backward_flops == 2 * b * (f * h + h * a) + 2 * b * h * a


def test_a_policy_computes_what_its_formula_says():
    torch.manual_seed(0)
    model, state = Policy(), torch.tensor([0.1, -0.5, 0.3, 0.9])
    hidden = torch.tanh(model.hidden.weight @ state + model.hidden.bias)
    torch.testing.assert_close(
        model(state.unsqueeze(0))[0], model.head.weight @ hidden + model.head.bias
    )
