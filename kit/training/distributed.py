"""The processes that train together: one on a laptop, many under `torchrun`.

Each has all the weights ("data-parallel": DDP) or its share of them (FSDP2, see `sharding`), and
computes its own part of each batch. Their gradients are averaged before the weights move, so all
make the update that one process would have made of the whole batch.

rank          which of them this is, from 0
world_size    how many there are
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from kit.core.errors import BadValue, DeviceUnavailable, KitError
from kit.core.files import atomic_write
from kit.training import sharding

PATIENCE = timedelta(minutes=10)  # how long one waits for the others: one may be writing a file
MEETING = "KIT_MEETING"  # the file in which `kit.torchrun` has its processes meet, not by a port


class Processes:
    """The processes that train together, seen from one of them; alone, all of it costs nothing."""

    def __init__(self, device: torch.device, alone: bool = True):
        self.device, self.alone = device, alone
        self.rank, self.world_size = (0, 1) if alone else (dist.get_rank(), dist.get_world_size())
        # One process of each machine keeps files: the machines may have no folder in common.
        self.keeps = alone or dist.get_node_local_rank(fallback_rank=self.rank) == 0

    @classmethod
    def here(cls, device: torch.device) -> Processes:
        """Those that `torchrun` started with this one, joined at the first call; else this one.

        On accelerators each takes one of its own: `device` with its number on this machine.

        Raises
        ------
        DeviceUnavailable
            More processes on this machine than accelerators.
        """
        if not dist.is_initialized():
            if int(os.environ.get("WORLD_SIZE", "1")) == 1:
                return cls(device)
            _own(device)
            _meet()
            atexit.register(dist.destroy_process_group)  # not before: it cannot be joined twice
        return cls(_own(device), alone=False)

    def check(self, batch_size: int, accumulate: int) -> None:
        """Refuse a batch that does not divide into equal parts."""
        parts = self.world_size * accumulate
        if batch_size % parts:
            of_each = f" of {accumulate} parts each" if accumulate > 1 else ""
            raise BadValue(
                f"batch_size={batch_size} on {self.world_size} processes{of_each}: needs a "
                f"multiple of {parts}, so that all parts weigh the same."
            )

    def own(self, model: nn.Module, sharded: bool = False) -> nn.Module:
        """The model to train: the one given, or a twin of which this process holds a part.

        A model that is sharded waits on the CPU meanwhile, whole.
        """
        if self.alone:
            return model
        model.to("cpu" if sharded else self.device)
        return sharding.twin_of(model, self.device) if sharded else model

    def joined(self, model: nn.Module) -> nn.Module:
        """What to call instead of the model: gradients are then those of the whole batch.

        DDP first gives all processes the weights of process 0, and has each wait, in the backward
        pass, for the others' gradients. FSDP2 does so by itself.
        """
        return model if self.alone or _sharded(model) else DistributedDataParallel(model)

    def share(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of a batch (B, …), (B, …) the part of this process: B / world_size examples."""
        if self.alone:
            return inputs, targets
        return inputs.chunk(self.world_size)[self.rank], targets.chunk(self.world_size)[self.rank]

    @contextmanager
    def silent(self, net: nn.Module) -> Iterator[None]:
        """Within, gradients add up here and are not sent: more of the same batch is to come."""
        send = getattr(net, "set_requires_gradient_sync", lambda _: None)  # FSDP2's
        with net.no_sync() if isinstance(net, DistributedDataParallel) else nullcontext():
            send(False)
            yield
            send(True)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes of each value: (N,) -> (N,)."""
        if not self.alone:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def agreed(self, value: Any) -> Any:
        """The value that process 0 has: for what depends on a clock, and must be the same."""
        if self.alone:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def bring(self, path: Path) -> None:
        """Make a file the same on all machines: as the first process that has it knows it.

        Machines need no common folder then, and one that was replaced gets what the others kept.
        """
        if self.alone:
            return
        data = path.read_bytes() if path.is_file() else None
        digests: list[str | None] = [None] * self.world_size
        dist.all_gather_object(digests, data and sha256(data).hexdigest())
        if len(set(digests)) == 1:
            return
        values = [data]
        dist.broadcast_object_list(values, src=next(i for i, one in enumerate(digests) if one))
        if values[0] is not None and values[0] != data:
            with atomic_write(path) as draft:
                draft.write_bytes(values[0])


def _meet() -> None:
    """Join the group of all that were started together, and of no others.

    `torchrun` hands out a store, and may keep it when it starts all anew (seen in PyTorch 2.13):
    it then still holds the addresses of processes that are dead, and who calls them waits in
    vain. So each time takes a part of the store that is its own.
    """
    if path := os.environ.get(MEETING):
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store: Store = FileStore(path, size)
        store.set_timeout(PATIENCE)
    else:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    store = PrefixStore(f"group {_round(store, rank, size)}", store)
    # No backend named: gloo between CPUs, NCCL between NVIDIA GPUs.
    dist.init_process_group(store=store, rank=rank, world_size=size, timeout=PATIENCE)


def _round(store: Store, rank: int, world_size: int) -> int:
    """How many times there has been a process 0: the same number for all that this one has met."""
    own = uuid4().hex
    if rank == 0:
        number = store.add("round", 1)
        others = [f"round {number}: {other}" for other in range(1, world_size)]
        store.wait(others, PATIENCE)
        store.set(f"round {number}: all", b" ".join(map(store.get, others)).decode())
        return number
    end = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < end:  # the number may be of the last time: until 0 has met this one
        number = store.add("round", 0)
        store.set(f"round {number}: {rank}", own)
        met = f"round {number}: all"
        if store.check([met]) and own in store.get(met).decode():
            return number
        time.sleep(0.01)
    raise KitError(
        f"process {rank} of {world_size} waited {PATIENCE} for process 0, which has not come; "
        f"see what it said, and start all of them again."
    )


def _sharded(net: nn.Module) -> bool:
    return hasattr(net, "set_requires_gradient_sync")


def _own(device: torch.device) -> torch.device:
    """The accelerator of this process's number on its machine; the CPU is everybody's."""
    if device.type == "cpu":
        return device
    number, count = dist.get_node_local_rank(fallback_rank=0), torch.accelerator.device_count()
    if number >= count:
        raise DeviceUnavailable(
            f"process {number} of this machine, numbered from 0, finds {count} of "
            f"{device.type!r}: start as many processes as there are, or use the CPU."
        )
    torch.accelerator.set_device_index(number)
    return torch.device(device.type, number)
