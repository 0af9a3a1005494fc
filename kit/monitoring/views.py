"""What detectors compare: the numbers that a model makes of each example.

Shapes: N examples, C classes, F numbers of an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, NotEnoughSamples, ShapeMismatch
from kit.data import Split
from kit.data.arguments import check_model
from kit.inference import device_of, predict
from kit.models.custom import output_tensor
from kit.monitoring.two_samples import Numbers, least_examples

LEAST = 10  # examples per side: fewer cannot show how much they vary
BATCH = 256  # examples per prediction: it changes memory and time, not the numbers


def views_of(model: nn.Module | None, inputs: Tensor) -> dict[str, Numbers]:
    """View -> numbers (N, F): what detectors may look at.

    features       the inputs themselves
    outputs        the probability of each class
    confidence     the largest of these probabilities
    embeddings     what the model's last linear layer takes in; without a model, the inputs
    """
    features = inputs.flatten(1).double().cpu().numpy()
    if model is None:
        return {"features": features, "embeddings": features}
    logits, embeddings = logits_and_embeddings(model, inputs)
    probabilities = logits.double().softmax(dim=-1).cpu().numpy()
    return {
        "features": features,
        "outputs": probabilities,
        "confidence": probabilities.max(axis=1, keepdims=True),
        "embeddings": embeddings.double().cpu().numpy(),
    }


def logits_and_embeddings(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The model's logits (N, C), and what its last linear layer takes in (N, F).

    A model without a linear layer, such as an exported one, gives its logits in place of these.
    """
    seen: list[Tensor] = []
    last = last_linear(model)
    hook = last and last.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    try:
        batches = inputs.to(device_of(model)).split(BATCH)
        logits = torch.cat([output_tensor(predict(model, batch), model) for batch in batches])
    finally:
        if hook:
            hook.remove()
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ShapeMismatch(
            f"the model's outputs are {tuple(logits.shape)}; kit.drift needs logits (N, C) of at "
            f"least two classes. For other models, compare inputs: kit.drift(reference, now)."
        )
    rows = torch.cat(seen).flatten(1) if seen else logits
    return logits, rows if len(rows) == len(logits) else logits


def last_linear(model: nn.Module) -> nn.Linear | None:
    """The last linear layer, in the order in which the model lists its parts."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    return layers[-1] if layers else None


# --- Checks, before anything computes ------------------------------------------------------------


def as_examples(name: str, given: Any) -> tuple[Tensor, Tensor | None]:
    """Inputs (N, …), and targets if there are any, of a tensor or a split."""
    inputs, targets = given if isinstance(given, Split) else (given, None)
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if not isinstance(inputs, Tensor) or inputs.ndim < 2:
        shape = f" {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else ""
        raise BadValue(
            f"{name}: given a {type(inputs).__name__}{shape}; needs a tensor of examples (N, …), "
            f"or a split with targets, such as work.data['test']."
        )
    if targets is not None and len(targets) != len(inputs):
        raise ShapeMismatch(
            f"{name}: {len(inputs):,} inputs and {len(targets):,} targets; needs one per input."
        )
    return inputs, targets


def check_pair(reference: Tensor, now: Tensor, alpha: float, tests: int) -> None:
    """Refuse samples that cannot be compared: too few, other shapes, not finite."""
    for name, inputs in {"reference": reference, "now": now}.items():
        if len(inputs) < LEAST:
            raise NotEnoughSamples(
                f"{name} has {_count(len(inputs))}; a p-value needs at least {LEAST} on each side."
            )
        bad = ~torch.isfinite(inputs.flatten(1).float()).all(dim=1)
        if bad.any():
            raise BadValue(
                f"{name}: {int(bad.sum()):,} of {_count(len(inputs))} hold NaN or infinity, the "
                f"first at index {int(bad.nonzero()[0])}. Drop or repair them, and count how "
                f"often it happens: that is drift, too."
            )
    if reference.shape[1:] != now.shape[1:]:
        raise ShapeMismatch(
            f"an example of the reference is {tuple(reference.shape[1:])}, now it is "
            f"{tuple(now.shape[1:])}: prepare both in the same way."
        )
    if len(now) < (least := least_examples(len(reference), tests, alpha)):
        raise NotEnoughSamples(
            f"{_count(len(now))} from now beside {len(reference):,}: for alpha={alpha:g} and "
            f"{tests} tests, not even complete separation would be rare enough. Needs {least:,}."
        )


def check_views(reference: Mapping[str, Numbers], now: Mapping[str, Numbers], view: str) -> None:
    """Refuse a view in which nothing varies, or that holds NaN."""
    pooled = np.concatenate([reference[view], now[view]])
    if not np.isfinite(pooled).all():
        raise BadValue(f"the model's {view} hold NaN or infinity: kit.predict shows for which.")
    if (pooled == pooled[0]).all():
        raise BadValue(
            f"the {view} are constant: all {_count(len(pooled))} have the same numbers, so no test "
            f"can compare them. Check how they were read, or leave this detector out."
        )


def check_targets(name: str, targets: Tensor, classes: int) -> None:
    """Refuse targets that are not classes of the model."""
    if targets.ndim != 1 or targets.is_floating_point():
        raise ShapeMismatch(
            f"{name}: targets {tuple(targets.shape)} of {targets.dtype}; the score needs classes "
            f"(N,) as whole numbers. Give inputs alone to compare without a score."
        )
    unknown = sorted({int(t) for t in targets.unique() if not 0 <= int(t) < classes})
    if unknown:
        raise BadValue(
            f"{name} has the classes {', '.join(map(str, unknown))}; the model knows 0 to "
            f"{classes - 1}. No repair of its weights can add one: train a model with more outputs."
        )


def check_given_model(model: object) -> None:
    """Refuse what is not a model, before it is called."""
    if model is not None:
        check_model("kit.drift", model, "kit.drift(reference, now, model=model)")


def _count(n: int) -> str:
    return f"{n:,} example{'' if n == 1 else 's'}"
