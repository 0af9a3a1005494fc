"""How many machines, for how long, for how much: training by a deadline, serving at a pace.

Two ways lead to the rates. A published model is computed: training by 6 FLOPs per parameter and
token, serving by the bytes and FLOPs of a token (`planning_serving`), each ÷ a published limit, ÷
the share of it that published runs reach. A model that was measured here has seconds per step and
answers per second. The roofline's bound stands beside both: no machine of this kind is faster.

What is left out: FLOPs of attention, links between machines, hours without demand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kit.core.checks import check_positive, check_share, is_number
from kit.core.errors import BadValue
from kit.core.statistics import Estimate
from kit.costs.planning_result import Plan, ServingPlan, TrainingPlan
from kit.costs.planning_serving import Replica, replica_of, seconds_for
from kit.costs.published import Published, amount, published
from kit.costs.step_cost import StepCost
from kit.measurement import Peaks

STEP_FLOPS = 6  # per parameter and token: forward 2, backward 4
TRAINING_BYTES = 16  # per parameter: 16-bit weight and gradient, 32-bit weight and two moments
# Read and written in a step, per parameter: the weight in forward and backward (4), the gradient
# written and read (4), 32-bit weight and moments read and written (24), the new weight written (2).
MOVED_BYTES = 34
ROOM = 0.8  # of the memory for these states; the rest for activations
BATCH_TOKENS = 4e6  # of a training step, as large models are trained
PROMPT, NEW = 1000, 200  # tokens of a question with its history, and of its answer: assumed
# Shares of the roofline's bound: the ranges are those of the published runs (`planning_check`).
TRAINING_SHARE = (0.14, 0.40, 0.43)
SERVING_SHARE = (0.53, 0.70, 0.81)
MOST_MACHINES = 256  # of a replica
Range = float | tuple[float, float, float] | Estimate


def plan(
    model: str | float | StepCost,
    *,
    tokens: float | None = None,
    examples: float | None = None,
    deadline_days: float | None = None,
    users: float | None = None,
    target: float | None = None,
    prompt_tokens: float = PROMPT,
    new_tokens: float = NEW,
    cache_per_token: float | None = None,
    per_machine: Estimate | None = None,
    machine: str = "NVIDIA H100 SXM",
    training_share: Range = TRAINING_SHARE,
    serving_share: Range = SERVING_SHARE,
    price_per_hour: Estimate | None = None,
    peaks: Peaks | None = None,
) -> Plan:
    """How many machines a training needs by a deadline, and how many serve users at a pace.

    Parameters
    ----------
    model
        The name of a published model; a number of parameters; or a `StepCost` measured here.
    tokens, examples
        What it is trained on: tokens, or for a `StepCost` examples. None: as published.
    deadline_days
        When the training has to end. None: on as few machines as its memory needs.
    users, target
        People who use it at the same moment, and what each of them gets: tokens per second (1 ÷
        TPOT), or for a `StepCost` answers per second. None: nothing is served.
    prompt_tokens, new_tokens
        Of a question with its history, and of its answer. They decide the cache and the prefill.
    cache_per_token
        Bytes of keys and values. None: as published; if nothing is published, it is not counted.
    per_machine
        Items per second of one machine, if you measured them: within your target of latency.
    machine
        An accelerator with published limits; for a `StepCost` the machine is this one.
    training_share, serving_share
        Of the roofline's bound: a number, (low, value, high) or an estimate.
    price_per_hour
        Of one machine, such as `Estimate(2.5, 2.0, 3.0, "USD/h")`. None: as published.
    peaks
        Of this machine, from `kit.peaks`: the bound of a `StepCost`.

    Raises
    ------
    UnknownName, BadValue
        The model or machine is not listed; a number is missing, negative, or a share over 100 %;
        no number of machines serves at that pace.

    Examples
    --------
    >>> made = plan("llama-2-7b", machine="NVIDIA A100 SXM 80GB", training_share=0.4)
    >>> round(made.training.hours.value), published("llama-2-7b").value("hours")
    (180021, 184320)
    >>> served = plan("llama-3.1-8b", users=1000, target=20).serving
    >>> served.machines, served.binds
    (4, 'FLOPs: prompts')

    Explained in lesson 14.
    """
    item = "examples" if isinstance(model, StepCost) else "tokens"
    wrong = "tokens" if item == "examples" else "examples"
    if (tokens if wrong == "tokens" else examples) is not None:
        raise BadValue(f"{wrong} were given; needs {item}: that is what this model learns from.")
    if target is not None and users is None:
        raise BadValue(f"target={target!r} without users; needs both to plan the serving.")
    _check_estimate("per_machine", per_machine, "answers/s" if item == "examples" else "tokens/s")
    _check_estimate("price_per_hour", price_per_hour, "USD/h")
    if isinstance(model, StepCost):
        needs = (examples, deadline_days, users, target, per_machine, price_per_hour)
        return _measured(model, *needs, peaks)
    size = _size(model, tokens, cache_per_token)
    card = published(machine)
    if card.kind != "accelerator":
        raise BadValue(f"machine={machine!r} is a {card.kind}; needs an accelerator.")
    price = card["price"].estimate if price_per_hour is None and "price" in card else price_per_hour
    training = serving = None
    if size.tokens is not None:
        share = _share("training_share", training_share)
        training = _training(size, size.tokens, card, share, deadline_days, price)
    if users is not None:
        share = _share("serving_share", serving_share)
        demand = _demand(users, target, "tokens")
        texts = (check_positive("prompt_tokens", prompt_tokens),
                 check_positive("new_tokens", new_tokens))  # fmt: skip
        serving = _serving(size, texts, card, share, demand, per_machine, price)
    if training is None and serving is None:
        raise BadValue("nothing to plan: give tokens for a training, or users and target.")
    cache = "" if size.cache or serving is None else "; its cache is unknown and not counted"
    limits = f"{amount(card.value('peak'), 'FLOP/s')}, {amount(card.value('bandwidth'), 'B/s')}"
    ridge = card.value("peak") / card.value("bandwidth")
    return Plan(size.name, machine, f"published limits: {limits}{cache}", training, serving, ridge)


@dataclass(frozen=True)
class Size:
    """What of a model decides its machines."""

    name: str
    params: float
    computing: float  # parameters that compute a token
    tokens: float | None  # of its training
    cache: float | None  # bytes of keys and values per token


def _size(model: str | float, tokens: float | None, cache: float | None) -> Size:
    """From a published name, or a number of parameters."""
    if tokens is not None:
        tokens = check_positive("tokens", tokens)
    if cache is not None:
        cache = check_positive("cache_per_token", cache, "bytes, a number")
    if is_number(model):
        params = check_positive("model", model, "parameters, a number")
        return Size(amount(params, "parameters"), params, params, tokens, cache)
    if not isinstance(model, str):
        needs = "the name of a published model, a number of parameters, or a step cost"
        raise BadValue(f"model={model!r}: needs {needs}.")
    card = published(model)
    if card.kind != "model":
        raise BadValue(f"{model!r} is a published {card.kind}; needs a model.")
    tokens = tokens or (card.value("tokens") if "tokens" in card else None)
    cache = cache or (card.value("cache_per_token") if "cache_per_token" in card else None)
    return Size(model, card.value("params"), card.computing_params, tokens, cache)


def _share(name: str, given: Range) -> Estimate:
    """A share of the bound with its range."""
    ends: tuple[Any, ...]
    if isinstance(given, Estimate):
        ends = given.low, given.value, given.high
    else:
        ends = tuple(given) if isinstance(given, (tuple, list)) else (given,) * 3
    for each in ends:
        if not check_share(name, each, "a share", hint="Give 0.4 for 40 %."):
            raise BadValue(f"{name}=0: nothing would be computed; needs a share above 0.")
    if len(ends) != 3 or not ends[0] <= ends[1] <= ends[2]:
        raise BadValue(f"{name}={given!r}: needs a share, or (low, value, high) in this order.")
    return Estimate(ends[1], ends[0], ends[2])


def _check_estimate(name: str, given: Estimate | None, units: str) -> None:
    """Refuse a value that is not an estimate above 0 in one of these units."""
    example = f"Estimate(2.5, 2.0, 3.0, {units.partition(' or ')[0]!r})"
    if given is None:
        return
    if not isinstance(given, Estimate):
        raise BadValue(f"{name}={given!r}: needs an estimate with its unit, such as {example}.")
    if not 0 < given.low <= given.value <= given.high < math.inf:
        raise BadValue(f"{name}={given!r}: needs numbers above 0, the low end first.")
    if units and name == "per_machine" and given.unit not in ("", *units.split(" or ")):
        raise BadValue(f"{name} is in {given.unit!r}; needs {units}.")


def _demand(users: float, target: float | None, item: str) -> tuple[float, float]:
    """Items per second of all users, and of each."""
    each = check_positive("target", target, f"{item} per second for each user, a number")
    return check_positive("users", users) * each, each


def _training(
    size: Size,
    tokens: float,
    card: Published,
    share: Estimate,
    deadline_days: float | None,
    price: Estimate | None,
) -> TrainingPlan:
    """Of a published model: by its FLOPs, or by the bytes of its states if they took longer."""
    flops, moved = STEP_FLOPS * size.computing, MOVED_BYTES * size.params / BATCH_TOKENS
    flops_s, moved_s = flops / card.value("peak"), moved / card.value("bandwidth")
    bound = 1 / max(flops_s, moved_s)
    held = TRAINING_BYTES * size.params
    least = math.ceil(held / (ROOM * card.value("memory")))
    hours = (tokens / bound / 3600) / share
    machines, days, cost = _fleet(hours, least, deadline_days, price)
    binds = "FLOPs" if flops_s >= moved_s else "memory's rate: the optimizer's states"
    rate = (bound * share).with_unit("tokens/s")
    return TrainingPlan("tokens", tokens, hours.with_unit("h"), rate, bound, binds, flops / moved,
                        held, machines, least, days, cost)  # fmt: skip


def _fleet(
    hours: Estimate, least: int, deadline_days: float | None, price: Estimate | None
) -> tuple[int, Estimate, Estimate | None]:
    """Machines for the deadline: enough at the value of the hours, not at their upper end."""
    machines = least
    if deadline_days is not None:
        check_positive("deadline_days", deadline_days, "days, a number")
        machines = max(least, math.ceil(hours.value / (deadline_days * 24)))
    days = (hours / (24 * machines)).with_unit("days")
    return machines, days, _times(hours, price)


def _serving(
    size: Size,
    texts: tuple[float, float],
    card: Published,
    share: Estimate,
    demand: tuple[float, float],
    per_machine: Estimate | None,
    price: Estimate | None,
) -> ServingPlan:
    """Replicas for users who each get `target` tokens per second: the fewest machines."""
    all_users, pace = demand
    best: tuple[int, Replica, int, str] | None = None
    most_s = seconds_for(pace, share.value)
    for machines in _replica_sizes(size, texts, card, most_s):
        replica = replica_of(size.params, size.computing, size.cache, *texts, machines, card)
        batch, stops = replica.best_batch(most_s)
        rate = batch / replica.token(batch).seconds * share.value
        if per_machine is not None:
            rate = per_machine.value * machines
        replicas = math.ceil(all_users / rate)
        if best is None or replicas * machines < best[0] * best[1].machines:
            best = replicas, replica, batch, stops
    assert best is not None
    replicas, replica, batch, stops = best
    token = replica.token(batch)
    bound = batch / token.seconds / replica.machines
    reach = bound * share if per_machine is None else per_machine
    each = share / token.seconds  # tokens per second of one text
    moved = (token.weights_s + token.cache_s) * card.value("bandwidth")
    computed = (token.flops_s + token.prompts_s) * card.value("peak")
    return ServingPlan(
        "tokens", all_users, reach.with_unit("tokens/s"), bound, token.shares, computed / moved,
        replica.weight_bytes, replica.cache_bytes(batch), replica.machines, replicas,
        _per_day(replicas * replica.machines, price), batch, stops, each.with_unit("tokens/s"),
    )  # fmt: skip


def _replica_sizes(
    size: Size, texts: tuple[float, float], card: Published, most_s: float
) -> list[int]:
    """Machines of a replica to try: the least that serve one text, and twice as many."""
    for machines in range(1, MOST_MACHINES + 1):
        replica = replica_of(size.params, size.computing, size.cache, *texts, machines, card)
        if replica.best_batch(most_s)[0]:
            return [machines, 2 * machines]  # links are left out, so more would look too good
    raise BadValue(
        f"no replica of up to {MOST_MACHINES} × {card.name} holds {size.name} and gives a text its "
        f"pace. Give a smaller model, shorter texts, or a lower target."
    )


def _measured(
    cost: StepCost,
    examples: float | None,
    deadline_days: float | None,
    users: float | None,
    target: float | None,
    per_machine: Estimate | None,
    price: Estimate | None,
    peaks: Peaks | None,
) -> Plan:
    """The plan of a model whose step and prediction were timed on this machine."""
    training = serving = None
    if examples is not None:
        training = _measured_training(cost, examples, deadline_days, price, peaks)
    if users is not None:
        demand, _ = _demand(users, target, "answers")
        serving = _measured_serving(cost, demand, per_machine, price, peaks)
    if training is None and serving is None:
        raise BadValue("nothing to plan: give examples for a training, or users and target.")
    ridge = peaks.newest.ridge() if peaks else None
    return Plan(cost.count.model, "this machine", "as measured here", training, serving, ridge)


def _measured_training(
    cost: StepCost,
    examples: float,
    deadline_days: float | None,
    price: Estimate | None,
    peaks: Peaks | None,
) -> TrainingPlan:
    """Steps × their measured time."""
    steps = check_positive("examples", examples) / cost.batch_size
    hours = cost.step * (steps / 3600)
    bound, binds = _bound(cost.count.step_work, cost.batch_size, peaks)
    machines, days, money = _fleet(hours, 1, deadline_days, price)
    rate = (cost.batch_size / cost.step).with_unit("examples/s")
    intensity = cost.count.step_flops / cost.count.step_moved_bytes
    held = cost.count.training_bytes
    return TrainingPlan("examples", examples, hours.with_unit("h"), rate, bound, binds, intensity,
                        held, machines, 1, days, money)  # fmt: skip


def _measured_serving(
    cost: StepCost,
    demand: float,
    per_machine: Estimate | None,
    price: Estimate | None,
    peaks: Peaks | None,
) -> ServingPlan:
    """Predictions of a batch, at their measured rate."""
    rate = per_machine or (cost.batch_size / cost.parts["predict"].median).with_unit("answers/s")
    count = cost.inference_count
    predict = count.phases["predict"]
    bound, binds = _bound([(predict.flops, predict.moved_bytes)], cost.batch_size, peaks)
    replicas = math.ceil(demand / rate.value)
    shares = {binds: 1.0} if binds else {}
    intensity = predict.flops / predict.moved_bytes
    return ServingPlan("answers", demand, rate, bound, shares, intensity, count.inference_bytes,
                       None, 1, replicas, _per_day(replicas, price), cost.batch_size)  # fmt: skip


def _bound(
    work: list[tuple[int, int]], batch_size: int, peaks: Peaks | None
) -> tuple[float | None, str]:
    """Items per second that this machine cannot exceed, and what it is that binds them."""
    if peaks is None or "float32" not in peaks.newest.matmul_flops_per_s:
        return None, ""
    best = peaks.newest
    bound_s = sum(best.bound_s(*phase) for phase in work)
    flops_s = sum(flops for flops, _ in work) / best.matmul_flops_per_s["float32"]
    return batch_size / bound_s, "FLOPs" if flops_s >= bound_s / 2 else "memory's rate"


def _per_day(machines: int, price: Estimate | None) -> Estimate | None:
    """What these machines cost in a day."""
    return _times(Estimate.of(24.0 * machines), price)


def _times(hours: Estimate, price: Estimate | None) -> Estimate | None:
    """Hours × price per hour: the lowest with the lowest, the highest with the highest."""
    if price is None:
        return None
    currency, _, per = price.unit.partition("/")
    if not currency or per != "h":
        raise BadValue(f"price_per_hour is in {price.unit!r}; needs a currency per hour: 'USD/h'.")
    ends = (hours.low * price.low, hours.high * price.high)
    return Estimate(hours.value * price.value, *ends, currency)
