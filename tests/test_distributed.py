"""Processes that train together: real ones, on this machine, held against one alone."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import together
import torch
from together import ALL, CASES, GOES_ON, HALF, LIVES, outcome, trained

import kit
from kit.core.errors import CheckpointRefused, DeviceUnavailable
from kit.training.distributed import Processes

TOGETHER = Path(together.__file__)
ONE_STEP = 3e-3  # how far AdamW moves a weight at most, at the learning rate of all these
WITHIN = {"weights": 0.003 * ONE_STEP, "losses": 1e-5}
# In bfloat16 each result is rounded to eight bits.
COARSE = {"weights": 0.5 * ONE_STEP, "losses": 1e-3}
FORM = ["--standalone", "--nproc-per-node"]


def torchrun(log, *words, **options):
    """torchrun at work; what it says goes to a file, and what it leaves beside it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(log.parent)}
    command = [sys.executable, "-m", "torch.distributed.run", *map(str, words)]
    with log.open("w") as file:
        where = {"stdout": file, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=environment, **where, **options)


def ended(*started):
    """Wait for each (process, log) of them to end well; none is left if one does not."""
    try:
        for process, log in started:
            assert process.wait(120) == 0, log.read_text()[-6000:]
    finally:
        for process, _ in started:
            if process.poll() is None:
                process.terminate()  # its processes end with it
                time.sleep(2)
                process.kill()  # one that waits for another machine does not listen


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes have left what came of all trainings."""
    folder = tmp_path_factory.mktemp("two")
    for name, case in GOES_ON.items():
        options = {**case, "steps": HALF, "sharded": False}
        trained(**options, checkpoint=folder / f"{name}.kit")
    log = folder / "log.txt"
    ended((torchrun(log, *FORM, 2, TOGETHER, folder, "cpu"), log))
    return folder


@pytest.fixture(scope="module")
def found(two):
    return [torch.load(two / f"{rank}.pt") for rank in (0, 1)]


def furthest(one, other):
    """How far the tensor of weights that is furthest parts, and the loss that is.

    Of a tensor, the root mean square: AdamW divides each gradient by its own size, so where one
    is all but zero the rounding alone says how far that single weight goes.
    """
    weights = (one["weights"][name] - other["weights"][name] for name in one["weights"])
    losses = zip(one["losses"], other["losses"], strict=True)
    return {
        "weights": max(float(difference.square().mean().sqrt()) for difference in weights),
        "losses": max(abs(a - b) / a for a, b in losses),
    }


def close(one, other, within=WITHIN):
    far = furthest(one, other)
    assert all(far[what] <= within[what] for what in within), far
    assert [at for at, _ in one["scores"]] == [at for at, _ in other["scores"]]
    losses = [loss for _, loss in one["scores"]]
    assert losses == pytest.approx([loss for _, loss in other["scores"]], rel=within["losses"])


# --- The same as one process ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_does(name, found):
    close(outcome(**CASES[name]), found[0][name], COARSE if "bf16" in name else WITHIN)


@pytest.mark.parametrize("name", ["plain", "sharded"])
def test_all_begin_with_the_weights_of_process_0(name, found):
    for each in found:
        close(outcome(**CASES[name]), each[f"{name} apart"])


@pytest.mark.parametrize("name", CASES)
def test_both_hold_the_same_whole_model(name, found):
    first, second = (each[name] for each in found)
    assert furthest(first, second) == {"weights": 0, "losses": 0}
    assert first["scores"] == second["scores"]


def test_each_holds_all_weights_or_its_part_of_them(found):
    whole = sum(weight.numel() for weight in found[0]["muon"]["weights"].values())
    assert [each["insides"]["held"] for each in found] == [whole, whole]
    parts = [each["sharded insides"]["held"] for each in found]
    assert sum(parts) == whole and max(parts) < 0.51 * whole


def test_parts_of_a_batch_are_not_sent_one_by_one(found):
    first, second = (each["insides"]["gradients"] for each in found)
    assert all(a != b for a, b in zip(first, second, strict=True))  # each has its own
    assert [each["sharded insides"]["gradients"] for each in found] == [[], []]  # not yet spread


def test_a_clock_ends_all_at_the_same_step(found):
    steps, others = (each["budget"] for each in found)
    assert 0 < steps == others < together.BUDGET["steps"]


def test_what_does_not_divide_is_refused(found):
    for each in found:
        assert each["odd batch"].startswith("batch_size=33 on 2 processes: needs a multiple of 2")
        told = "batch_size=34 on 2 processes of 2 parts each: needs a multiple of 4"
        assert each["odd parts"].startswith(told)
        assert each["a sum"].startswith("2 processes: the loss of 'control' is not a mean")
        assert each["turns"].startswith("PredictionTurns in 2 processes that train together: needs")


def test_alone_nothing_is_joined_or_wrapped(vision, monkeypatch):
    for given in (None, "1"):
        monkeypatch.setenv("WORLD_SIZE", given) if given else None
        alone = Processes.here(torch.device("cpu"))
        assert (alone.alone, alone.rank, alone.world_size, alone.keeps) == (True, 0, 1, True)
    model, (inputs, targets) = kit.models.MLP(), vision.example(4)
    assert alone.joined(alone.own(model, sharded=True)) is model
    assert alone.share(inputs, targets) == (inputs, targets)
    assert alone.agreed("this") == "this"
    assert not torch.distributed.is_initialized()


def test_a_process_without_an_accelerator_of_its_own_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "100")
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(DeviceUnavailable, match=r"process 99 .* finds \d+ of 'cuda'"):
        Processes.here(torch.device("cuda"))


# --- Going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOES_ON)
def test_two_go_on_where_one_was(name, found):
    close(outcome(**GOES_ON[name]), found[0][name])


@pytest.mark.parametrize("name", GOES_ON)
def test_one_goes_on_where_two_were(name, two):
    left = two / f"{name} left.kit"
    assert len(kit.load(left).state["losses"]) == HALF
    close(outcome(**GOES_ON[name]), outcome(**GOES_ON[name], checkpoint=left))


def test_the_optimizers_state_is_whole_on_both(found):
    alone, (first, second) = outcome(**CASES["sharded"])["state"], (f["sharded"] for f in found)
    for each in (first["state"], second["state"]):
        for i, kept in alone.items():
            for name, value in kept.items():
                assert torch.allclose(each[i][name], value, atol=1e-6)


# --- Killed --------------------------------------------------------------------------------------


def command(**options):
    """As words after `kit train`."""
    words = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items()}
    work = words.pop("--work")
    return ["-m", "kit", "train", work, "--device", "cpu", "--threads", "1"] + [
        word for pair in words.items() for word in pair
    ]


def steps_kept(checkpoint):
    try:
        return len(kit.load(checkpoint).state["losses"])
    except CheckpointRefused:  # there is none yet
        return 0


def wait_until(true, process, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, "ended before that"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_process_costs_no_more_than_the_steps_since_the_checkpoint(tmp_path, found):
    """Either of the two, at any step after the first score: the end is the same to the last bit."""
    checkpoint, history = tmp_path / "run.kit", tmp_path / "run.json"
    words = command(**LIVES, checkpoint=checkpoint, history=history)
    log = tmp_path / "log.txt"
    process = torchrun(log, "--max-restarts", 3, *FORM, 2, *words)
    wait_until(lambda: steps_kept(checkpoint) >= 20, process)
    time.sleep(random.uniform(0, 0.2))
    before = steps_kept(checkpoint)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    os.kill(random.choice(workers).pid, signal.SIGKILL)
    ended((process, log))

    last_life = sum(steps for steps, _ in json.loads(history.read_text())["reads"])
    assert before < LIVES["steps"]
    assert last_life <= LIVES["steps"] - before  # it did not begin anew
    kept, undisturbed = kit.load(checkpoint), found[0]["undisturbed"]
    assert tuple(kept.state["losses"]) == undisturbed["losses"]
    for name, value in kept.model.state_dict().items():
        assert torch.equal(value, undisturbed["weights"][name])


# --- Two machines --------------------------------------------------------------------------------


def test_two_machines_need_no_folder_in_common(tmp_path):
    """One has a checkpoint, the other, as if it were new, has none: both go on and keep one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    machines = [tmp_path / name for name in ("one", "other")]
    for folder in machines:
        folder.mkdir()
    case = GOES_ON["goes on"]
    trained(**{**case, "steps": HALF}, checkpoint=machines[1] / "run.kit")
    form = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d"]
    words = [*form, "--rdzv-endpoint", place, *command(**case, checkpoint="run.kit")]
    logs = [folder / "log.txt" for folder in machines]
    ended(*[(torchrun(log, *words, cwd=log.parent), log) for log in logs])

    said = "".join(log.read_text() for log in logs)
    assert said.count(f"{ALL} steps in ") == 1  # by one of them, in a line
    alone = outcome(**case)
    for folder in machines:
        kept = kit.load(folder / "run.kit")
        weights = {"weights": kept.model.state_dict(), "losses": kept.state["losses"]}
        far = furthest(alone, weights)
        assert all(far[what] <= WITHIN[what] for what in WITHIN), far


# --- On GPUs -------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_gpus_learn_together_what_one_does(tmp_path):
    """With a single GPU NCCL joins one process to itself: the same calls, if fewer messages."""
    count = min(2, torch.cuda.device_count())
    log = tmp_path / "log.txt"
    ended((torchrun(log, *FORM, count, TOGETHER, tmp_path, "cuda"), log))
    found = torch.load(tmp_path / "0.pt")
    for name in ("plain", "parts", "sharded", "sharded parts"):
        alone = outcome(**CASES[name], device="cuda")
        assert found[name]["device"] == "cuda:0"
        close(alone, found[name], {"weights": 0.1 * ONE_STEP, "losses": 1e-4})
