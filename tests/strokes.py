"""Digits as people draw them: a few strokes each, x and y from 0 to 1 (y grows downwards)."""

import math

Stroke = list[tuple[float, float]]


def arc(
    x: float, y: float, width: float, height: float, start: float, end: float, points: int = 24
) -> Stroke:
    """Part of an ellipse around (x, y); angles in turns, clockwise from the right."""
    turns = [start + (end - start) * i / (points - 1) for i in range(points)]
    return [
        (x + width * math.cos(math.tau * turn), y + height * math.sin(math.tau * turn))
        for turn in turns
    ]


DIGITS: dict[int, list[Stroke]] = {
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
