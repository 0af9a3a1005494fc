"""Whether a training that goes on is the one that was saved: same data, model and weights.

A checkpoint that is continued with other data or another loss gives a result that nobody could
explain later. So a state carries fingerprints, and each difference is an error in one line.
"""

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
LATER = ("frozen weights", "loss", "module classes", "score")  # older kits did not save these
FRESH = "Use an earlier checkpoint, or train from the start."
HOW = ("fused", "foreign", "capturable")  # how an optimizer computes; the result is the same
NEWER = ("param_names", "maximize", "decoupled_weight_decay")  # older PyTorch did not save these


def weights_now(model: nn.Module) -> str:
    """A digest of all weights and persistent buffers, as they are now."""
    weights, _ = weights_of(model)
    plain = {name: tensor_files.plain_tensor(value) for name, value in weights.items()}
    # 64 bits: enough to notice a mistake, not to stop an attacker.
    return tensor_files.digest(plain)[:16]


def made_of(model: nn.Module, workload: Task) -> dict[str, str]:
    """What must be the same when a training goes on: the layers, and the data they learn from.

    Of the layers: names, shapes, dtypes, shared weights, and the options that `repr` shows. Memory
    addresses in a `repr` are left out, since they differ from process to process.
    """
    weights, shared = weights_of(model)
    sizes = [f"{name} {value.dtype} {tuple(value.shape)}" for name, value in weights.items()]
    # Leaves only: a container's `repr` repeats those of its children.
    layers = [f"{type(part).__name__} {part!r}" for part in model.modules() if not _parts(part)]
    text = re.sub(r" at 0x[0-9a-f]+", "", repr((sizes, sorted(shared.items()), layers)))
    layers_digest = sha256(text.encode()).hexdigest()[:16]
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    return {
        "architecture": layers_digest,
        "frozen weights": _brief(frozen, frozen) if frozen else "none",
        "module classes": _classes(model),
        # Another loss or other data fit every shape: without fingerprints, nobody would notice.
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
    """The options of each group of weights, as text."""
    left_out = {"params", "param_names", *HOW, *NEWER}
    groups = optimizer.param_groups
    # As text, so that numbers, tuples and None compare alike, and a file can hold them.
    return [{n: repr(v) for n, v in group.items() if n not in left_out} for group in groups]


def check_options(saved: dict[str, Any], mine: list[dict[str, str]]) -> None:
    """Refuse an optimizer that was made with other options than the saved one."""
    # strict=False: `check_optimizer` has refused another number of groups with a better message.
    for given, found in zip(mine, saved.get("options", mine), strict=False):
        # Common names only: another version of PyTorch may add or drop an option.
        for name in sorted(set(given) & set(found)):
            if given[name] != found[name]:
                raise BadValue(
                    f"cannot resume: the optimizer has {name}={given[name]:.80}; the saved "
                    f"training has {name}={found[name]:.80}. Use that, or start a new training."
                )


def _parts(part: nn.Module) -> bool:
    return next(part.children(), None) is not None


@contextmanager
def one_line_refusals() -> Iterator[None]:
    """Within, whatever error a damaged state causes becomes a `BadValue` of one line."""
    try:
        yield
    # First, since most kit errors are also a ValueError or the like, and already say what to do.
    except KitError:
        raise
    except tensor_files.MALFORMED as error:
        reason = tensor_files.one_line(f"{type(error).__name__}: {error}")
        raise BadValue(
            f"cannot resume: the state is damaged, or was not written by kit.train ({reason}). "
            f"Give the `.state` of a history or a checkpoint."
        ) from error


def check_same(saved: dict[str, Any], mine: dict[str, str]) -> None:
    """Refuse another model or other data than those of the saved training.

    Raises
    ------
    BadValue
        What differs, and what to do.
    """
    found = saved.get("made of")
    if found is None:
        warnings.warn(
            "this training was saved by an older kit, which did not save fingerprints of data and "
            "weights. So nothing has checked that they are the same now.",
            stacklevel=7,
        )
        return
    # What every kit has saved comes first, and what only newer ones save (LATER) after it.
    for name in sorted({*mine, *found}, key=lambda name: (name in LATER, name)):
        if name in LATER and name not in found:
            continue
        if name in ("loss", "score") and same_metric(found[name], mine.get(name, "")):
            continue
        if mine.get(name) != found.get(name):
            several = name.endswith(("classes", "weights"))
            raise BadValue(
                f"cannot resume: the {name} differ{'' if several else 's'} from the saved training "
                f"({found.get(name)}; given {mine.get(name)}). Use the same, or another path "
                f"for a new training. {DIFFERS}."
            )


def check_weights(saved: dict[str, Any], given: str) -> None:
    """Refuse to go on with `resume=` from other weights than those that the state belongs to."""
    if given != saved.get("weights", given):
        raise BadValue(
            "cannot resume: the model has other weights than the saved training had at its end. "
            "A state holds no weights. Give the model that was trained, or fill this one with "
            "kit.load(path, model=model)."
        )


def warn_of_weights(saved: dict[str, Any], given: str) -> None:
    """Warn that a checkpoint replaces weights which its training has never had."""
    if given not in (saved.get("start", given), saved.get("weights", given)):
        warnings.warn(
            "the model had other weights than the training in the checkpoint began with; the "
            "training goes on from the weights in the checkpoint. Use another path to train from "
            "the model as given, or seed it as before (kit.devices.seed).",
            stacklevel=6,
        )


def check_optimizer(state: dict[str, Any], optimizer: optim.Optimizer) -> None:
    """Refuse a state that does not fit the optimizer's weights.

    A fused optimizer trusts the sizes in its state and writes outside its memory if they are wrong.

    Raises
    ------
    BadValue
        Other groups, options of another type, or tensors of another size than their weight.
    """
    own = optimizer.state_dict()["param_groups"]
    given = state["param_groups"]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    # In a state, a weight is a number: its index over all groups, counted from 0.
    same_groups = [group["params"] for group in own] == [group["params"] for group in given]
    if not same_groups or not set(state["state"]) <= set(range(len(weights))):
        raise BadValue(f"cannot resume: the saved optimizer moved other weights. {FRESH}")
    for mine, saved in zip(own, given, strict=True):
        _check_group(mine, saved)
    for group in given:
        names = {frozenset(state["state"][i]) for i in group["params"] if i in state["state"]}
        if len(names) > 1:
            raise BadValue(f"cannot resume: the saved optimizer has unequal states. {FRESH}")
    # PyTorch's plain code checks sizes when it computes; the fused kernel does not.
    if any(group.get("fused") for group in (*own, *given)):
        _check_sizes(state["state"], weights)


def _check_group(mine: dict[str, Any], saved: dict[str, Any]) -> None:
    """Refuse options that are missing or of another type."""
    if missing := set(mine) - set(saved) - {*HOW, *NEWER}:
        raise BadValue(f"cannot resume: the saved optimizer has no {min(missing)!r}. {FRESH}")
    for name in set(mine) & set(saved) - {"params", "param_names"}:
        is_flag = name in HOW and saved[name] in (None, True, False)
        if not is_flag and not _alike(mine[name], saved[name]):
            raise BadValue(
                f"cannot resume: the saved optimizer has {name}={saved[name]!r:.80}, this one "
                f"{mine[name]!r:.80}. {FRESH}"
            )


def _check_sizes(state: dict[int, Any], weights: list[Tensor]) -> None:
    """Refuse tensors of another size than their weight; the step count is a single number."""
    for i, saved in state.items():
        size = tuple(weights[i].shape)
        for name, value in saved.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if shape != size and not (name == "step" and shape in ((), (1,))):
                raise BadValue(
                    f"cannot resume: it has {name!r} of shape {shape} for a weight {size}. {FRESH}"
                )


def _alike(mine: Any, saved: Any) -> bool:
    """Whether the saved value can replace the other: a number for a number, a list for a list."""
    if isinstance(mine, (list, tuple)):
        same = isinstance(saved, (list, tuple)) and len(mine) == len(saved)
        return same and all(map(_alike, mine, saved))
    # Before the numbers, since a bool in Python is also an int.
    if isinstance(mine, bool):  # it decides which tensors are saved for each weight
        return mine is saved
    if isinstance(mine, (int, float, Tensor)):
        if isinstance(saved, Tensor) != isinstance(mine, Tensor):
            return False
        # The limit refuses infinity and NaN, too: each comparison with NaN is False.
        single = isinstance(saved, (int, float)) or getattr(saved, "numel", int)() == 1
        return single and bool(abs(saved) < 1e30)
    return type(mine) is type(saved)
