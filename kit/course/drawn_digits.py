"""Twenty digits as people draw them on a screen: two hands, stored as strokes.

The dataset was scanned in the 1990s from paper forms. Here are strokes like those that a reader
draws in lesson 00: thinner lines, other shapes, and in the second hand smaller, leaning and out of
the middle. A lesson that runs without a reader uses them.

Shapes: H, W height and width of a drawing. Images are (20, 1, 8, 8).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from kit.course.drawing_panel import BITMAP, to_image
from kit.data import Split

Stroke = list[tuple[float, float]]  # x and y from 0 to 1; y grows downwards

PEN = 1 / 14  # of the side: as wide as the pen of the pad
SIDE = 8  # pixels of an image


def arc(
    x: float, y: float, width: float, height: float, start: float, end: float, points: int = 24
) -> Stroke:
    """Part of an ellipse around (x, y); angles in turns, clockwise from the right."""
    turns = [start + (end - start) * i / (points - 1) for i in range(points)]
    return [
        (x + width * math.cos(math.tau * turn), y + height * math.sin(math.tau * turn))
        for turn in turns
    ]


FIRST_HAND: dict[int, list[Stroke]] = {
    0: [arc(0.5, 0.5, 0.22, 0.34, -0.25, 0.75)],
    1: [[(0.36, 0.3), (0.52, 0.16), (0.52, 0.84)]],
    2: [[*arc(0.5, 0.33, 0.2, 0.17, -0.45, 0.1), (0.3, 0.83), (0.74, 0.83)]],
    3: [[*arc(0.48, 0.33, 0.2, 0.17, -0.4, 0.22), *arc(0.48, 0.67, 0.22, 0.17, -0.22, 0.4)]],
    4: [[(0.52, 0.16), (0.28, 0.58), (0.76, 0.58)], [(0.62, 0.38), (0.62, 0.86)]],
    5: [[(0.7, 0.17), (0.36, 0.17), (0.33, 0.47), *arc(0.48, 0.63, 0.22, 0.2, -0.35, 0.4)]],
    6: [[(0.6, 0.15), (0.38, 0.42), (0.32, 0.62), *arc(0.5, 0.66, 0.18, 0.18, 0.5, -0.5)]],
    7: [[(0.28, 0.18), (0.72, 0.18), (0.46, 0.84)], [(0.36, 0.5), (0.7, 0.5)]],
    8: [[*arc(0.5, 0.33, 0.17, 0.16, 0.25, -0.75), *arc(0.5, 0.67, 0.2, 0.17, -0.25, 0.75)]],
    9: [[*arc(0.5, 0.34, 0.18, 0.18, 0.0, -1.0), (0.66, 0.55), (0.58, 0.85)]],
}
# Other shapes of the same digits: a 1 without its hook, an open 4, a 7 without its bar, a 9 with
# a round foot.
SECOND_HAND: dict[int, list[Stroke]] = {
    0: [arc(0.5, 0.5, 0.3, 0.3, 0.1, 1.1)],
    1: [[(0.5, 0.15), (0.5, 0.85)]],
    2: [
        [
            *arc(0.5, 0.36, 0.24, 0.2, -0.5, 0.15),
            *arc(0.38, 0.76, 0.08, 0.07, 0.6, 1.2),
            (0.8, 0.8),
        ],
    ],
    3: [[(0.28, 0.18), (0.7, 0.18), (0.48, 0.44), *arc(0.46, 0.64, 0.24, 0.2, -0.2, 0.42)]],
    4: [[(0.34, 0.16), (0.32, 0.52), (0.74, 0.52)], [(0.72, 0.16), (0.68, 0.88)]],
    5: [
        [(0.36, 0.18), (0.36, 0.46), *arc(0.48, 0.62, 0.24, 0.22, -0.3, 0.42)],
        [(0.36, 0.18), (0.74, 0.16)],
    ],
    6: [[*arc(0.66, 0.5, 0.36, 0.36, -0.3, -0.5), *arc(0.5, 0.66, 0.2, 0.17, 0.5, -0.5)]],
    7: [[(0.26, 0.2), (0.74, 0.2), *arc(0.8, 0.86, 0.34, 0.6, -0.3, -0.5)]],
    8: [
        [
            *arc(0.52, 0.34, 0.16, 0.17, 0.0, -0.75),
            (0.4, 0.5),
            *arc(0.5, 0.68, 0.2, 0.16, -0.1, 0.85),
            (0.64, 0.3),
        ],
    ],
    9: [[*arc(0.5, 0.36, 0.2, 0.2, 0.0, -1.0), (0.7, 0.6), *arc(0.5, 0.68, 0.2, 0.18, 0.0, 0.4)]],
}  # fmt: skip
# Of the second hand: how large it draws, how far it leans, and how far from the middle.
SMALLER, LEANS, ASIDE = 0.8, 0.22, (0.07, -0.05)


def as_drawing(strokes: list[Stroke], side: int = BITMAP) -> NDArray[np.bool_]:
    """What the pad sends for these strokes: (H, W), true within half a pen of a line."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    ink = np.zeros((side, side), dtype=bool)
    for stroke in strokes:
        for (x0, y0), (x1, y1) in pairwise(stroke):
            dx, dy = x1 - x0, y1 - y0
            along = (((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12)).clip(0, 1)
            ink |= np.hypot(x - x0 - along * dx, y - y0 - along * dy) <= PEN / 2
    return ink


def second_place(stroke: Stroke) -> Stroke:
    """The stroke as the second hand puts it on the pad."""
    return [
        (
            0.5 + SMALLER * (x - 0.5 + LEANS * (0.5 - y)) + ASIDE[0],
            0.5 + SMALLER * (y - 0.5) + ASIDE[1],
        )
        for x, y in stroke
    ]


def drawings() -> tuple[list[NDArray[np.bool_]], list[int]]:
    """The twenty drawings (128, 128), and the digit of each."""
    first = [as_drawing(strokes) for strokes in FIRST_HAND.values()]
    second = [as_drawing([second_place(s) for s in strokes]) for strokes in SECOND_HAND.values()]
    return [*first, *second], [*FIRST_HAND, *SECOND_HAND]


def drawn_digits(prepared: bool = False) -> Split:
    """The twenty drawings as images (20, 1, 8, 8), 0 paper to 1 ink, with their digits (20,).

    Parameters
    ----------
    prepared
        True: prepared as the dataset's images were, by `kit.course.drawing_panel.to_image`. It
        straightens and scales the digit and gives it a pen of the right width. False: only made
        smaller, as by an application whose authors did not know of these steps.

    Explained in the lesson about drift.
    """
    inked, digits = drawings()
    images = [to_image(each) if prepared else made_smaller(each) for each in inked]
    return Split(torch.stack(images), torch.tensor(digits))


def made_smaller(drawing: NDArray[np.bool_]) -> torch.Tensor:
    """A drawing as an image (1, 8, 8): the share of ink in each of 64 blocks, and nothing else."""
    block = len(drawing) // SIDE
    blocks = drawing[: SIDE * block, : SIDE * block].reshape(SIDE, block, SIDE, block)
    return torch.from_numpy(blocks.mean(axis=(1, 3), dtype=np.float32))[None]
