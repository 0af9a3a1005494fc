"""Repairs without a training step: the weights stay, and only how answers are read changes.

recalibrated            a few labels: one scale, and one shift per class (temperature scaling)
reweighted              no labels: the classes come in another mix (label shift)
adapt_normalisation     no labels: BatchNorm takes its statistics from what comes now

Shapes: N, M examples, C classes.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.core.errors import BadValue, NotSupported
from kit.data import Split
from kit.inference import device_of, evaluating, predict
from kit.models.custom import output_tensor
from kit.monitoring.views import logits_and_embeddings

LEAST_SHARE = 1e-3  # of a class after reweighting: a share of 0 could never be predicted again


class Adjusted(nn.Module):
    """A model whose logits are scaled and shifted: scale · logits + shift (C,)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, scale: Tensor, shift: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, inputs: Tensor) -> Tensor:
        """The adjusted logits, (B, C)."""
        return self.scale * output_tensor(self.model(inputs), self.model) + self.shift


def recalibrated(model: nn.Module, labelled: Split) -> Adjusted:
    """The model with the scale and shifts of its logits that suit these labelled examples best.

    A single scale changes how sure the model is, but not what it answers; the shifts do both. A
    small penalty keeps the shifts near 0 where few labels say little.

    Notes
    -----
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017; with the shifts, Alexandari,
    Kundaje & Shrikumar, ICML 2020.
    """
    logits = logits_and_embeddings(model, labelled.inputs)[0].detach()
    targets = labelled.targets.to(logits.device)
    log_scale = torch.zeros((), device=logits.device, requires_grad=True)
    shift = torch.zeros(logits.shape[1], device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, shift], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(log_scale.exp() * logits + shift, targets)
        (loss + 0.5 * shift.square().sum() / len(targets)).backward()
        return float(loss.detach())

    with torch.enable_grad():
        optimizer.step(closure)
    return Adjusted(model, log_scale.detach().exp(), shift.detach())


def reweighted(model: nn.Module, known: Split, now: Tensor) -> Adjusted:
    """The model for another mix of classes, which it estimates from unlabelled inputs.

    On labelled examples from before, count what the model answers for each class. The answers now
    are a mix of these columns; the mix that explains them best says how often each class comes now.

    It is right only if examples of a class look as before, and only the mix changes. If the images
    change as well, it takes that for a change of the mix, and can make the answers worse.

    Notes
    -----
    *Black box shift estimation*: Lipton, Wang & Smola, ICML 2018. The correction of the logits is
    that of Saerens, Latinne & Decaestecker, Neural Computation 14 (2002).
    """
    from scipy.optimize import nnls

    logits = logits_and_embeddings(model, known.inputs)[0]
    classes = logits.shape[1]
    confusion = torch.zeros(classes, classes, dtype=torch.float64)  # (answer, true class)
    confusion.index_put_(
        (logits.argmax(1).cpu(), known.targets), torch.ones(1).double(), accumulate=True
    )
    answers = logits_and_embeddings(model, now)[0].argmax(1).cpu()
    seen = torch.bincount(answers, minlength=classes).double() / len(answers)
    ratio, _ = nnls((confusion / confusion.sum()).numpy(), seen.numpy())  # share now ÷ then
    shift = torch.from_numpy(np.log(np.maximum(ratio, LEAST_SHARE))).float()
    return Adjusted(model, torch.ones(()), shift).to(device_of(model))


def adapt_normalisation(model: nn.Module, now: Tensor) -> nn.Module:
    """A copy of the model whose BatchNorm layers take their statistics from these inputs.

    No label is needed and no weight learns: mean and variance are counted, layer by layer.

    Raises
    ------
    NotSupported
        The model has no BatchNorm layer.

    Notes
    -----
    Schneider et al., "Improving Robustness against Common Corruptions by Covariate Shift
    Adaptation", NeurIPS 2020.
    """
    adapted = deepcopy(model)
    layers = [
        part for part in adapted.modules() if isinstance(part, nn.modules.batchnorm._NormBase)
    ]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        raise NotSupported(
            f"{type(model).__name__} has no BatchNorm layer, so it stores no statistics that could "
            f"follow its inputs. Fine-tune it instead: kit.monitoring.repairs."
        )
    if len(now) < 2:
        raise BadValue(f"given {len(now)} inputs; statistics need at least two.")
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
    with evaluating(adapted), torch.no_grad():
        for layer in layers:
            layer.training = True
        adapted(now.to(device_of(adapted)))
        for layer in layers:
            layer.training = False
    predict(adapted, now[:1])  # works in evaluation mode, with the new statistics
    return adapted
