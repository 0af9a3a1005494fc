"""A model that lives through a drifting world, and a policy that says when to train it again.

Time passes in periods, such as the weeks of a year. In each, examples come that have drifted to
the degree of that period, and the deployed model answers them. Some of them get labels, which
arrive some periods late. At the end of a period, the policy looks at what is known and says
whether to train. Training fine-tunes the deployed model on the latest labels and as many old
examples; the new weights are used from the next period on.

POLICIES     never, monthly, on alarm, continuously
live         one model, one policy
lives        several models and policies on the same streams

Shapes: T periods, n examples per period.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit.core.checks import check_whole
from kit.core.errors import BadValue, UnknownName
from kit.data import Split
from kit.inference import device_of
from kit.inference.evaluation import judge
from kit.monitoring.changes import CHANGES, changed
from kit.monitoring.detectors import choose, find
from kit.monitoring.late_labels import adwin_alarms
from kit.monitoring.living_result import Life, Lives
from kit.monitoring.two_samples import Numbers
from kit.monitoring.views import views_of
from kit.training import step
from kit.training.optimizers import adamw
from kit.workloads.workload import Workload

Views = Mapping[str, Numbers]
Degree = Callable[[int], float]  # the degree of the drift in a period
PERIODS, PER_PERIOD, LABELS = 52, 100, 50  # a year of weeks; predictions and labels of each
WINDOW = 4  # periods whose labels a training uses
UPDATES, BATCH, LR = 40, 32, 1e-3  # of a training; an epoch or several


@dataclass(frozen=True)
class Known:
    """What a policy may look at, at the end of a period."""

    period: int
    since: int  # periods since the last training, this one included
    reference: Views | None  # of the first period after the last training, see `views_of`
    now: Views  # of this period
    # Of all labels that have arrived since the last training.
    errors: Sequence[float] = field(default=(), repr=False)


Policy = Callable[[Known], bool]


def never(known: Known) -> bool:
    """Deploy once, and never train again."""
    return False


def every(periods: int) -> Policy:
    """Train each time this number of periods has passed."""
    check_whole("periods", periods)
    return lambda known: known.since >= periods


def on_alarm(detector: str = "outputs", alpha: float = 0.001, quiet: int = 1) -> Policy:
    """Train if a detector finds a difference from the first period after the last training.

    A test per period is many tests in a year: with alpha=0.001 a year of 52 weeks without drift
    has a false alarm with a probability of 5 %. After a training, `quiet` periods pass in silence.
    """
    (chosen,) = choose([detector], with_model=True)

    def policy(known: Known) -> bool:
        if known.reference is None or known.since <= quiet:
            return False
        generator = np.random.default_rng(known.period)
        (found,) = find([chosen], known.reference, known.now, generator)
        return found.p < alpha

    return policy


def on_errors(rise: float = 0.05, window: int = 200) -> Policy:
    """Train if the latest errors are surely more frequent than the first ones after training.

    The interval of their difference has to lie above 0 and the difference above `rise`.
    """
    from kit.core.statistics import difference, proportion

    def policy(known: Known) -> bool:
        errors = known.errors
        if len(errors) < 2 * window:
            return False
        first, last = errors[:window], errors[-window:]
        change = difference(proportion(sum(last), window), proportion(sum(first), window))
        return change.value > rise and change.low > 0

    return policy


def on_adwin(delta: float = 0.002) -> Policy:
    """Train if ADWIN finds a change in the errors that have arrived since the last training."""
    return lambda known: bool(adwin_alarms(known.errors, delta=delta))


POLICIES: dict[str, Policy] = {
    "never": never,
    "monthly": every(4),
    "on alarm": on_alarm(),
    "continuously": every(1),
}


def live(
    model: nn.Module,
    workload: Workload,
    degree: Degree,
    policy: str | Policy = "on alarm",
    *,
    kind: str = "rotation",
    periods: int = PERIODS,
    per_period: int = PER_PERIOD,
    labels: int = LABELS,
    delay: int = 0,
    seed: int = 0,
) -> Life:
    """Let the model answer a drifting stream, and train it again when the policy says so.

    Parameters
    ----------
    model
        A trained model; the work is done on a copy.
    workload
        Its examples drift. Half of those in "validation" and "test" are answered and scored, and
        the others get labels for training, so no example that was trained on is scored.
    degree
        The degree of the drift in each period, from 0 on.
    policy
        A name in `POLICIES`, or a function of `Known`.
    kind
        A name in `kit.monitoring.CHANGES`.
    periods, per_period
        How long the model lives, and the predictions in each period.
    labels
        Labelled examples of each period, others than those that are scored.
    delay
        After how many periods these labels arrive.
    seed
        Of which examples come. The same seed gives each policy the same stream.

    Explained in the lesson about drift.
    """
    world = World(workload, degree, kind, per_period, labels, seed)
    return _lived(model, world, policy, periods, delay)


class World:
    """The stream: what comes in each period, to be answered, and to be labelled."""

    def __init__(
        self,
        workload: Workload,
        degree: Degree,
        kind: str = "rotation",
        per_period: int = PER_PERIOD,
        labels: int = LABELS,
        seed: int = 0,
    ):
        if kind not in CHANGES:
            raise UnknownName("kind of drift", kind, CHANGES)
        check_whole("per_period", per_period, low=10)
        check_whole("labels", labels)
        self.workload, self.degree, self.kind, self.seed = workload, degree, kind, seed
        self.per_period, self.labels = per_period, labels
        held_out = [workload.data[name] for name in ("validation", "test")]
        inputs, targets = (torch.cat(parts) for parts in zip(*held_out, strict=True))
        if len(inputs) < 20:
            raise BadValue(f"given {len(inputs)} held-out examples; a stream needs at least 20.")
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
        half = len(order) // 2
        self.scored = Split(inputs[order[:half]], targets[order[:half]])
        self.labelled = Split(inputs[order[half:]], targets[order[half:]])
        # Several policies live through the same stream, and trainings share periods: drawn once.
        self.answered, self.to_label = cache(self._answered), cache(self._to_label)

    def _answered(self, period: int) -> Split:
        """The examples that the model answers in this period."""
        return self._drawn(self.scored, self.per_period, 2 * period)

    def _to_label(self, period: int) -> Split:
        """The examples of this period that people label."""
        return self._drawn(self.labelled, self.labels, 2 * period + 1)

    def _drawn(self, pool: Split, n: int, number: int) -> Split:
        seed = 1_000 * self.seed + number
        generator = torch.Generator().manual_seed(seed)
        come = changed(pool, self.kind, self.degree(number // 2), seed)
        order = torch.randperm(len(come.inputs), generator=generator)
        # An example comes twice in a period only if there are too few.
        drawn = order.repeat(-(-n // len(order)))[:n]
        return Split(come.inputs[drawn], come.targets[drawn])


class Deployed:
    """A state of the weights, from the period of its first answers on.

    Many policies look at nothing or little: each part is computed when a policy asks for it.
    """

    def __init__(self, model: nn.Module, world: World, first: int, delay: int):
        self.model, self.world, self.first, self.delay = model, world, first, delay
        self.views = cache(lambda period: views_of(model, world.answered(period).inputs))
        self.late_errors = cache(self._late_errors)

    def known(self, period: int) -> Known:
        """What a policy may look at, at the end of this period."""
        reference = LazyViews(self, self.first) if period > self.first else None
        now, errors = LazyViews(self, period), LazyErrors(self, period)
        return Known(period, period - self.first + 1, reference, now, errors)

    def _late_errors(self, period: int) -> list[float]:
        """Of the labels that arrive in this period; they belong to an earlier one."""
        if period < self.delay:
            return []
        late = self.world.to_label(period - self.delay)
        return list(1 - _scores(self.model, self.world.workload, late))


@dataclass(frozen=True)
class LazyViews(Mapping[str, Numbers]):
    """The views of a period, made when the first is read."""

    deployed: Deployed
    period: int

    def __getitem__(self, view: str) -> Numbers:
        return self.deployed.views(self.period)[view]

    def __iter__(self) -> Iterator[str]:
        return iter(self.deployed.views(self.period))

    def __len__(self) -> int:
        return len(self.deployed.views(self.period))


class LazyErrors(Sequence[float]):
    """The errors of all labels that have arrived with these weights, made when one is read."""

    def __init__(self, deployed: Deployed, period: int):
        self.deployed, self.period = deployed, period

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The errors, in the order in which their labels arrived."""
        periods = range(self.deployed.first, self.period + 1)
        return tuple(chain.from_iterable(map(self.deployed.late_errors, periods)))

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)


