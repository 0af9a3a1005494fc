"""Exercises of lesson 00: counting work and bytes. A docstring is the first hint."""

from collections.abc import Callable

from kit.core.errors import KitError


def near(given: float, wanted: float, within: float = 0.02) -> bool:
    """Whether a number is within a share of the wanted one."""
    return abs(given - wanted) <= within * abs(wanted)


def layer_intensity(width: int, batch: int) -> float:
    """FLOPs per byte of a square layer in float32: weights, inputs and outputs moved once."""
    return 2 * batch * width**2 / (4 * (width**2 + 2 * batch * width))


def flops(answer: int) -> str | None:
    """A matmul of (64, 128) by (128, 10): how many numbers come out, and what does each cost?"""
    wanted = 2 * 64 * 128 * 10
    if answer == wanted:
        return None
    if answer == wanted // 2:
        return "That counts the multiplications. Each comes with an addition."
    return "Each of the 64 × 10 results is a sum of 128 products: 128 multiply-adds of 2 FLOPs."


def one_example(answer: float) -> str | None:
    """One example through a layer: each weight is read once. How many FLOPs is it used for?"""
    if near(answer, layer_intensity(4096, 1)):
        return None
    if near(answer, 2):
        return "2 FLOPs per weight is right, but a float32 weight is 4 bytes."
    return "Divide: 2 FLOPs per weight by 4 bytes per weight. The inputs hardly count."


def intensity(answer: Callable[[int, int], float]) -> str | None:
    """Write a function of width and batch: FLOPs ÷ (bytes of weights, inputs and outputs)."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    for width, batch in ((64, 1), (512, 32), (1000, 7)):
        given, wanted = answer(width, batch), layer_intensity(width, batch)
        if not isinstance(given, (int, float)):
            raise KitError(f"it returned {given!r}, not a number")
        if near(given, wanted, within=1e-6):
            continue
        if near(given, wanted / 2):
            return "Twice as much: a multiply-add is 2 FLOPs."
        if near(given, 2 * batch * width**2 / (4 * width**2)):
            return "Inputs and outputs move too: batch × width numbers each."
        return f"For width {width} and batch {batch} it gives {given:.3g}; wanted {wanted:.3g}."
    return None


EXERCISES: dict[str, Callable[..., str | None]] = {
    "00-flops": flops,
    "00-one-example": one_example,
    "00-intensity": intensity,
}
