"""How many machines, for how long, for how much: training by a deadline, serving at a pace.

Two ways lead to the rates. A published model is computed: 6 FLOPs per parameter and token of
training, 2 per token of an answer, ÷ a published peak, ÷ the share of it that runs reach. A model
that was measured here has seconds per step and answers per second. The roofline's bound stands
beside both: no machine of this kind is faster.

What is left out: attention, the cache of keys and values, prefill, links between machines.
"""

from __future__ import annotations

import math

from kit.core.checks import check_positive, check_share, is_number
from kit.core.errors import BadValue
from kit.core.statistics import Estimate
from kit.costs.planning_result import Plan, ServingPlan, TrainingPlan
from kit.costs.published import Published, amount, published
from kit.costs.step_cost import StepCost
from kit.measurement import Peaks

STEP_FLOPS, ANSWER_FLOPS = 6, 2  # per parameter and token: forward 2, backward 4
HALF = 2  # bytes of a weight in 16 bits
TRAINING_BYTES = 16  # per parameter: 16-bit weight and gradient, 32-bit weight and two moments
ROOM = 0.8  # of the memory for weights; the rest for what is computed
# Shares of the peak: the range is that of the published runs (`against_published`); of serving, the
# value is DeepSeek's (`kit.published("derived")`), and the range is assumed.
TRAINING_SHARE = (0.14, 0.40, 0.43)
SERVING_SHARE = (0.10, 0.207, 0.40)
Range = float | tuple[float, float, float] | Estimate