def _lived(
    model: nn.Module, world: World, policy: str | Policy, periods: int = PERIODS, delay: int = 0
) -> Life:
    name, decide = _chosen(policy)
    check_whole("periods", periods)
    check_whole("delay", delay, low=0)
    right: list[np.ndarray] = []
    trained_at: list[int] = []
    seconds: list[float] = []
    deployed = Deployed(deepcopy(model), world, 0, delay)
    for period in range(periods):
        right.append(_scores(deployed.model, world.workload, world.answered(period)))
        asked = decide(deployed.known(period))
        if asked and delay <= period < periods - 1:  # after the last period, nobody uses it
            trained = deepcopy(deployed.model)  # what a policy has kept stays true of the old one
            start = time.perf_counter()
            _train_again(trained, world, period - delay)
            seconds.append(time.perf_counter() - start)
            trained_at.append(period)
            deployed = Deployed(trained, world, period + 1, delay)
    degrees = tuple(float(world.degree(period)) for period in range(periods))
    return Life(name, np.stack(right), tuple(trained_at), tuple(seconds), degrees)


def _chosen(policy: str | Policy) -> tuple[str, Policy]:
    """A policy's name and its function."""
    if policy in POLICIES:
        return str(policy), POLICIES[str(policy)]
    if callable(policy):
        return getattr(policy, "__name__", "policy"), policy
    raise UnknownName("policy", policy, POLICIES)


