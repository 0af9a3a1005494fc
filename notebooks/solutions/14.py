"""Solutions of lesson 14, one cell per exercise."""

# %% 14-days
answers = 40 * 3600 * 5  # in the time of the training
kit.check("14-days", answers / 20_000)

# %% 14-waiting
busy_s = 20_000 / 5  # of the day
kit.check("14-waiting", 86_400 / busy_s)

# %% 14-growth
import math


def days(training, answer, per_day, growth):
    if per_day == 0:
        return math.inf
    if growth < 0 and per_day * answer / -growth <= training:  # the sum of all days
        return math.inf
    spent, today, day = 0.0, per_day, 0
    while spent < training:
        spent, today, day = spent + today * answer, today * (1 + growth), day + 1
    return day


kit.check("14-growth", days)
