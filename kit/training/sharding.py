"""Training with the weights spread over processes (FSDP2): each keeps a part of every tensor.

A layer is put together on each process right before it computes, and taken apart right after.
Gradients and the optimizer's state exist in parts only: of N processes each holds one Nth of
what training keeps per weight, and pays for it with messages in each layer.

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from kit.models.custom import copy_model
from kit.training.recomputation import layers_that_repeat


def twin_of(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the model whose weights, those of process 0, are spread over all processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for value in model.state_dict().values():
        dist.broadcast(value, src=0)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    twin = copy_model(model)
    for part in [*layers_that_repeat(twin), twin]:  # the rest, embeddings and so on, as the last
        fully_shard(part, mesh=mesh)
    return twin


def fill(model: nn.Module, twin: nn.Module) -> None:
    """Copy the twin's weights into the whole model, on every process."""
    own = model.state_dict()
    for name, value in twin.state_dict().items():
        own[name].copy_(together(value))


def spread(model: nn.Module, twin: nn.Module) -> None:
    """Copy the whole model's weights into the twin."""
    like = twin.state_dict()
    twin.load_state_dict({name: apart(v, like[name]) for name, v in model.state_dict().items()})


def together(value: Any) -> Any:
    """The value, each tensor in it that is spread put together; all processes must take part."""
    if hasattr(value, "full_tensor"):
        return value.full_tensor().cpu()  # one at a time: on the device all may not fit
    if isinstance(value, dict):
        return {key: together(each) for key, each in value.items()}
    return [together(each) for each in value] if isinstance(value, list) else value


def apart(value: Any, like: Any) -> Any:
    """The value, spread as `like` is if it is a tensor of the same shape; else as it stands."""
    if not hasattr(like, "placements") or getattr(value, "shape", None) != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # No process sends: each has the whole, and takes its part of it.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def state_apart(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state, spread as its weights are."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    each = {
        i: {name: apart(value, weights[i]) for name, value in kept.items()}
        for i, kept in state["state"].items()
    }
    return {**state, "state": each}
