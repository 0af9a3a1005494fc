"""Exercises of lesson 00: counting work and bytes."""

from collections.abc import Callable

from kit.core.checks import is_number
from kit.core.errors import KitError
from kit.course.exercises.registry import exercise, hint_for_number


def layer_intensity(width: int, batch: int) -> float:
    """FLOPs per byte of a square float32 layer: weights, inputs and outputs are moved once."""
    return 2 * batch * width**2 / (4 * (width**2 + 2 * batch * width))


@exercise("00-flops")
def flops(answer: int) -> str | None:
    """A matmul of (64, 128) by (128, 10): how many numbers come out, and what does each cost?"""
    right = 2 * 64 * 128 * 10
    mistakes = {right / 2: "That counts the multiplications. Each comes with an addition."}
    hint = "Each of the 64 × 10 results is a sum of 128 products: 128 multiply-adds of 2 FLOPs."
    return hint_for_number(answer, right, mistakes, hint, within=0)


@exercise("00-one-example")
def one_example(answer: float) -> str | None:
    """For one example, a layer reads each weight once. How many FLOPs does it do with it?"""
    mistakes = {2: "2 FLOPs per weight is right, but a float32 weight is 4 bytes."}
    hint = "Divide 2 FLOPs per weight by 4 bytes per weight. The inputs hardly count."
    return hint_for_number(answer, layer_intensity(4096, 1), mistakes, hint)


@exercise("00-intensity", needs="function")
def intensity(answer: Callable[[int, int], float]) -> str | None:
    """Write a function of width and batch: FLOPs ÷ (bytes of weights, inputs and outputs)."""
    for width, batch in ((64, 1), (512, 32), (1000, 7)):
        given, wanted = answer(width, batch), layer_intensity(width, batch)
        if not is_number(given):
            raise KitError(f"it returned {given!r}, not a number")
        mistakes = {
            wanted / 2: "It should be twice as much: a multiply-add is 2 FLOPs.",
            batch / 2: "Inputs and outputs move too: batch × width numbers each.",
        }
        hint = f"For width {width} and batch {batch} it gives {given:.3g}; wanted {wanted:.3g}."
        if said := hint_for_number(given, wanted, mistakes, hint, within=1e-6):
            return said
    return None
