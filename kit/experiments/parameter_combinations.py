"""Rules about which parameter values go together, checked before a kernel starts.

A parameter name has the same meaning everywhere in the kit. So a rule applies to every notebook
that declares all parameters of the rule. To add a rule, write a function that raises, and add a
line to one of the tables below.

ANYWHERE    values that no computer can run
HERE        values that this computer cannot run; another one might
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue, DeviceUnavailable, UnknownName
from kit.core.files import user_path

DEFAULT = "default"  # the name for the workload's first model


def check_together(values: Mapping[str, Any], here: bool = True) -> None:
    """Refuse values that are each possible, but not together, or not on this computer.

    Parameters
    ----------
    values
        All parameters of a notebook: the given values, and the defaults of the others.
    here
        Whether this computer will run the notebook.

    Raises
    ------
    KitError
        The message says which values are not possible, and which are.
    """
    for names, rule in chain(ANYWHERE.items(), HERE.items() if here else ()):
        if all(name in values for name in names):
            rule(*(values[name] for name in names))


def _model_of_workload(workload: str, model: str) -> None:
    known = _workload(workload).models
    if model not in (DEFAULT, *known):
        raise UnknownName(f"model of the workload {workload!r}", model, [*known, DEFAULT])


def _installed_workload(workload: str, _: str) -> None:
    _workload(workload).check_installed()


def _batch_of_workload(workload: str, batch_size: int, _: str) -> None:
    # The recipe's batch size always fits; only a larger one is worth the seconds to make the data.
    if batch_size > _workload(workload).recipe.get("batch_size", 0):
        most = _train_size(workload)
        if batch_size > most:
            raise BadValue(
                f"batch_size={batch_size} with workload={workload!r}: there are {most:,} training "
                f"examples; use at most that many."
            )


KINDS_OF_DRIFT = {
    "vision": ("rotation", "thickness", "noise", "mix", "meaning"),
    "speech": ("voices", "mix", "meaning"),
    "fraud": ("prices", "meaning"),
}


def _kind_of_workload(workload: str, kind: str) -> None:
    if (known := KINDS_OF_DRIFT.get(workload)) is None:
        possible = ", ".join(KINDS_OF_DRIFT)
        raise BadValue(f"workload={workload!r}: no kind of drift is known for it; use {possible}.")
    if kind not in known:
        raise UnknownName(f"kind of drift of the workload {workload!r}", kind, known)


def own_file(values: Mapping[str, Any]) -> str:
    """The user's own file among these parameters, FILE.py:NAME; "" if there is none."""
    given = (values.get(name, "") for name in ("workload", "file"))
    return next((each for each in given if ".py:" in each), "")


@cache
def _train_size(workload: str) -> int:
    return _workload(workload).size("train")


def _workload(name: str) -> Any:
    from kit import workloads  # imported here: a notebook without a workload needs no PyTorch

    return workloads.get(name)


@cache  # checking an Apple GPU takes a second, too long for each run of a sweep
def _present(device: str) -> Any:
    """The device that the notebook will get; the number of threads does not change."""
    import torch

    from kit import devices

    present = [each.type for each in devices.present_devices()]
    if device.partition(":")[0] not in ("auto", *present):
        raise DeviceUnavailable(
            f"device={device!r}: present here: {', '.join(present)}. "
            f"Use auto for the best of these: -p device auto."
        )
    return devices.device(device, threads=torch.get_num_threads())


def _device_is_here(device: str) -> None:
    if device not in ("auto", "cpu"):  # every computer has these
        _present(device)


def _precision_of_device(precision: str, device: str) -> None:
    # Few processors have float16 instructions. On the others it takes tens of times as long as
    # float32, so nobody wants it there.
    if precision == "fp16" and _present(device).type == "cpu":
        auto = " (the CPU here)" if device == "auto" else ""
        raise BadValue(
            f"precision='fp16' with device={device!r}{auto}: float16 needs an accelerator; "
            f"on the CPU, use fp32 or bf16."
        )


def _technique_on_device(technique: str, device: str) -> None:
    _technique(technique).check(_present(device))


def _technique(name: str) -> Any:
    from kit import techniques

    return techniques.get(name)


def _heads_fit(d_model: int, n_heads: int) -> None:
    if d_model % n_heads:
        raise BadValue(
            f"d_model={d_model} with n_heads={n_heads}: needs a d_model that n_heads divides."
        )


def _text_fits(prompt_tokens: int, new_tokens: int, context: int) -> None:
    if prompt_tokens + new_tokens > context:
        raise BadValue(
            f"prompt_tokens={prompt_tokens} and new_tokens={new_tokens} with context={context}: "
            f"{prompt_tokens + new_tokens} tokens do not fit; raise context, or use fewer tokens."
        )


def _folder_is_here(folder: str, _: str) -> None:
    from kit.experiments.recording import experiment_folder

    experiment_folder(folder)


def _text_is_here(text: str, _: int) -> None:
    if text and not user_path(text).is_file():
        raise BadValue(
            f"text={text!r}: no such file in {Path.cwd()}; give the path of a text file."
        )


ANYWHERE: dict[tuple[str, ...], Callable[..., object]] = {
    ("workload",): _workload,
    ("workload", "model"): _model_of_workload,
    ("workload", "model_name"): _model_of_workload,
    ("workload", "kind"): _kind_of_workload,
    ("technique",): _technique,
    ("d_model", "n_heads"): _heads_fit,
    ("prompt_tokens", "new_tokens", "context"): _text_fits,
}
HERE: dict[tuple[str, ...], Callable[..., object]] = {
    # A notebook without a device only reads the results of its workload.
    ("workload", "device"): _installed_workload,
    ("device",): _device_is_here,
    ("workload", "batch_size", "device"): _batch_of_workload,
    ("precision", "device"): _precision_of_device,
    ("technique", "device"): _technique_on_device,
    # The folder of a report exists; in other notebooks a folder may be for writing.
    ("folder", "front_of"): _folder_is_here,
    ("folder", "workload"): _folder_is_here,
    ("text", "context"): _text_is_here,
}
