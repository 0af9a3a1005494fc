"""Training with the weights spread over processes (FSDP2): each holds a part of every tensor.

Each process gathers a layer right before it computes, and drops the others' parts right after.
Gradients and optimizer state exist in parts only. So each of N processes holds one Nth of the
memory that training needs per weight; the price is a message for each layer.

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from kit.models.custom import copy_model
from kit.training.recomputation import layers_that_repeat


def sharded_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the model, with the weights of process 0 spread over all processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # `state_dict` includes buffers, so BatchNorm's statistics start equal, too.
    for value in model.state_dict().values():
        dist.broadcast(value, src=0)  # all must start from the same weights
    # One dimension: each process has another part, and no part exists twice.
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    # A copy, because `fully_shard` changes a module in place, and the original must stay complete.
    sharded = copy_model(model)
    # Layer by layer, so that one layer at a time is gathered; last the rest, such as embeddings.
    for part in [*layers_that_repeat(sharded), sharded]:
        fully_shard(part, mesh=mesh)
    return sharded


def fill(model: nn.Module, sharded: nn.Module) -> None:
    """Copy the sharded weights into the complete model, in every process."""
    own = model.state_dict()
    # The order is the same in all processes. It must be: each gather waits for all of them.
    for name, value in sharded.state_dict().items():
        own[name].copy_(gathered(value))


def spread(model: nn.Module, sharded: nn.Module) -> None:
    """Copy the complete model's weights into the sharded one."""
    like = sharded.state_dict()
    own = model.state_dict().items()
    sharded.load_state_dict({name: shard(value, like[name]) for name, value in own})


def gathered(value: Any) -> Any:
    """The value with each sharded tensor in it made complete; all processes must call this."""
    # Only sharded tensors (DTensor) have this method. To ask for it saves an import, which single
    # processes do not need.
    if hasattr(value, "full_tensor"):
        return value.full_tensor().cpu()  # one at a time: together they may not fit on the device
    if isinstance(value, dict):
        return {key: gathered(each) for key, each in value.items()}
    return [gathered(each) for each in value] if isinstance(value, list) else value


def shard(value: Any, like: Any) -> Any:
    """The value, sharded as `like` is if it is a tensor of the same shape; else unchanged."""
    # AdamW's step count is a scalar beside means of the weight's shape: it stays as it is.
    if not hasattr(like, "placements") or getattr(value, "shape", None) != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # src_data_rank=None: nothing is sent, since each process has all of it and takes its part.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def shard_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's complete state, sharded as its weights are."""
    # The order in which `state_dict` numbers the weights.
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    each = {
        i: {name: shard(value, weights[i]) for name, value in saved.items()}
        for i, saved in state["state"].items()
    }
    return {**state, "state": each}