def plan(
    model: str | float | StepCost,
    *,
    tokens: float | None = None,
    examples: float | None = None,
    deadline_days: float | None = None,
    users: float | None = None,
    target: float | None = None,
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
        People who use it at the same moment, and what each of them gets: tokens per second, or
        for a `StepCost` answers per second. None: nothing is served.
    per_machine
        Items per second of one machine, if you measured them: within your target of latency.
    machine
        An accelerator with published limits; for a `StepCost` the machine is this one.
    training_share, serving_share
        Of the peak: a number, (low, value, high) or an estimate.
    price_per_hour
        Of one machine, such as `Estimate(2.5, 2.0, 3.0, "USD/h")`. None: as published.
    peaks
        Of this machine, from `kit.peaks`: the bound of a `StepCost`.

    Raises
    ------
    UnknownName, BadValue
        The model or machine is not listed; a number is missing, negative, or a share over 100 %.

    Examples
    --------
    >>> made = plan("llama-2-7b", machine="NVIDIA A100 SXM 80GB", training_share=0.4)
    >>> round(made.training.hours.value), published("llama-2-7b").value("hours")
    (180021, 184320)

    Explained in lesson 14.
    """
    if isinstance(model, StepCost):
        needs = (examples, deadline_days, users, target, per_machine, price_per_hour)
        return _measured(model, *needs, peaks)
    params, computing, tokens, name = _size(model, tokens)
    card = published(machine)
    if card.kind != "accelerator":
        raise BadValue(f"machine={machine!r} is a {card.kind}; needs an accelerator.")
    price = card["price"].estimate if price_per_hour is None and "price" in card else price_per_hour
    training = serving = None
    if tokens is not None:
        flops = STEP_FLOPS * computing * tokens
        hours = flops / card.value("peak") / 3600
        share = _share("training_share", training_share)
        least = math.ceil(params * TRAINING_BYTES / (ROOM * card.value("memory")))
        training = _training(hours / share, hours, least, deadline_days, price)
    if users is not None:
        share = _share("serving_share", serving_share)
        serving = _serving(params, computing, card, share, users, target, per_machine, price)
    if training is None and serving is None:
        raise BadValue("nothing to plan: give tokens for a training, or users and target.")
    basis = f"6 and 2 FLOPs per parameter and token ÷ {amount(card.value('peak'), 'FLOP/s')}"
    return Plan(name, machine, basis, training, serving)


def _size(model: str | float, tokens: float | None) -> tuple[float, float, float | None, str]:
    """All parameters, those that compute a token, tokens of the training, and the name."""
    if tokens is not None:
        tokens = check_positive("tokens", tokens)
    if is_number(model):
        params = check_positive("model", model, "parameters, a number")
        return params, params, tokens, amount(params, "parameters")
    if not isinstance(model, str):
        needs = "the name of a published model, a number of parameters, or a step cost"
        raise BadValue(f"model={model!r}: needs {needs}.")
    card = published(model)
    if card.kind != "model":
        raise BadValue(f"{model!r} is a published {card.kind}; needs a model.")
    own = card.value("tokens") if "tokens" in card else None
    return card.value("params"), card.computing_params, tokens or own, model


def _share(name: str, given: Range) -> Estimate:
    """A share of the peak with its range."""
    if isinstance(given, Estimate):
        low, value, high = given.low, given.value, given.high
    else:
        low, value, high = given if isinstance(given, tuple) else (given,) * 3
    for each in (low, value, high):
        if not check_share(name, each, "a share", hint="Give 0.4 for 40 %."):
            raise BadValue(f"{name}=0: nothing would be computed; needs a share above 0.")
    return Estimate(value, low, high)


def _training(
    hours: Estimate,
    bound: float | None,
    least: int,
    deadline_days: float | None,
    price: Estimate | None,
) -> TrainingPlan:
    """Machines for the deadline: enough at the value of the hours, not at their upper end."""
    machines, hours = least, hours.with_unit("h")
    if deadline_days is not None:
        check_positive("deadline_days", deadline_days, "days, a number")
        machines = max(least, math.ceil(hours.value / (deadline_days * 24)))
    days = (hours / (24 * machines)).with_unit("days")
    return TrainingPlan(hours, bound, machines, least, days, _times(hours, price))


def _serving(
    params: float,
    computing: float,
    card: Published,
    share: Estimate,
    users: float,
    target: float | None,
    per_machine: Estimate | None,
    price: Estimate | None,
) -> ServingPlan:
    """Replicas for users who each get `target` tokens per second."""
    pace = check_positive("target", target, "tokens per second for each user, a number")
    demand = check_positive("users", users) * pace
    weights = HALF * params
    # Memory holds the weights, and reads those that compute once per token: the pace of one user.
    each_token_s = HALF * computing / card.value("bandwidth")
    needed = max(weights / (ROOM * card.value("memory")), pace * each_token_s)
    bound = card.value("peak") / (ANSWER_FLOPS * computing)
    rate = bound * share if per_machine is None else per_machine
    together = math.ceil(needed)
    replicas = math.ceil(demand / (rate.value * together))
    per_day = price and (24 * replicas * together * price).with_unit(price.unit.partition("/")[0])
    return ServingPlan(demand, "tokens", rate, bound, together, replicas, per_day)


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
    peak = peaks and peaks.newest.matmul_flops_per_s.get("float32")
    if examples is not None:
        steps = check_positive("examples", examples) / cost.batch_size
        bound = steps * cost.count.step_flops / peak / 3600 if peak else None
        training = _training(cost.step * (steps / 3600), bound, 1, deadline_days, price)
    if users is not None:
        each = check_positive("target", target, "answers per second for each user, a number")
        demand = check_positive("users", users) * each
        rate = per_machine or cost.batch_size / cost.parts["predict"].median
        flops = cost.inference_count.forward_flops / cost.batch_size
        limit = peak / flops if peak and flops else None
        replicas = math.ceil(demand / rate.value)
        day = price and (24 * replicas * price).with_unit(price.unit.partition("/")[0])
        serving = ServingPlan(demand, "answers", rate, limit, 1, replicas, day)
    if training is None and serving is None:
        raise BadValue("nothing to plan: give examples for a training, or users and target.")
    return Plan(cost.count.model, "this machine", "as measured here", training, serving)


def _times(hours: Estimate, price: Estimate | None) -> Estimate | None:
    """Hours × price per hour: the lowest with the lowest, the highest with the highest."""
    if price is None:
        return None
    currency, _, per = price.unit.partition("/")
    if not currency or per != "h":
        raise BadValue(f"price_per_hour is in {price.unit!r}; needs a currency per hour: 'USD/h'.")
    ends = (hours.low * price.low, hours.high * price.high)
    return Estimate(hours.value * price.value, *ends, currency)
