"""Programs that load the CPU: they start, they are busy, and they end afterwards."""

import subprocess
import sys
import time

import psutil
import pytest

from kit.course.cpu_load import cpu_load

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
from kit.course.cpu_load import cpu_load
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
