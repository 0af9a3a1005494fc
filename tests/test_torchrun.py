"""Trainings by a command and from Python: checked, started, waited for, ended."""

import json
import os
import signal
import threading
import time
from dataclasses import fields

import psutil
import pytest
from click.testing import CliRunner

import kit
from kit.cli.main import main
from kit.core.errors import BadValue, KitError, UnknownName
from kit.experiments.torchrun import torchrun
from kit.experiments.training_job import with_recipe

SHORT = {"model": "mlp", "steps": 6, "batch_size": 32, "lr": 3e-3, "seed": 3}


def in_this_process(name, model, seed, **options):
    kit.seed(seed)
    work = kit.workloads.get(name)
    fresh = work.model(model)
    return fresh, kit.train(fresh, work, seed=seed, live=False, **options)


def invoked(*words):
    return CliRunner().invoke(main, ["train", *map(str, words)])


# --- The command ---------------------------------------------------------------------------------


def test_the_command_trains_as_the_function_does(tmp_path):
    history, checkpoint = tmp_path / "run.json", tmp_path / "run.kit"
    files = ["--history", history, "--checkpoint", checkpoint]
    answer = invoked("vision", "--model", "mlp", "--steps", 6, "--seed", 3, *files)
    assert answer.exit_code == 0, answer.output
    asked = with_recipe(kit.workloads.vision().recipe, {"steps": 6})
    _, same = in_this_process("vision", "mlp", 3, **asked)
    assert answer.output.startswith("6 steps in ") and answer.output.count("\n") == 1
    assert json.loads(history.read_text())["losses"] == same.to_dict()["losses"]
    assert kit.load(checkpoint).state["losses"] == list(same.losses)


def test_what_is_given_takes_the_recipes_place():
    recipe = {"epochs": 15, "batch_size": 32, "lr": 3e-3}
    given = {"steps": 100, "epochs": None, "lr": 1e-2, "compile": False, "sharded": True}
    assert with_recipe(recipe, given) == {
        **{"batch_size": 32, "steps": 100, "lr": 1e-2, "sharded": True},
    }
    assert with_recipe(recipe, {"epochs": 1.5})["epochs"] == 1.5
    assert with_recipe(recipe, {"clip": 0})["clip"] == 0  # wrong, but not left out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["vison"], "no workload is called 'vison'; did you mean 'vision'?"),
        (["vision", "--model", "mlpp"], "no model is called 'mlpp'"),
        (["vision", "--steps", "0"], "steps=0: needs a whole number"),
        (["vision", "--steps", "x"], "'x' is not a valid integer"),
        (["vision", "--steps", "2", "--epochs", "1"], "give one of them"),
        (["vision", "--optimizer", "sgd"], "no optimizer is called 'sgd'"),
        (["vision", "--device", "gpu"], "asked for 'gpu', which is not a device"),
        (["vision", "--threads", "0"], "threads=0: needs a whole number"),
    ],
)
def test_a_wrong_word_is_answered_in_a_line(words, told):
    answer = invoked(*words)
    assert answer.exit_code != 0
    assert told in answer.output.splitlines()[-1]


# --- From Python ---------------------------------------------------------------------------------


def test_one_line_trains_with_two_processes():
    model, history = torchrun("vision", processes=2, device="cpu", threads=1, **SHORT)
    asked = with_recipe(kit.workloads.vision().recipe, SHORT)
    alone, same = in_this_process("vision", **asked)
    assert history.losses == pytest.approx(same.losses, rel=1e-5)
    for name, value in alone.state_dict().items():
        assert kit.agree(model.state_dict()[name], value, atol=3e-5), name
    assert [at for at, _ in history.scores] == [at for at, _ in same.scores]
    assert history.scores[-1][1].n == same.scores[-1][1].n
    assert history.table().rows and history.threads == 1
    for each in fields(history):  # nothing was lost or changed its kind on the way
        assert type(getattr(history, each.name)) is type(getattr(same, each.name)), each.name


def wait_until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("error", "told", "options"),
    [
        (UnknownName, "no workload is called 'vison'", {"workload": "vison"}),
        (
            UnknownName,
            "no option of kit train is called 'stepz'; did you mean 'steps'",
            {"stepz": 3},
        ),
        (BadValue, "steps='x': needs a whole number", {"steps": "x"}),
        (BadValue, "threads=0: needs a whole number", {"threads": 0}),
        (BadValue, "processes=0: needs a whole number", {"processes": 0}),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(error, told, options, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    with pytest.raises(error, match=told):
        torchrun(**{"workload": "vision", **options})


def test_the_error_of_a_process_comes_out_as_one():
    with pytest.raises(KitError) as caught:
        torchrun("vision", device="cpu", **{**SHORT, "batch_size": 33})
    told = "the training failed: BadValue: batch_size=33 on 2 processes: needs a multiple of 2"
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # ended, if not yet forgotten
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Ctrl+C in the middle of a training: its processes, their addresses, its checkpoint."""
    checkpoint = tmp_path_factory.mktemp("interrupted") / "run.kit"
    started, heard = [], []
    others = psutil.Process().children(recursive=True)  # such as the warm process of other tests

    def interrupt_once_it_trains():
        wait_until(checkpoint.exists)
        children = psutil.Process().children(recursive=True)
        started.extend(each for each in children if each not in others)
        for each in started:
            if "torch.distributed.run" in (words := each.cmdline()):
                heard.append(words[words.index("--local-addr") + 1])
            heard.extend(c.laddr.ip for c in each.net_connections("inet") if c.status == "LISTEN")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_once_it_trains, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        torchrun("control", device="cpu", steps=10**7, evaluate_every=10**6, checkpoint=checkpoint)
    return started, heard, checkpoint


def test_interrupting_it_leaves_no_process_and_the_last_checkpoint(interrupted):
    started, _, checkpoint = interrupted
    assert len(started) >= 3  # torchrun and two
    assert not [each for each in started if alive(each)]
    assert kit.load(checkpoint).state


def test_no_port_is_opened_to_other_machines_and_no_name_is_looked_up(interrupted):
    """While it trains, whatever listens in its processes listens on the loopback interface."""
    _, heard, _ = interrupted
    assert len(heard) >= 3 and set(heard) <= {"127.0.0.1", "::1"}  # one word, and gloo's two
