"""The types of the whole project, as `make style` checks them."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
def test_mypy_has_nothing_to_say():
    """Among the tests, where the other core works meanwhile: alone it keeps one core waiting."""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "mypy"], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
