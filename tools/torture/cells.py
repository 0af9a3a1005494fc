"""The cells of the table: each part with each blow that applies."""

import random
import sys
import time
from collections.abc import Iterator, Sequence

from torture.blows import BLOWS, Blow
from torture.children import Warm
from torture.networks import DaskSweep, Downloads
from torture.parts import Checkpoints, Grading, Part, Record, Sweep, Training
from torture.services import ClassBoard, Serving
from torture.trial import Trial, attempt

PARTS = [
    Training, Checkpoints, Sweep, DaskSweep, Downloads, Record, Serving, ClassBoard, Grading,
]  # fmt: skip
Cell = tuple[type[Part], Blow]


def all_cells() -> list[Cell]:
    """Each part with each blow."""
    return [(part, blow) for part in PARTS for blow in BLOWS]


def asked_cells(text: str) -> list[Cell]:
    """Those of "training/kill -9,sweep": a name may be shortened; all without a text."""
    if not text:
        return all_cells()
    found = [cell for cell in all_cells() if any(_is(cell, one) for one in text.split(","))]
    return found or sys.exit(f"--cells {text}: no such part or blow")


def _is(cell: Cell, asked: str) -> bool:
    part, _, blow = asked.partition("/")
    if not blow and cell[1].name.startswith(part):
        return True
    named = cell[0].name == part or (cell[0].name.startswith(part) and part not in NAMES)
    return named and cell[1].name.startswith(blow)


NAMES = {part.name for part in PARTS}


def round_of(seed: str) -> list[Cell]:
    """Each cell that applies, in an order that the seed decides; kill -9 comes first."""
    return ordered(all_cells(), seed)


def ordered(cells: Sequence[Cell], seed: str) -> list[Cell]:
    """Those of the cells that apply, as in `round_of`."""
    order = [cell for cell in cells if not cell[1].why_not(cell[0])]
    random.Random(seed).shuffle(order)
    return sorted(order, key=lambda cell: cell[1] is not BLOWS[0])


def trials(cells: Sequence[Cell], warm: Warm, seed: str) -> Iterator[tuple[Trial, float]]:
    """Each of the cells once; with the seconds that it took."""
    for part, blow in ordered(cells, seed):
        began = time.monotonic()
        yield attempt(part, blow, warm, seed), time.monotonic() - began
