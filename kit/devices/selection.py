"""Pick a device, check it, wait for it, seed it; how many threads to use on the CPU."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

from kit.core.checks import check_whole
from kit.core.errors import DeviceUnavailable
from kit.devices.backends import backend_of
from kit.devices.resource_limits import cores_allowed
from kit.devices.tpu import xla_devices

T = TypeVar("T")


def device(name: str | torch.device | None = None, *, threads: int | None = None) -> torch.device:
    """The device to compute on: the best one of this computer, or the one you name.

    It also sets how many threads PyTorch uses on the CPU, see `calm_threads`.

    Parameters
    ----------
    name
        "cuda", "mps", "xpu", "tpu", "xla" or "cpu", with an index if there are several. None or
        "auto" takes the best one.
    threads
        CPU threads; None takes `calm_threads()`.

    Raises
    ------
    DeviceUnavailable
        This computer does not have the device, or the device fails the parity check.

    Examples
    --------
    >>> device("cpu")
    device(type='cpu')

    Explained in lesson 00.
    """
    present = present_devices()
    wanted = check_present(present[0] if name is None or name == "auto" else name)
    backend = backend_of(wanted)
    if not backend.is_cpu and (wanted.index or 0) >= (count := backend.count()):
        raise DeviceUnavailable(
            f"asked for {str(wanted)!r}; there are {count} of them, numbered from 0."
        )
    if backend.known_wrong and not agrees_with_cpu(wanted):
        if name not in (None, "auto"):
            raise DeviceUnavailable(
                f"asked for {wanted.type!r}, but it returns numbers that differ from the CPU's. "
                f"Use kit.device('cpu'), or a newer PyTorch or operating system."
            )
        wanted = torch.device("cpu")
    if threads is not None:
        check_whole("threads", threads)
    torch.set_num_threads(threads or calm_threads())
    return wanted


def check_present(name: str | torch.device) -> torch.device:
    """The device of that name, if this computer has one of its type."""
    present = [d.type for d in present_devices()]
    try:
        wanted = torch.device(name)
        if wanted.type in present:
            return wanted
        given, cause = repr(wanted.type), None
    except (RuntimeError, TypeError) as error:
        given, cause = f"{name!r}, which is not a device", error
    raise DeviceUnavailable(
        f"asked for {given}; present here: {', '.join(present)}. "
        f"Use kit.device() for the best of these."
    ) from cause


def present_devices() -> list[torch.device]:
    """The devices of this computer, the best first. The CPU is always the last."""
    best = torch.accelerator.current_accelerator(check_available=True)
    return [*([] if best is None else [best]), *xla_devices(), torch.device("cpu")]


def agrees_with_cpu(candidate: torch.device) -> bool:
    """Whether a small network gives the same results as on the CPU, forward and backward.

    This parity check takes about a second: a matmul, a convolution and a softmax with their
    gradients. One input is non-contiguous, because that is where kernels were found to be wrong.
    """

    def answers(where: torch.device) -> list[torch.Tensor]:
        make = torch.Generator().manual_seed(0)
        image = torch.randn(4, 3, 12, 12, generator=make).transpose(2, 3).to(where)
        kernel = torch.randn(8, 3, 3, 3, generator=make).to(where).requires_grad_()
        weight = torch.randn(10, 8 * 10 * 10, generator=make).to(where).requires_grad_()
        hidden = torch.nn.functional.conv2d(image, kernel).relu().flatten(1)
        output = (hidden @ weight.T / 30).softmax(1)
        output[:, 0].sum().backward()
        return [t.detach().cpu() for t in (output, kernel.grad, weight.grad) if t is not None]

    pairs = zip(answers(candidate), answers(torch.device("cpu")), strict=True)
    return all(torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def synchronise(where: torch.device | str) -> None:
    """Wait until the device has done all the work in its queue. On the CPU there is no queue.

    On an accelerator a call returns as soon as its work is *queued*. If you read the clock without
    waiting, you time the queueing. This is the only function of the kit that waits.
    """
    backend_of(where).synchronise()


def seed(n: int) -> None:
    """Seed Python, NumPy and PyTorch, on every device."""
    n = check_whole("seed", n, 0, 2**32 - 1)  # NumPy takes no more
    random.seed(n)
    torch.manual_seed(n)
    np.random.seed(n)
    for where in xla_devices():  # has a generator of its own
        backend_of(where).seed(n)


def threads_here() -> int:
    """How many CPU threads PyTorch uses for the work of the calling thread.

    Call it first in every new thread that computes: `torch.set_num_threads` has no effect on a
    thread that starts later. Until that thread asks for the number, its matmuls use every core.
    """
    return torch.get_num_threads()  # asking applies the setting to the calling thread


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Inside the `with` block, PyTorch computes with this many CPU threads; then with as before.

    >>> with threads(1):
    ...     torch.get_num_threads()
    1

    Explained in lesson 05.
    """
    before = threads_here()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Worker(ThreadPoolExecutor):
    """An executor whose work uses as many CPU threads as the thread that submits it."""

    def submit(self, call: Callable[..., T], /, *given: Any, **options: Any) -> Future[T]:
        """Queue the call, with the number of threads that holds here and now."""
        return super().submit(threaded(threads_here(), call, *given, **options))


def threaded(n: int, call: Callable[..., T], /, *given: Any, **options: Any) -> Callable[[], T]:
    """A call that computes with n CPU threads.

    It leaves that number behind, because a change can take longer than the call. `kit.compare`
    puts it back at its end.

    Explained in lesson 05.
    """

    def one() -> T:
        if threads_here() != n:  # asking also applies the setting to a thread that is new
            torch.set_num_threads(n)
        return call(*given, **options)

    return one


def worker() -> Worker:
    """An executor with one thread, whose work uses as many CPU threads as PyTorch is set to.

    So the number that a result records where the work was submitted is also that of the thread
    which did it, even if `torch.set_num_threads` was called after that thread had started.

    >>> worker().submit(torch.get_num_threads).result() == torch.get_num_threads()
    True

    Explained in lesson 03.
    """
    return Worker(1, thread_name_prefix="kit")


def calm_threads() -> int:
    """How many CPU threads PyTorch can use without stalling: one fewer than it is allowed.

    The threads of an operation wait for each other at its end. If another program uses one of the
    cores, each operation waits for the slowest thread. On two shared cores, that made small
    operations tens of times slower. So one allowed core stays free.
    """
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return max(1, int(min(physical, cores_allowed())) - 1)
