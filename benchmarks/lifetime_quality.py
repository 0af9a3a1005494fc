"""Is the planner right about what others published, and do break-even intervals cover the truth?

python benchmarks/lifetime_quality.py          simulate, and store the coverage
python benchmarks/lifetime_quality.py table    print the tables of docs/results.md

Nothing is timed. Known rates are "measured" again and again with noise, as a lesson measures them:
a training and an answer, each as the mean of what follows each other.
"""

import json
import sys
from collections.abc import Sequence

import numpy as np
from keeping import RESULTS, keep

import kit
from kit.core.statistics import mean_of_stretches, proportion
from kit.costs.planning_check import against_published, serving_against_published

TRIALS = 400
TRAINING_S, ANSWER_S, PER_DAY = 3600.0, 0.1, 1_000.0
TRUTH_DAYS = TRAINING_S / ANSWER_S / PER_DAY
MACHINES = {  # how long a slow moment lasts, in calls; 0: none
    "independent times": 0,
    "slow moments of 2 calls": 2,
    "slow moments of 5 calls": 5,
    "slow moments of 12 calls, as long as a stretch": 12,
}


def times(generator: np.random.Generator, slow: int, n: int = 60) -> np.ndarray:
    """Times of n calls around 1: noise, and slow moments that take a quarter of the time."""
    noise = generator.lognormal(-0.005, 0.1, n)
    if not slow:
        return noise
    states: list[bool] = []
    while len(states) < n:
        at = bool(generator.random() < 0.25) if not states else not states[-1]
        states += [at] * int(generator.geometric(1 / (slow if at else 3 * slow)))
    return noise * np.where(states[:n], 1.4, 1.0) / 1.1


def coverage(slow: int) -> list[int]:
    """How many intervals hold the true break-even, and how many are known."""
    generator, held, known = np.random.default_rng(slow), 0, 0
    for _ in range(TRIALS):
        training = TRAINING_S * mean_of_stretches(times(generator, slow))
        answer = ANSWER_S * mean_of_stretches(times(generator, slow))
        given = training.with_unit("s"), answer.with_unit("s")
        days = kit.lifetime(*given, answers_per_day=PER_DAY).break_even("time").days
        known += days.high < float("inf")
        held += days.low <= TRUTH_DAYS <= days.high
    return [held, known]


def simulate() -> None:
    """Store how often the intervals hold the truth."""
    found = {name: coverage(slow) for name, slow in MACHINES.items()}
    keep("lifetime_quality", trials=TRIALS, held_known=found)


def markdown(header: tuple[str, ...], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines: list[Sequence[str]] = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables() -> str:
    """Published trainings, published services, and the coverage of break-evens."""
    trained, served = against_published(), serving_against_published()
    stored = json.loads((RESULTS / "lifetime_quality.json").read_text(encoding="utf-8"))
    rows = [
        (name, str(proportion(held, stored["trials"])), f"{known / stored['trials']:.0%}")
        for name, (held, known) in stored["held_known"].items()
    ]
    parts = (
        markdown(("training", *trained.table().header[1:]), list(trained.table().rows)),
        f"{trained!r}.",
        markdown(("service", *served.table().header[1:]), list(served.table().rows)),
        f"{served!r}.",
        markdown(("the machine has", "intervals that hold the truth", "known"), rows),
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        print(tables())
    else:
        simulate()