def _scores(model: nn.Module, workload: Workload, examples: Split) -> np.ndarray:
    return judge(model, workload.with_split("test", examples))[1].cpu().numpy()


def _train_again(model: nn.Module, world: World, last: int) -> None:
    """Fine-tune on the labels of the latest periods that have them, and as many old examples."""
    first = max(0, last - WINDOW + 1)
    new = [world.to_label(period) for period in range(first, last + 1)]
    inputs, targets = (torch.cat(parts) for parts in zip(*new, strict=True))
    old = world.workload.data["train"]
    drawn = _draw(len(old.inputs), len(inputs), last)
    examples = Split(
        torch.cat([inputs, old.inputs[drawn]]), torch.cat([targets, old.targets[drawn]])
    )
    optimizer = adamw(model.named_parameters(), lr=LR)
    # The plain loop: `kit.train` would also score, draw and save, which takes longer than this.
    size, home = min(BATCH, len(inputs)), device_of(model)
    epochs = (examples.batches(size, home, 1_000 * last + i) for i in range(UPDATES))
    for batch in islice(chain.from_iterable(epochs), UPDATES):
        step(model, optimizer, *batch, world.workload.loss)


def _draw(n: int, wanted: int, seed: int) -> Tensor:
    return torch.randint(n, (wanted,), generator=torch.Generator().manual_seed(seed))


def lives(
    models: Sequence[nn.Module],
    workload: Workload,
    degree: Degree,
    policies: Mapping[str, str | Policy] | Sequence[str] = tuple(POLICIES),
    **options: Any,
) -> Lives:
    """Each model lives through the same drift under each policy; model i has stream i.

    Parameters
    ----------
    models
        Trained models; several show how much is chance.
    workload, degree
        As for `live`.
    policies
        Names in `POLICIES`, or name -> policy.
    options
        Of `live`: kind, periods, per_period, labels, delay.

    Explained in lesson 13.
    """
    if not models:
        raise BadValue("kit.monitoring.lives: needs at least one trained model.")
    if not isinstance(policies, Mapping):
        policies = {name: name for name in policies}
    length = {name: options.pop(name) for name in ("periods", "delay") if name in options}
    found: dict[str, list[Life]] = {name: [] for name in policies}
    for seed, model in enumerate(models):  # one stream at a time in memory, for all policies
        world = World(workload, degree, seed=seed, **options)
        for name, policy in policies.items():
            found[name].append(_lived(model, world, policy, **length))
    return Lives({name: tuple(each) for name, each in found.items()})
