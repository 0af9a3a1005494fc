"""Optimizers by name, and one beside PyTorch's own, called as those are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from kit.core.errors import BadValue, UnknownName

Named = tuple[str, nn.Parameter]
Optimizer = str | Callable[..., torch.optim.Optimizer]  # a name, or what makes one
FUSED_ON = ("cpu", "cuda", "mps", "xpu")  # where PyTorch has an AdamW in one operation


def optimizer_for(model: nn.Module, optimizer: Optimizer, lr: float) -> torch.optim.Optimizer:
    """The optimizer of that name, or made by that class, for the weights of the model.

    Raises
    ------
    UnknownName, BadValue
        No such name; or neither a name nor a class.
    """
    if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
        raise UnknownName("optimizer", optimizer, OPTIMIZERS)
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    if not callable(make):
        told = "needs a name, or a class to call with parameters and lr, as torch.optim.AdamW is"
        raise BadValue(f"optimizer={optimizer!r}: {told}.")
    return make(model.named_parameters(), lr=lr)


def adamw(named_parameters: Iterable[Named | nn.Parameter], lr: float = 3e-3) -> torch.optim.AdamW:
    """PyTorch's AdamW, all weights in one operation ("fused") where the device can.

    The plain one is a dozen small operations for each weight tensor: on a small model their
    starting takes longer than the forward pass.

    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019. Explained in lesson 08.
    """
    parameters: list[Any] = list(named_parameters)
    weights = [each[1] if isinstance(each, tuple) else each for each in parameters]
    fused = all(w.device.type in FUSED_ON and w.is_floating_point() for w in weights)
    return torch.optim.AdamW(parameters, lr=lr, fused=fused)


def muon(
    named_parameters: Iterable[Named], lr: float = 3e-3, momentum: float = 0.9
) -> MuonAndAdamW:
    """An optimizer that moves matrices by Muon and all other weights by AdamW.

    A gradient matrix is mostly a few strong directions, and a step along it changes little else.
    Muon makes all its directions equally strong before it steps ("orthogonalised": five rounds of
    a polynomial, no decomposition), so that the rare ones are learnt too. A transformer then needs
    fewer steps to the same loss; each step costs fifteen small matmuls per matrix more.

    Parameters
    ----------
    named_parameters
        Of the model: names, because embeddings and the head are matrices to AdamW all the same.
        What they see is one token, or what they say one token: not directions to mix.
    lr
        Of both: Muon's steps are scaled to the size of AdamW's (Liu et al., 2025), so that one
        number does, and the same as for AdamW alone.
    momentum
        Of Muon's mean of gradients. 0.9, a memory of ten steps: trainings as short as the kit's
        get there in fewer steps than with the usual 0.95.

    Raises
    ------
    BadValue
        Parameters without their names.

    Notes
    -----
    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. J. Liu et
    al., "Muon is Scalable for LLM Training", 2025, section 2.2.

    Explained in lesson 08.
    """
    named = list(named_parameters)
    if any(isinstance(each, torch.Tensor) for each in named):
        raise BadValue("given parameters without names; use model.named_parameters().")
    matrices = [each for each in named if is_inner_matrix(*each)]
    others = [each for each in named if not is_inner_matrix(*each)]
    rules: list[torch.optim.Optimizer] = []
    if matrices:
        rules.append(
            torch.optim.Muon(matrices, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        )
    if others:
        rules.append(adamw(others, lr))
    return MuonAndAdamW(rules)


def is_inner_matrix(name: str, weight: nn.Parameter) -> bool:
    """Whether it is a matrix from hidden units to hidden units, as its name and shape tell."""
    return weight.ndim == 2 and "embed" not in name and "head" not in name.split(".")


class MuonAndAdamW(torch.optim.Optimizer):
    """Two of PyTorch's optimizers as one: their groups are its groups, its state is theirs.

    So whatever reads groups or keeps a state (schedulers, checkpoints) sees one optimizer.
    """

    def __init__(self, rules: list[torch.optim.Optimizer]):
        self.rules = rules
        super().__init__([group for rule in rules for group in rule.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all weights, each by its rule."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for rule, group in zip(self.rules, self.param_groups, strict=True):
            rule.param_groups, rule.state = [group], self.state  # new ones, after a loading
            rule.step()
        return loss


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": adamw,
    "muon": muon,
}
