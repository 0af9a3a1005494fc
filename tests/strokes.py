"""Digits as people draw them: a few strokes each, x and y from 0 to 1 (y grows downwards)."""

from kit.course.drawn_digits import FIRST_HAND, Stroke, arc

DIGITS = FIRST_HAND

__all__ = ["DIGITS", "Stroke", "arc"]
