"""The small process: it imports a runtime, opens one model, and answers in one thread.

`kit.edge` starts it with `python -m`. Settings come as a JSON file; each phase is a line of JSON on
stdout; arrays go through `.npy` files without pickle. It needs NumPy and the runtime, nothing else.
"""

from __future__ import annotations

import sys
import time

BEGAN_S = time.monotonic()  # comparable between processes
AT_START = {name.split(".")[0] for name in sys.modules}  # what Python itself and its folder bring

# The clock comes first, because these imports take time.
import json  # noqa: E402
import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from kit.deployment.sessions import OPENERS, Session, import_runtime  # noqa: E402
from kit.deployment.timed_calls import COUNTERS, timed_calls  # noqa: E402


def report(at: str, **facts: Any) -> None:
    """One line of JSON, for the process that started this one."""
    sys.stdout.write(json.dumps({"at": at, "now_s": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


def limit_memory(memory_bytes: int | None) -> None:
    """From here on, an allocation beyond the limit fails. The limit is on private memory."""
    if memory_bytes is not None:
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)  # of the process that started this one
        limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def peak_elsewhere() -> int:
    """The most resident bytes so far, on systems other than Linux."""
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes


def status() -> dict[str, int]:
    """Bytes of memory and the number of threads of this process, as Linux counts them."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return {"VmHWM": peak_elsewhere()}
    words = {line.split(":")[0]: line.split()[1] for line in lines if line.split()[1:]}
    found = {name: 1024 * int(words[name]) for name in ("VmHWM", "VmRSS", "VmData")}
    return {**found, "Threads": int(words["Threads"])}


def imported() -> dict[str, list[str]]:
    """The kit's modules in this process, and the top-level modules since its start."""
    there = [name for name, module in sys.modules.items() if module is not None]
    tops = {name.split(".")[0] for name in there}
    return {
        "kit": sorted(name for name in there if name.split(".")[0] == "kit"),
        "tops": sorted(tops - (AT_START - {"kit"})),
    }


def caller(session: Session, inputs: Any) -> Callable[[int], Any]:
    """The call of number i: one example, and the states that the last call left behind."""
    n, run, states = len(inputs), session.run, session.states()
    examples = [inputs[i : i + 1] for i in range(n)]
    if not states:
        return lambda i: run(examples[i % n])

    def call(i: int) -> Any:
        outputs = run(examples[i % n], *states)
        states[:] = outputs[1 : 1 + len(states)]
        return outputs

    return call


def check_inputs(session: Session, inputs: Any) -> str:
    """What is wrong with the inputs, by the file's own words; "" if nothing is."""
    if not session.shapes:
        return ""
    wanted, given = session.shapes[0], (1, *inputs.shape[1:])
    dtype = session.dtypes[0]
    fits = len(wanted) == len(given) and all(
        a in (None, b) for a, b in zip(wanted, given, strict=True)
    )
    if fits and dtype == str(inputs.dtype):
        return ""
    words = ", ".join("any" if n is None else str(n) for n in wanted)
    return f"it takes ({words}) {dtype}; given {given} {inputs.dtype}"


def main(folder: Path) -> None:
    """Import, load, answer each input once, then the timed calls."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    limit_memory(settings["memory_bytes"])
    report("import", began_s=BEGAN_S)
    import_runtime(settings["runtime"])
    import numpy as np

    inputs = np.load(folder / "inputs.npy", allow_pickle=False)
    report("load")
    data = (folder / "model").read_bytes()
    session = OPENERS[settings["runtime"]](data, 1)
    if wrong := check_inputs(session, inputs):
        report("error", kind="inputs", message=wrong)
        return
    call = caller(session, inputs)
    report("first")
    first = call(0)[0]
    report("answers")
    others = [call(i)[0].copy() for i in range(1, len(inputs))]
    np.save(folder / "outputs.npy", np.concatenate([first, *others]), allow_pickle=False)
    time.sleep(settings["settle_s"])
    report("calls")
    columns = timed_calls(call, settings["calls"], settings["every_s"], settings["spin"])
    report("end", **status(), **imported())
    table = np.array(columns, dtype=np.float64).reshape(len(COUNTERS), -1)
    np.save(folder / "calls.npy", table, allow_pickle=False)
    report("done")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        kind = type(error).__name__
        report("error", kind=kind, message=" ".join(lines)[:600])
        os._exit(1)  # a runtime without memory may not be able to clean up
