"""The processes that train together: one on a laptop, many under `torchrun`.

Each process has all the weights ("data-parallel": DDP) or its part of them (FSDP2, see
`sharding`), and computes its own part of each batch. The gradients are averaged before the
weights move. So all make the update that one process would have made of the complete batch.

rank          the number of this process, from 0
world_size    the number of processes

Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", 2020.
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
from kit.devices import backend_of
from kit.training import sharding

PATIENCE = timedelta(minutes=10)  # to wait for the other processes: one may be writing a file
MEETING = "KIT_MEETING"  # names the file through which `kit.torchrun` lets its processes meet


def world_size() -> int:
    """How many processes train together: in their group, or as `torchrun` has started them."""
    joined = dist.is_initialized()
    return dist.get_world_size() if joined else int(os.environ.get("WORLD_SIZE", "1"))


class Processes:
    """The processes that train together, seen from one of them; a single one pays nothing."""

    def __init__(self, device: torch.device, alone: bool = True):
        self.device, self.alone = device, alone
        self.rank, self.world_size = (0, 1) if alone else (dist.get_rank(), dist.get_world_size())
        # One process per machine writes files: the machines may have no folder in common.
        self.keeps = alone or dist.get_node_local_rank(fallback_rank=self.rank) == 0

    @classmethod
    def here(cls, device: torch.device) -> Processes:
        """The processes that `torchrun` started, joined at the first call; without it, this one.

        On accelerators each process takes its own: `device` with its number on this machine.

        Raises
        ------
        DeviceUnavailable
            There are more processes on this machine than accelerators.
        """
        if not dist.is_initialized():
            if world_size() == 1:
                return cls(device)
            _own(device)
            _meet(device)
            atexit.register(dist.destroy_process_group)  # not earlier: a group cannot be rejoined
        return cls(_own(device), alone=False)

    def check(self, batch_size: int, accumulate: int) -> None:
        """Refuse a batch that does not divide into equal parts."""
        parts = self.world_size * accumulate
        if batch_size % parts:
            of_each = f" of {accumulate} parts each" if accumulate > 1 else ""
            raise BadValue(
                f"batch_size={batch_size} on {self.world_size} processes{of_each}: needs a "
                f"multiple of {parts}, so that all parts have the same weight."
            )

    def own(self, model: nn.Module, sharded: bool = False) -> nn.Module:
        """The model to train: the one given, or a sharded copy, of which this process has a part.

        The original of a sharded copy waits on the CPU, so that the device need not hold both.
        """
        if self.alone:
            return model
        model.to("cpu" if sharded else self.device)
        return sharding.sharded_copy(model, self.device) if sharded else model

    def joined(self, model: nn.Module) -> nn.Module:
        """The module to call instead of the model: its gradients are those of the complete batch.

        DDP first gives all processes the weights of process 0. In each backward pass it then
        averages the gradients, while earlier layers are still computing. FSDP2 needs no wrapper.
        """
        # A method that only FSDP2's modules have.
        is_sharded = hasattr(model, "set_requires_gradient_sync")
        return model if self.alone or is_sharded else DistributedDataParallel(model)

    def share(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The part of a batch (B, …), (B, …) for this process: B / world_size examples."""
        if self.alone:
            return inputs, targets
        # Equal parts, as `check` has made sure: of unequal ones, a mean of means would be wrong.
        return inputs.chunk(self.world_size)[self.rank], targets.chunk(self.world_size)[self.rank]

    def mean(self, values: Tensor) -> Tensor:
        """Each value's mean over all processes: (N,) -> (N,)."""
        if not self.alone:
            # Once per look at the losses, not per step: each message makes all processes wait.
            dist.all_reduce(values)  # the sum, in every process
            values /= self.world_size
        return values

    def agreed(self, value: Any) -> Any:
        """The value of process 0: for decisions that depend on a clock and must be the same."""
        if self.alone:
            return value
        # If each process asked its own clock, one could stop while another waits for its gradient.
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def bring(self, path: Path) -> None:
        """Copy a file to all machines, from the first process that has it.

        So the machines need no common folder, and a machine that was replaced gets the file too.
        """
        if self.alone:
            return
        data = path.read_bytes() if path.is_file() else None
        # 64 characters each: the file itself travels only if a machine lacks it.
        digests: list[str | None] = [None] * self.world_size
        dist.all_gather_object(digests, data and sha256(data).hexdigest())
        if len(set(digests)) == 1:
            return
        # All compute the same `src` from the same list: a broadcast works only if they agree.
        values = [data]
        dist.broadcast_object_list(values, src=next(i for i, one in enumerate(digests) if one))
        if values[0] is not None and values[0] != data:
            with atomic_write(path) as draft:
                draft.write_bytes(values[0])


@contextmanager
def without_messages(net: nn.Module) -> Iterator[None]:
    """Within, gradients add up in this process only: more of the same batch is to come.

    To send each part's gradient would cost one exchange per part; their sum needs a single one.
    """
    send = getattr(net, "set_requires_gradient_sync", lambda _: None)  # FSDP2's
    with net.no_sync() if isinstance(net, DistributedDataParallel) else nullcontext():
        send(False)
        yield
        send(True)


def _meet(device: torch.device) -> None:
    """Join the processes that were started together, and no others.

    `torchrun` hands out a key-value store, and may hand out the same one after a restart (seen in
    PyTorch 2.13). It then still holds the addresses of dead processes, and a process that calls
    them waits in vain. So each start uses its own prefix in the store.
    """
    if path := os.environ.get(MEETING):
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store: Store = FileStore(path, size)
        store.set_timeout(PATIENCE)
    else:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    store = PrefixStore(f"group {_start_number(store, rank, size)}", store)
    # None is PyTorch's choice: gloo between CPUs, NCCL between NVIDIA GPUs.
    dist.init_process_group(
        backend_of(device).collectives, store=store, rank=rank, world_size=size, timeout=PATIENCE
    )


def _start_number(store: Store, rank: int, world_size: int) -> int:
    """How many times a process 0 has started: the same number in all processes of this start."""
    own = uuid4().hex
    if rank == 0:
        number = store.add("round", 1)
        others = [f"round {number}: {other}" for other in range(1, world_size)]
        store.wait(others, PATIENCE)
        store.set(f"round {number}: all", b" ".join(map(store.get, others)).decode())
        return number
    end = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < end:  # the number may be that of the last start: wait for process 0
        number = store.add("round", 0)  # adding 0 reads the counter
        store.set(f"round {number}: {rank}", own)
        met = f"round {number}: all"
        # `own` is new at each start, so an answer from an earlier start cannot contain it.
        if store.check([met]) and own in store.get(met).decode():
            return number
        time.sleep(0.01)
    raise KitError(
        f"process {rank} of {world_size} waited {PATIENCE} for process 0, which did not join. "
        f"Read the output of process 0, then start all processes again."
    )


def _own(device: torch.device) -> torch.device:
    """The accelerator with this process's number on its machine; all processes share the CPU."""
    backend = backend_of(device)
    if backend.is_cpu:
        return device
    number, count = dist.get_node_local_rank(fallback_rank=0), backend.count()
    if number >= count:
        raise DeviceUnavailable(
            f"process {number} of this machine, numbered from 0, finds {count} of "
            f"{device.type!r}: each process needs its own. Start fewer processes, or use the CPU."
        )
    torch.accelerator.set_device_index(number)  # else NCCL would put all processes on device 0
    return torch.device(device.type, number)
