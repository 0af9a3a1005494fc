"""Carbon dioxide in the air, week by week: the past as inputs, the following weeks as targets.

Shapes: N forecasts, T = 52 weeks of inputs, H = 8 weeks to forecast.
"""

import torch
from torch import Tensor

from kit.core.errors import ShapeMismatch
from kit.data.dataset import Dataset, Split

YEAR = 52  # T, weeks; and how far back "a year before" is
HORIZON = 8  # H, weeks: two months
HELD_OUT = {"validation": 40 * HORIZON, "test": 72 * HORIZON}  # weeks: 6 years, the last 11
RECENT = 4  # weeks over which the rise is averaged; four were best in training


def load_co2() -> Dataset:
    """The carbon dioxide in the air at Mauna Loa, week by week from March 1958 to December 2001.

    Inputs are (N, 52, 2) float32: the last 52 weeks, each with the week a year before it.
    Targets are (N, 8) float32: the 8 weeks that follow. All are parts per million above the mean
    of the 52 weeks, so a forecast needs no later value.

    Training has targets up to October 1984, with a forecast from every week. Validation has those
    up to December 1990 and test the rest, each week once. No target is in two splits. The inputs
    of validation and test reach back into the years before, which are known by then.

    Of 2,284 weeks, 59 were not measured and are interpolated. The last of these is in August
    1985, so there are none in the test.

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
            "train": _forecasts(weeks, range(2 * YEAR, validation - HORIZON + 1)),
            "validation": _forecasts(weeks, range(validation, test, HORIZON)),
            "test": _forecasts(weeks, range(test, len(weeks), HORIZON)),
        },
        classes=(),
        origin="flasks of air from Mauna Loa, Hawaii, 1958 to 2001 (Keeling & Whorf, 2004)",
        licence="public domain",
    )


def seasonal_naive(inputs: Tensor) -> Tensor:
    """The seasonal naive forecast, a baseline without training: (N, 52, 2) -> (N, 8).

    Each week is the week a year before, plus the mean rise of the last four weeks over a year.
    A longer mean would be better in validation and worse in the test.

    Raises
    ------
    ShapeMismatch
        The inputs do not have the shape of those in `load_co2`.
    """
    if inputs.ndim != 3 or inputs.shape[1:] != (YEAR, 2):
        raise ShapeMismatch(
            f"given weeks of shape {tuple(inputs.shape)}; needed (N, {YEAR}, 2): each week with "
            "the one a year before."
        )
    this_year, last_year = inputs.unbind(-1)  # (N, T) each
    rise = (this_year - last_year)[:, -RECENT:].mean(1, keepdim=True)
    return this_year[:, :HORIZON] + rise  # the first input week is a year before the first target


def _forecasts(weeks: Tensor, firsts: range) -> Split:
    """Inputs and targets of a forecast from each of these weeks: (N, T, 2) and (N, H)."""
    first = torch.tensor(firsts).unsqueeze(1)  # (N, 1)
    shown = weeks[first + torch.arange(-YEAR, 0)]  # (N, T)
    before = weeks[first + torch.arange(-2 * YEAR, -YEAR)]
    level = shown.mean(1, keepdim=True)
    inputs = torch.stack([shown - level, before - level], -1)
    return Split(inputs.float(), (weeks[first + torch.arange(HORIZON)] - level).float())
