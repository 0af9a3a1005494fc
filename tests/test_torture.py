"""`make torture`, short: each part meets a kill -9, and what is careless is found out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torture needs Linux")

KILLED = ("training", "checkpoints", "downloads", "recordings", "class board")
CARELESS = {
    "writes in place/kill -9": "half a file",
    "writes in place/full disk": "ended with a traceback",
    "leaves a process/kill -9": "left over: sleep 1000",
}


@pytest.fixture(scope="module")
def trials():
    """Part and blow -> what became of them, by one run of the real thing."""
    asked = ",".join([*(f"{part}/kill -9" for part in KILLED), *CARELESS])
    command = [sys.executable, ROOT / "tests" / "careless_parts.py", "--json", "--seed", "gate"]
    run = subprocess.run([*command, "--cells", asked], capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return {f"{trial['part']}/{trial['blow']}": trial for trial in found}


@pytest.mark.parametrize("part", KILLED)
def test_a_part_that_is_killed_loses_nothing_and_goes_on(trials, part):
    trial = trials[f"{part}/kill -9"]
    assert trial["survived"], trial["problems"]


@pytest.mark.parametrize("cell", CARELESS)
def test_what_is_careless_does_not_survive(trials, cell):
    if cell not in trials:
        pytest.skip("this system gives no mount namespace")
    assert not trials[cell]["survived"]
    assert CARELESS[cell] in " ".join(trials[cell]["problems"])
