"""Whether a training that goes on is the one that was kept: same data, model, weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from torch import Tensor, nn, optim

from kit.checkpoints import weights_of
from kit.core import tensor_files
from kit.core.errors import BadValue, KitError
from kit.data import Task
from kit.data.fingerprints import fingerprint, metric_fingerprints, qualified_name, same_metric

DIFFERS = "To start from its weights instead: kit.load(path, model=model), then train without it"
LATER = ("frozen weights", "loss", "module classes", "score")  # older kits did not note these
HOW = ("fused", "foreign", "capturable")  # an optimizer computes, not what
NEWER = ("param_names", "maximize", "decoupled_weight_decay")  # older PyTorch did not keep these


def weights_now(model: nn.Module) -> str:
    """A digest of all its weights and persistent buffers, as they are now."""
    weights, _ = weights_of(model)
    plain = {name: tensor_files.plainly(value) for name, value in weights.items()}
    return tensor_files.digest(plain)[:16]


def made_of(model: nn.Module, workload: Task) -> dict[str, str]:
    """What must be the same when a training goes on: the layers, and the data it learns from.

    The layers count with names, shapes, dtypes, shared weights, and what their `repr` says of
    their options; not with where in memory something lies.
    """
    weights, shared = weights_of(model)
    sizes = [f"{name} {value.dtype} {tuple(value.shape)}" for name, value in weights.items()]
    layers = [f"{type(part).__name__} {part!r}" for part in model.modules() if not _parts(part)]
    text = re.sub(r" at 0x[0-9a-f]+", "", repr((sizes, sorted(shared.items()), layers)))
    layers_digest = sha256(text.encode()).hexdigest()[:16]
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    return {
        "architecture": layers_digest,
        "frozen weights": _brief(frozen, frozen) if frozen else "none",
        "module classes": _classes(model),
        **metric_fingerprints(workload),
        **fingerprint(workload),
    }


def _classes(model: nn.Module) -> str:
    each = [(name, qualified_name(type(part))) for name, part in model.named_modules()]
    return _brief(dict.fromkeys(kind for _, kind in each), each)


def _brief(shown: Iterable[str], digested: list[Any]) -> str:
    """The first of these, and a digest of all."""
    names = list(shown)
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    digest = sha256(repr(digested).encode()).hexdigest()[:16]
    return f"{', '.join(names[:3])}{more} ({digest})"


def options_of(optimizer: optim.Optimizer) -> list[dict[str, str]]:
    """Of each group of weights the options in words; of a new optimizer those it was made with."""
    apart = {"params", "param_names", *HOW, *NEWER}
    groups = optimizer.param_groups
    return [{n: repr(value) for n, value in group.items() if n not in apart} for group in groups]


def check_options(kept: dict[str, Any], mine: list[dict[str, str]]) -> None:
    """Refuse an optimizer that was made with other options than the one that was kept."""
    for given, found in zip(mine, kept.get("options", mine), strict=False):
        for name in sorted(set(given) & set(found)):
            if given[name] != found[name]:
                raise BadValue(
                    f"cannot resume: the optimizer has {name}={given[name]:.80}; the run to go on "
                    f"with has {name}={found[name]:.80}. Use that, or start a new training."
                )


def _parts(part: nn.Module) -> bool:
    return next(part.children(), None) is not None


@contextmanager
def understood() -> Iterator[None]:
    """Within, a state of nonsense is a refusal in a line, whatever it was noticed by."""
    try:
        yield
    except KitError:
        raise
    except tensor_files.ODD as error:
        told = tensor_files.brief(f"{type(error).__name__}: {error}")
        raise BadValue(f"cannot resume: kit.train did not keep this state so ({told}).") from error


def check_same(kept: dict[str, Any], mine: dict[str, str]) -> None:
    """Refuse another model or other data than a state was kept with.

    Raises
    ------
    BadValue
        What differs, and what to do.
    """
    found = kept.get("made of")
    if found is None:
        warnings.warn(
            "this training was kept by an older kit, which did not note its data and weights: "
            "nobody has checked that they are the same now.",
            stacklevel=6,
        )
        return
    for name in sorted({*mine, *found}, key=lambda name: (name in LATER, name)):
        if name in LATER and name not in found:
            continue
        if name in ("loss", "score") and same_metric(found[name], mine.get(name, "")):
            continue
        if mine.get(name) != found.get(name):
            several = name.endswith(("classes", "weights"))
            raise BadValue(
                f"cannot resume: the {name} differ{'' if several else 's'} from the run to go on "
                f"with ({found.get(name)}; given {mine.get(name)}). Use the same, or another path "
                f"for a new training. {DIFFERS}."
            )


def check_weights(kept: dict[str, Any], given: str) -> None:
    """Refuse to go on with `resume=` from other weights than those that the state belongs to."""
    if given != kept.get("weights", given):
        raise BadValue(
            "cannot resume: the model has other weights than the run to go on with had at its "
            "end. A state holds no weights: give the model that was trained, or fill this one by "
            "kit.load(path, model=model)."
        )


def warn_of_weights(kept: dict[str, Any], given: str) -> None:
    """Say that a checkpoint replaces weights which this training has never had."""
    if given not in (kept.get("start", given), kept.get("weights", given)):
        warnings.warn(
            "the model had other weights than the training in the checkpoint began with; it goes "
            "on from those in the checkpoint. Use another path to train from the model as given, "
            "or seed it as before (kit.devices.seed).",
            stacklevel=6,
        )


def check_optimizer(state: dict[str, Any], optimizer: optim.Optimizer) -> None:
    """Refuse a state that does not fit the weights: fused optimizers write where it says.

    Raises
    ------
    BadValue
        Other groups, options of another kind, or tensors of another size than their weight.
    """
    own = optimizer.state_dict()["param_groups"]
    given = state["param_groups"]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    sizes = [group["params"] for group in own] == [group["params"] for group in given]
    if not sizes or not set(state["state"]) <= set(range(len(weights))):
        raise BadValue("cannot resume: its optimizer moved other weights than this model has.")
    for mine, kept in zip(own, given, strict=True):
        if missing := set(mine) - set(kept) - {*HOW, *NEWER}:
            raise BadValue(f"cannot resume: its optimizer has no {min(missing)!r}.")
        for name in set(mine) & set(kept) - {"params", "param_names"}:
            how = name in HOW and kept[name] in (None, True, False)
            if not how and not _alike(mine[name], kept[name]):
                raise BadValue(f"cannot resume: its optimizer has {name}={kept[name]!r:.80}.")
    for group in given:
        names = {frozenset(state["state"][i]) for i in group["params"] if i in state["state"]}
        if len(names) > 1:
            raise BadValue("cannot resume: its optimizer keeps more of one weight than of another.")
    fused = any(group.get("fused") for group in (*own, *given))
    for i, kept in state["state"].items():
        for name, value in kept.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if not fused or shape == tuple(weights[i].shape):
                continue
            if not (name == "step" and shape in ((), (1,))):
                told = f"{name!r} of shape {shape} for a weight "
                raise BadValue(f"cannot resume: it has {told}{tuple(weights[i].shape)}.")


def _alike(mine: Any, kept: Any) -> bool:
    """Whether it can stand for the other: a number for a number, as many for as many."""
    if isinstance(mine, (list, tuple)):
        same = isinstance(kept, (list, tuple)) and len(mine) == len(kept)
        return same and all(map(_alike, mine, kept))
    if isinstance(mine, bool):  # it decides what is kept of each weight
        return mine is kept
    if isinstance(mine, (int, float, Tensor)):
        if isinstance(kept, Tensor) != isinstance(mine, Tensor):
            return False
        single = isinstance(kept, (int, float)) or getattr(kept, "numel", int)() == 1
        return single and bool(abs(kept) < 1e30)
    return type(mine) is type(kept)
