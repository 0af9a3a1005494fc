"""Programs that load the CPU: they start, they are busy, and they end afterwards."""

import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from kit.course.cpu_load import cpu_load, stopwatch_says

pytestmark = pytest.mark.alone


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_they_are_busy_while_it_lasts_and_gone_afterwards():
    before = children()
    with cpu_load(2):
        there = [child for child in children() if child not in before]
        assert len(there) == 2
        time.sleep(0.5)
        assert all(child.cpu_times().user > 0.05 for child in there)
    assert not [child for child in there if child.is_running()]


def test_an_error_ends_them_too():
    before = children()
    with pytest.raises(ZeroDivisionError), cpu_load(1):
        raise ZeroDivisionError
    assert children() == before


def test_without_a_number_there_is_one_for_each_core_but_not_more_than_eight(monkeypatch):
    monkeypatch.setattr("kit.course.cpu_load.cores_allowed", lambda: 3.0)
    before = children()
    with cpu_load():
        assert len(children()) == len(before) + 3


def test_they_do_not_outlive_a_program_that_is_killed():
    """Killed, it cannot end them: they have to notice."""
    code = """
import time
from kit.course.cpu_load import cpu_load, stopwatch_says
with cpu_load(1):
    print("busy", flush=True)
    time.sleep(60)
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert program.stdout and program.stdout.readline()
    (busy,) = psutil.Process(program.pid).children()
    program.kill()
    program.communicate()
    busy.wait(timeout=10)


HABITS = ("warms_up", "repeats", "takes_turns", "knows_noise")


def says(monkeypatch, without=(), busy=2.0):
    """What a stopwatch without some habits says: the second call takes 1.25 times as long.

    A first call takes ten times as long, and everything is slower on a busy machine.
    """
    state = {"load": 1.0, "base": 0, "more": 0}

    @contextmanager
    def load():
        state["load"] = busy
        yield

    def seconds(call):
        name, takes = call()
        state[name] += 1
        return takes * state["load"] * (10 if state[name] == 1 else 1)

    monkeypatch.setattr("kit.course.cpu_load.cpu_load", load)
    calls = (lambda: ("base", 1.0)), (lambda: ("more", 1.25))
    return stopwatch_says(seconds, *calls, 1.25, **{name: name not in without for name in HABITS})


@pytest.mark.parametrize(
    "without, said",
    [
        ((), "1.25 × [1.25 to 1.25 ×]: slower"),
        (["takes_turns"], "2.50 × [2.50 to 2.50 ×]: slower"),
        (["warms_up"], "1.25 × [1.25 to 1.25 ×]: slower"),  # the median forgives it
        (
            ["repeats"],
            "2.50 × [interval unknown]: cannot tell",
        ),  # the second call met the busy machine
        (["repeats", "knows_noise"], "2.50 ×: slower"),
        (["repeats", "warms_up", "knows_noise"], "2.50 ×: slower"),
    ],
)
def test_a_stopwatch_says_what_its_habits_allow(without, said, monkeypatch):
    picture = says(monkeypatch, without)
    assert picture.caption == f"The stopwatch says {said}. The truth is 1.25 ×."


def test_the_picture_shows_what_its_caption_says(monkeypatch):
    drawn = says(monkeypatch, ["takes_turns"]).figure.axes[0].lines
    shown = {line.get_label(): list(line.get_ydata()) for line in drawn}
    assert shown["what it says"] == shown["each round"] == [2.5] * 16
    assert shown["the truth"] == [1.25, 1.25]
