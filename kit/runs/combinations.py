"""Which values go together: rules by the names of parameters, checked before a kernel starts.

A name means the same all over the kit, so a rule holds for every notebook that declares all the
names that it asks about. To add one: a function that raises, and a line in a table below.

ANYWHERE    what no computer could do
HERE        what this computer cannot do; another one might
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
from typing import Any

import torch

from kit import devices, workloads
from kit.errors import BadValue, UnknownName

NOTHING = ("", "none")  # as a technique: the model as it is
DEFAULT = ("", "default")  # as a model: the workload's first


def check_together(values: Mapping[str, Any], here: bool = True) -> None:
    """Refuse parameters that are possible one by one, but not together, or not on this computer.

    Parameters
    ----------
    values
        All parameters of a notebook: those given, and the defaults of the others.
    here
        Whether this computer will run it.

    Raises
    ------
    KitError
        Which values cannot be, and which can.
    """
    for names, rule in chain(ANYWHERE.items(), HERE.items() if here else ()):
        if all(name in values for name in names):
            rule(*(values[name] for name in names))


def _known_workload(workload: str) -> None:
    workloads.get(workload)


def _model_of_workload(workload: str, model: str) -> None:
    known = workloads.get(workload).models
    if model not in (*DEFAULT, *known):
        raise UnknownName(f"model of the workload {workload!r}", model, known)


def _installed_workload(workload: str) -> None:
    workloads.get(workload).check_installed()


@cache  # an Apple GPU is tried for a second, which a sweep should not pay in each of its runs
def _present(device: str) -> torch.device:
    """The device that the notebook will get; the number of threads stays as it is."""
    return devices.device(device, threads=torch.get_num_threads())


def _precision_of_device(precision: str, device: str) -> None:
    # Processors of which a core computes in float16 are few; on the others it takes a hundred
    # times as long as float32, so it is never what one wants.
    if precision == "fp16" and _present(device).type == "cpu":
        auto = ", which is the CPU here" if device == "auto" else ""
        raise BadValue(
            f"precision='fp16' with device={device!r}{auto}: float16 needs an accelerator; "
            f"on the CPU take fp32 or bf16."
        )


def _technique_on_device(technique: str, device: str) -> None:
    from kit import techniques

    if technique in NOTHING and technique not in techniques.SHELF:
        return
    if technique not in techniques.SHELF:
        raise UnknownName("technique", technique, techniques.SHELF)
    techniques.SHELF[technique].check(_present(device))


ANYWHERE: dict[tuple[str, ...], Callable[..., object]] = {
    ("workload",): _known_workload,
    ("workload", "model"): _model_of_workload,
    ("workload", "model_name"): _model_of_workload,
}
HERE: dict[tuple[str, ...], Callable[..., object]] = {
    ("workload",): _installed_workload,
    ("device",): _present,
    ("precision", "device"): _precision_of_device,
    ("technique", "device"): _technique_on_device,
}
