"""Distillation: a small model learns from the outputs of a large one as well as from labels.

Shapes: B batch, C classes; texts have positions between the two.
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
) -> DistillationTask:
    """The workload, with the teacher's logits beside the labels of the training split.

    Train a student on it like on any other: `kit.train(student, taught_by(teacher, work), ...)`. A
    label says which class is right. The teacher's output also says which others are similar.

    Parameters
    ----------
    teacher
        A trained model for this workload, on the device where the student will be trained.
    workload
        A classification: its targets are class numbers, and its models return logits.
    weight
        Weight of the teacher's part in the loss, from 0 to 1. The rest goes to the labels.
    temperature
        Divides the logits of both models. A higher one gives more weight to the classes that the
        teacher finds unlikely.

    Raises
    ------
    NotSupported
        The targets are not classes, or the teacher's outputs are not finite logits of them.

    Notes
    -----
    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015. The gradient of
    the teacher's part shrinks with the square of the temperature, so it is multiplied by it.

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
            f"distillation of {workload.name!r} on {home}: the teacher returns "
            f"{tuple(logits.shape)} for targets {tuple(targets.shape)}, but it needs to return "
            f"finite logits of classes. Train the small model on the data alone."
        )
    return DistillationTask(teacher, workload, weight, temperature)


@dataclass(frozen=True)
class DistillationTask:
    """A workload whose training targets hold the teacher's logits and the class."""

    teacher: nn.Module
    workload: Any
    weight: float
    temperature: float

    def __getattr__(self, name: str) -> Any:
        """Everything else is the workload's."""
        return getattr(self.workload, name)

    def batches(
        self,
        split: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches; training targets are (B, …, C + 1): the teacher's logits, then the class."""
        for inputs, targets in self.workload.batches(split, batch_size, device, seed):
            if split == "train":
                logits = predict(self.teacher, inputs).float()
                targets = torch.cat([logits, targets.unsqueeze(-1).to(logits.dtype)], -1)
            yield inputs, targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Nats per target: from labels and teacher, or from labels alone outside training."""
        if targets.ndim < outputs.ndim:
            return self.workload.loss(outputs, targets)
        taught, labels = targets[..., :-1].flatten(0, -2), targets[..., -1].long()
        t, logits = self.temperature, outputs.flatten(0, -2)
        soft = cross_entropy(logits / t, (taught / t).softmax(-1)) * t**2
        return self.weight * soft + (1 - self.weight) * self.workload.loss(outputs, labels)
