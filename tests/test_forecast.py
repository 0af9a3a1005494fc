"""Forecasts: the real series whole, nothing of the future shown, what the naive reach known."""

import numpy as np
import pandas as pd
import pytest
import torch

from kit.core.errors import ShapeMismatch
from kit.data import load_co2
from kit.data.co2 import seasonal_naive
from kit.inference import evaluate
from kit.training import train
from kit.workloads import forecast
from kit.workloads.forecast import is_near

WEEKS = 2_284
FIRSTS = [  # split, and the first weeks that it asks for
    ("train", range(104, WEEKS - 896 - 7)),
    ("validation", range(WEEKS - 896, WEEKS - 576, 8)),
    ("test", range(WEEKS - 576, WEEKS, 8)),
]


@pytest.fixture(scope="module")
def measured() -> pd.Series:
    from statsmodels.datasets import co2 as packaged

    return packaged.load_pandas().data["co2"]


@pytest.fixture(scope="module")
def work():
    work = forecast()
    assert work.data
    return work


# --- The series ----------------------------------------------------------------------------------


def slowly(series: pd.Series, first: int) -> tuple[np.ndarray, np.ndarray]:
    """One example as told in words; of the inputs, from nothing but the weeks before `first`."""
    known = series.to_numpy()[:first]
    shown, before = known[-52:], known[-104:-52]
    level = shown.mean()
    coming = series.to_numpy()[first : first + 8]
    return np.stack([shown, before], 1) - level, coming - level


@pytest.mark.parametrize(("split", "firsts"), FIRSTS)
def test_each_example_is_what_was_known_and_what_came(measured, work, split, firsts):
    inputs, targets = work.data[split]
    assert len(inputs) == len(firsts)
    filled = measured.interpolate()
    for i, first in enumerate(firsts):
        shown, coming = slowly(filled, first)
        np.testing.assert_allclose(inputs[i], shown, atol=1e-4)
        np.testing.assert_allclose(targets[i], coming, atol=1e-4)


def test_the_weeks_are_those_that_are_told(measured):
    assert len(measured) == WEEKS and measured.isna().sum() == 59
    assert (measured.index.to_series().diff().dropna() == pd.Timedelta(days=7)).all()
    assert measured.index[0] == pd.Timestamp("1958-03-29")
    assert measured.index[-1] == pd.Timestamp("2001-12-29")
    first_of_validation, first_of_test = measured.index[[WEEKS - 896, WEEKS - 576]]
    assert first_of_validation == pd.Timestamp("1984-11-03")
    assert first_of_test == pd.Timestamp("1990-12-22")


def test_nothing_in_the_test_was_made_up(measured):
    missing = measured.index[measured.isna()]
    assert missing[-1] == pd.Timestamp("1985-08-03")
    assert missing[-1] < measured.index[WEEKS - 576 - 104]  # the earliest week that it is shown


def test_no_week_is_asked_of_two_splits():
    asked = {split: {first + i for first in firsts for i in range(8)} for split, firsts in FIRSTS}
    assert max(asked["train"]) < min(asked["validation"])
    assert max(asked["validation"]) < min(asked["test"])
    for split in ("validation", "test"):
        assert 8 * len(load_co2()[split].inputs) == len(asked[split])  # each week once


# --- Forecasts that learn nothing ----------------------------------------------------------------


def test_a_steady_rise_and_a_regular_year_are_forecast_without_error():
    week = np.arange(300)
    series = pd.Series(350 + 0.03 * week + 3 * np.sin(2 * np.pi * week / 52))
    for first in (104, 111, 250):
        shown, coming = slowly(series, first)
        told = seasonal_naive(torch.tensor(shown).unsqueeze(0))
        np.testing.assert_allclose(told[0], coming, atol=1e-9)


def rise_of(recent):
    """The naive forecast, but with the rise of so many weeks."""
    return lambda x: x[:, :8, 0] + (x[..., 0] - x[..., 1])[:, -recent:].mean(1, keepdim=True)


def test_no_other_naive_rise_does_better_in_training_or_reaches_the_target(work):
    def reached(split, method):
        inputs, targets = work.data[split]
        return float(work.score(method(inputs), targets).mean())

    others = (1, 2, 8, 13, 26, 52)
    assert reached("train", seasonal_naive) > max(reached("train", rise_of(n)) for n in others)
    assert work.target > 0.04 + max(reached("test", rise_of(n)) for n in others)
    # Of validation that is not true: a training that stops there at the target may stop too soon.
    assert work.target < max(reached("validation", rise_of(n)) for n in others)


def linear(work):
    """The straight line with the least squared error on the training examples."""
    from sklearn.linear_model import LinearRegression

    inputs, targets = work.data["train"]
    line = LinearRegression().fit(inputs.flatten(1).double(), targets.double())
    return lambda x: torch.tensor(line.predict(x.flatten(1).double()))


@pytest.mark.parametrize(
    ("method", "near"),
    [
        (lambda x: x[:, -4:, 0].mean(1, keepdim=True).expand(-1, 8), 0.13),  # the latest level
        (lambda x: x[:, :8, 0], 0.10),  # the year before
        (seasonal_naive, 0.59),
    ],
)
def test_what_the_naive_reach(work, method, near):
    inputs, targets = work.data["test"]
    assert float(work.score(method(inputs), targets).mean()) == pytest.approx(near, abs=0.005)


def test_what_a_straight_line_reaches(work):
    inputs, targets = work.data["test"]
    reached = float(work.score(linear(work)(inputs), targets).mean())
    assert reached == pytest.approx(0.70, abs=0.01)
    assert reached > work.target  # a network has to come near that


@pytest.mark.parametrize("shape", [(2, 52), (2, 52, 1), (2, 51, 2), (52, 2), (1, 2, 52, 2)])
def test_weeks_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeMismatch) as told:
        seasonal_naive(torch.zeros(shape))
    assert str(shape) in str(told.value) and "(N, 52, 2)" in str(told.value)


# --- The score -----------------------------------------------------------------------------------


def test_a_week_is_near_within_half_a_part_per_million():
    weeks = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    told = weeks + torch.tensor([[0.5, -0.5, 0.51, -2.0], [0.0, 0.1, -0.1, 0.2]])
    assert is_near(told, weeks).tolist() == [0.5, 1.0]


def test_the_score_says_what_it_is_a_share_of(work):
    score = evaluate(work.model(), work)
    assert "of the weeks within 0.5 ppm on 72 test examples" in repr(score)


# --- Forecasts that are learnt -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "mlp"])
def test_what_is_learnt_beats_what_is_naive(work, name):
    torch.manual_seed(1)
    model = work.model(name)
    before = evaluate(model, work).mean.value
    train(model, work, **work.recipe, seed=1, live=False)
    inputs, targets = work.data["test"]
    naive = float(work.score(seasonal_naive(inputs), targets).mean())
    assert before < 0.3 < naive < work.target <= evaluate(model, work).mean.value
