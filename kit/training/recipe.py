"""The recipe of a training: all options that decide how the weights move."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from kit.core.checks import check_positive, check_whole, is_whole
from kit.core.errors import BadValue, UnknownName
from kit.training.optimizers import Optimizer
from kit.training.schedules import SCHEDULES

MOST_SEED = 2**64 - 1  # the largest that PyTorch's generators accept
# Name -> the dtype that autocast computes in. bfloat16 has float32's range with fewer digits, so
# small gradients do not become 0 and no loss scaling is needed (Micikevicius et al., "Mixed
# Precision Training", 2018, needed it for float16).
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Recipe:
    """All options that decide how the weights move; `kit.train` explains each."""

    batch_size: int = 32  # examples per update, of all processes and parts together
    lr: float = 3e-3
    optimizer: Optimizer = "adamw"
    precision: str = "fp32"
    compile: bool = False
    accumulate: int = 1  # parts per batch, one after the other
    clip: float | None = None
    schedule: str = "constant"
    lr_warmup: int = 0  # steps
    recompute: bool = False
    sharded: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        given = {
            "accumulate": check_whole("accumulate", self.accumulate),
            "lr_warmup": check_whole("lr_warmup", self.lr_warmup, low=0),
            "seed": check_whole("seed", self.seed, 0, MOST_SEED),
            "lr": check_positive("lr", self.lr),
            "clip": None if self.clip is None else check_positive("clip", self.clip),
        }
        if is_whole(self.batch_size):  # its upper limit depends on the data: see `check_batch`
            given["batch_size"] = int(self.batch_size)
        # `object.__setattr__` is how a frozen dataclass sets a field of its own.
        for name, value in given.items():  # the checks return Python's numbers, also for NumPy's
            object.__setattr__(self, name, value)
        if self.precision not in PRECISIONS:
            raise UnknownName("precision", self.precision, PRECISIONS)
        if self.schedule not in SCHEDULES:
            raise UnknownName("schedule", self.schedule, SCHEDULES)

    def check_batch(self, examples: int) -> None:
        """Refuse a batch that is larger than the data, or that does not divide into its parts."""
        check_whole("batch_size", self.batch_size, 1, examples)
        # Equal parts only: `accumulate_gradients` gives each part the same weight.
        if self.batch_size % self.accumulate:
            raise BadValue(
                f"accumulate={self.accumulate} with batch_size={self.batch_size}: needs a number "
                f"that divides the batch into equal parts."
            )

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype in which matmuls compute; None: that of the weights."""
        return PRECISIONS[self.precision]

    @property
    def constant_rate(self) -> bool:
        """Whether all steps have the learning rate `lr`."""
        return self.schedule == "constant" and not self.lr_warmup

    def settings(self, total: int) -> dict[str, Any]:
        """The settings that must be the same when a training resumes, to give the same weights."""
        settings = asdict(self)
        # The optimizer is compared by its class; the other two do not change the weights.
        for name in ("optimizer", "recompute", "sharded"):
            del settings[name]
        # A decaying learning rate depends on where the training ends; a constant one does not.
        return settings if self.constant_rate else {**settings, "steps": total}


OLDER = Recipe().settings(0)  # the settings of older kits, whose states do not name them all
