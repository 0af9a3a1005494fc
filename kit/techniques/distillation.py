"""A small model learns from what a large one answers, and not from the labels alone.

Shapes: B batch, C classes; for texts there are places between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.core.checks import check_positive, check_share
from kit.core.errors import NotSupported
from kit.data import Task
from kit.data.arguments import check_pair
from kit.inference import device_of, predict
from kit.models.custom import output_tensor


def taught_by(
    teacher: nn.Module, workload: Task, *, weight: float = 0.5, temperature: float = 2.0
) -> Taught:
    """The workload, with the teacher's answers beside the labels of the training split.

    Train a student on it as on any other: `kit.train(student, taught_by(teacher, work), ...)`. A
    label says which class is right; a teacher's answer says also which others come near it.

    Parameters
    ----------
    teacher
        A trained model for this workload, on the device of the training.
    workload
        One with classes: its targets are their numbers, its models answer with logits.
    weight
        Of the teacher's answers in the loss, 0 to 1; the rest is the labels'.
    temperature
        By which both models' logits are divided: more shows more of what the teacher holds
        unlikely.

    Raises
    ------
    NotSupported
        The targets are no classes, or the teacher's answers no finite logits of them.

    Notes
    -----
    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015. The gradients of
    the soft part shrink with the square of the temperature, so that part is multiplied by it.

    Explained in lesson 09.
    """
    check_pair("kit.techniques.taught_by", teacher, workload)
    check_share("weight", weight)
    check_positive("temperature", temperature)
    home = device_of(teacher)
    inputs, targets = next(iter(workload.batches("train", 2, home)))
    logits = output_tensor(predict(teacher, inputs), teacher)
    classes = targets.dtype == torch.int64 and logits.shape[:-1] == targets.shape
    if not classes or not bool(logits.isfinite().all()):
        raise NotSupported(
            f"distillation of {workload.name!r} on {home}: a teacher says how likely each class "
            f"is, and these answers {tuple(logits.shape)} for targets {tuple(targets.shape)} are "
            f"no finite logits of classes. Train the small model on the data alone."
        )
    return Taught(teacher, workload, weight, temperature)


@dataclass(frozen=True)
class Taught:
    """A workload whose training batches have the teacher's logits beside the labels."""

    teacher: nn.Module
    workload: Any
    weight: float
    temperature: float

    def __getattr__(self, name: str) -> Any:
        """All else is the workload's."""
        return getattr(self.workload, name)

    def batches(
        self,
        split: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches; training has targets (B, …, C + 1): the teacher's logits, and then the class."""
        for inputs, targets in self.workload.batches(split, batch_size, device, seed):
            if split == "train":
                said = predict(self.teacher, inputs).float()
                targets = torch.cat([said, targets.unsqueeze(-1).to(said.dtype)], -1)
            yield inputs, targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Nats per target: by labels and teacher, or by labels alone where nobody teaches."""
        if targets.ndim < outputs.ndim:
            return self.workload.loss(outputs, targets)
        said, labels = targets[..., :-1].flatten(0, -2), targets[..., -1].long()
        t, logits = self.temperature, outputs.flatten(0, -2)
        soft = cross_entropy(logits / t, (said / t).softmax(-1)) * t**2
        return self.weight * soft + (1 - self.weight) * self.workload.loss(outputs, labels)
