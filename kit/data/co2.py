"""Measurements over time: the past as inputs, what came next as targets.

Shapes: N forecasts, T = 52 weeks that are shown, H = 8 weeks that are asked for.
"""

import torch
from torch import Tensor

from kit.core.errors import ShapeMismatch
from kit.data.dataset import Dataset, Split

YEAR = 52  # T, weeks; and how far back "a year before" is
AHEAD = 8  # H, weeks: two months
HELD_OUT = {"validation": 40 * AHEAD, "test": 72 * AHEAD}  # weeks: six years, and the last eleven
RECENT = 4  # weeks whose rise over a year is taken to last: what came nearest in training


def load_co2() -> Dataset:
    """The carbon dioxide in the air at Mauna Loa, week by week from March 1958 to December 2001.

    Inputs are (N, 52, 2) float32: the last 52 weeks, each beside the week a year before it.
    Targets are (N, 8) float32: the 8 weeks that came next. All are parts per million above the
    mean of the 52 weeks, so nothing later than they is needed to make a forecast.

    Training forecasts weeks up to October 1984, from each week anew; validation those up to
    December 1990, the test the rest, each week once. No target is in two splits; what is shown to
    validation and test reaches back into the years before, as what is known does.

    Of 2,284 weeks 59 were not measured; they lie on a straight line between their neighbours. The
    last is in August 1985: there are none in the test.

    Notes
    -----
    C. D. Keeling and T. P. Whorf, "Atmospheric CO2 concentrations derived from flask air samples
    at sites in the SIO network", 2004 (public domain); as statsmodels ships it.

    Seen first in the experiments.
    """
    from statsmodels.datasets import co2 as packaged

    weeks = torch.tensor(packaged.load_pandas().data["co2"].interpolate().to_numpy())
    test = len(weeks) - HELD_OUT["test"]
    validation = test - HELD_OUT["validation"]
    return Dataset(
        name="co2",
        splits={
            "train": _forecasts(weeks, range(2 * YEAR, validation - AHEAD + 1)),
            "validation": _forecasts(weeks, range(validation, test, AHEAD)),
            "test": _forecasts(weeks, range(test, len(weeks), AHEAD)),
        },
        classes=(),
        origin="flasks of air from Mauna Loa, Hawaii, 1958 to 2001 (Keeling & Whorf, 2004)",
        licence="public domain",
    )


def as_last_year(inputs: Tensor) -> Tensor:
    """The naive forecast, which learns nothing: (N, 52, 2) -> (N, 8).

    Each week is as it was a year before, and as much higher as the last four weeks were. To
    average longer would have suited the years of validation better, and those of the test worse.

    Raises
    ------
    ShapeMismatch
        It takes inputs as `co2` has them.
    """
    if inputs.ndim != 3 or inputs.shape[1:] != (YEAR, 2):
        raise ShapeMismatch(
            f"given weeks of shape {tuple(inputs.shape)}; needed (N, {YEAR}, 2): each beside the "
            "one a year before."
        )
    this_year, last_year = inputs.unbind(-1)  # (N, T) each
    rise = (this_year - last_year)[:, -RECENT:].mean(1, keepdim=True)
    return this_year[:, :AHEAD] + rise  # the week to come and the first that is shown: a year


def _forecasts(weeks: Tensor, firsts: range) -> Split:
    """What is known before each of the first weeks, and what came: (N, T, 2) and (N, H)."""
    first = torch.tensor(firsts).unsqueeze(1)  # (N, 1)
    shown = weeks[first + torch.arange(-YEAR, 0)]  # (N, T)
    before = weeks[first + torch.arange(-2 * YEAR, -YEAR)]
    level = shown.mean(1, keepdim=True)
    inputs = torch.stack([shown - level, before - level], -1)
    return Split(inputs.float(), (weeks[first + torch.arange(AHEAD)] - level).float())
