"""Optimizers by name: AdamW as one fused operation, and Muon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from kit.core.errors import BadValue, UnknownName
from kit.devices import backend_of

Named = tuple[str, nn.Parameter]
Optimizer = str | Callable[..., torch.optim.Optimizer]  # a name, or a function that makes one


def optimizer_for(model: nn.Module, optimizer: Optimizer, lr: float) -> torch.optim.Optimizer:
    """The optimizer of that name, or made by that function, for the weights of the model.

    Raises
    ------
    UnknownName, BadValue
        The name is unknown; or it is neither a name nor a function.
    """
    if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
        raise UnknownName("optimizer", optimizer, OPTIMIZERS)
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    if not callable(make):
        raise BadValue(
            f"optimizer={optimizer!r}: needs a name, or a class to call with parameters and lr, "
            f"such as torch.optim.AdamW."
        )
    # With names, by which Muon chooses. Frozen weights are included: they get no gradient, and
    # PyTorch's optimizers skip a weight without one (its weight decay, too).
    return make(model.named_parameters(), lr=lr)


def adamw(named_parameters: Iterable[Named | nn.Parameter], lr: float = 3e-3) -> torch.optim.AdamW:
    """PyTorch's AdamW, with all weights in one operation ("fused") where the device supports it.

    The plain one starts a dozen small operations for each weight tensor. On a small model, to
    start them takes longer than the forward pass.

    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019. Explained in lesson 08.
    """
    parameters: list[Any] = list(named_parameters)  # a generator could be read only once
    weights = [each[1] if isinstance(each, tuple) else each for each in parameters]
    # One weight on a device without the fused kernel, and all take the plain way.
    fused = all(backend_of(w.device).fused_adamw and w.is_floating_point() for w in weights)
    return torch.optim.AdamW(parameters, lr=lr, fused=fused)


def muon(
    named_parameters: Iterable[Named],
    lr: float = 3e-3,
    momentum: float = 0.9,
    split_qkv: bool = False,
) -> MuonAndAdamW:
    """An optimizer that moves matrices by Muon and all other weights by AdamW.

    A gradient matrix often consists of a few strong directions, and a step along it changes little
    else. Muon makes all directions equally strong before it steps ("orthogonalises" the matrix,
    with five rounds of a polynomial instead of a decomposition). So rare directions are learnt
    too. A transformer then needs fewer steps to the same loss, and each step costs fifteen small
    matmuls per matrix more.

    Parameters
    ----------
    named_parameters
        Parameters with their names: embeddings and the head are matrices, too, but belong to
        AdamW. Each of their rows stands for one token, and is not a direction to mix with others.
    lr
        Learning rate of both. Muon's steps are scaled to the size of AdamW's (Liu et al., 2025),
        so that one number suits both.
    momentum
        Of Muon's running mean of gradients. 0.9 is a memory of ten steps. Trainings as short as
        the kit's need fewer steps with it than with the usual 0.95.
    split_qkv
        Queries, keys and values are three projections in one matrix, if its name has the part
        "qkv". True moves each of them by itself, as Jordan et al. advise: a short training of a
        GPT needs fewer steps then. False is the rule of PyTorch's Muon.

    Raises
    ------
    BadValue
        The parameters came without their names.

    Notes
    -----
    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. J. Liu et
    al., "Muon is Scalable for LLM Training", 2025, section 2.2.

    Explained in lesson 08.
    """
    named = list(named_parameters)
    if any(isinstance(each, torch.Tensor) for each in named):
        raise BadValue(
            "given parameters without names: Muon needs them, to leave out embeddings and the "
            "head. Use model.named_parameters()."
        )
    # Only matrices between hidden units have directions to make equally strong.
    matrices = [each for each in named if is_inner_matrix(*each)]
    others = [each for each in named if not is_inner_matrix(*each)]
    rules: list[torch.optim.Optimizer] = []
    if matrices:
        rules.append(Muon(matrices, lr, momentum, split_qkv))
    if others:
        rules.append(adamw(others, lr))
    return MuonAndAdamW(rules)


def is_inner_matrix(name: str, weight: nn.Parameter) -> bool:
    """Whether the weight is a matrix from hidden units to hidden units, by its name and shape."""
    # The shape of an embedding is that of any other matrix, so the name must decide. "head" has to
    # be a complete part of the dotted name: a layer called "heads" still goes to Muon.
    return weight.ndim == 2 and "embed" not in name and "head" not in name.split(".")


class Muon(torch.optim.Optimizer):
    """Moves matrices equally far in all directions: PyTorch's Muon, but in float32 on a CPU.

    Many processors have no instructions for bfloat16, in which PyTorch's always multiplies. There
    it takes up to forty times as long, and longer than the rest of a step.
    """

    def __init__(self, matrices: list[Named], lr: float, momentum: float, split_qkv: bool = False):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": 0.1})
        stacked = [weight for name, weight in matrices if split_qkv and "qkv" in name.split(".")]
        self.thirds = set(stacked)  # matrices of three projections each

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all matrices (rows, columns)."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                ahead = weight.grad.lerp(mean, momentum)  # Nesterov's
                weight.mul_(1 - lr * group["weight_decay"])
                parts = ahead.chunk(3) if weight in self.thirds else (ahead,)
                # All singular values are near 1 now. This scaling gives the update the size of
                # AdamW's, so that one learning rate suits both.
                size = 0.2 * math.sqrt(max(parts[0].shape))
                update = torch.cat([orthogonalised(part) for part in parts])
                weight.add_(update, alpha=-lr * size)


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with all singular values between about 0.5 and 1.5, its directions kept."""
    a, b, c = 3.4445, -4.775, 2.0315  # of a x + b x³ + c x⁵, which moves each towards 1
    x = matrix.to(torch.float32 if matrix.is_cpu else torch.bfloat16)
    x = x.T if (tall := x.shape[0] > x.shape[1]) else x  # the products below are then smaller
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1
    for _ in range(5):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimizers as one, with common groups and a common state.

    So code that reads groups or saves a state (schedules, checkpoints) sees one optimizer.
    """

    def __init__(self, rules: list[torch.optim.Optimizer]):
        self.rules = rules
        # The rules' own groups, without defaults: each group brings the options of its rule.
        super().__init__([group for rule in rules for group in rule.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all weights, each by its rule."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for rule, group in zip(self.rules, self.param_groups, strict=True):
            # Loading a checkpoint replaces groups and state: hand over what is there now.
            # They can share one state: its keys are the weights, and no weight belongs to both.
            rule.param_groups, rule.state = [group], self.state
            rule.step()
        return loss


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": adamw,
    "muon": muon,
}
