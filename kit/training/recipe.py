"""What a training is made with: everything that decides how its weights move."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from kit.core.checks import check_positive, check_whole, is_whole
from kit.core.errors import BadValue, UnknownName
from kit.training.optimizers import Optimizer
from kit.training.schedules import SCHEDULES

MOST_SEED = 2**64 - 1  # that PyTorch's generators take
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}  # name -> what autocast computes in


@dataclass(frozen=True)
class Recipe:
    """What decides how the weights move; `kit.train` says what each means."""

    batch_size: int = 32
    lr: float = 3e-3
    optimizer: Optimizer = "adamw"
    precision: str = "fp32"
    compile: bool = False
    accumulate: int = 1
    clip: float | None = None
    schedule: str = "constant"
    lr_warmup: int = 0
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
        if is_whole(self.batch_size):  # how large it may be, the data say
            given["batch_size"] = int(self.batch_size)
        for name, value in given.items():  # as Python's numbers
            object.__setattr__(self, name, value)
        if self.precision not in PRECISIONS:
            raise UnknownName("precision", self.precision, PRECISIONS)
        if self.schedule not in SCHEDULES:
            raise UnknownName("schedule", self.schedule, SCHEDULES)

    def check_batch(self, examples: int) -> None:
        """Refuse a batch larger than what there is, or one that does not fall into its parts."""
        check_whole("batch_size", self.batch_size, high=examples)
        if self.batch_size % self.accumulate:
            raise BadValue(
                f"accumulate={self.accumulate} with batch_size={self.batch_size}: needs a number "
                f"that divides the batch into equal parts."
            )

    @property
    def autocast(self) -> torch.dtype | None:
        """What matmuls compute in; None: in what the weights are."""
        return PRECISIONS[self.precision]

    @property
    def constant_rate(self) -> bool:
        """Whether `lr` is the learning rate of every step."""
        return self.schedule == "constant" and not self.lr_warmup

    def settings(self, total: int) -> dict[str, Any]:
        """What a training that goes on must have as it had: others would give other weights."""
        kept = asdict(self)
        for name in ("optimizer", "recompute", "sharded"):  # kept by its class; equal numbers
            del kept[name]
        return kept if self.constant_rate else {**kept, "steps": total}


OLDER = Recipe().settings(0)  # what states of older kits had where they say nothing
