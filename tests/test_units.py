"""Numbers into words: three digits, decimal prefixes, a dash for the unknown."""

import math

import pytest

from kit.core.units import digits, span, words


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (1e-12, "s", "1.00 ps"),
        (0.000_001_234, "s", "1.23 µs"),
        (0.999_9, "s", "1.00 s"),  # rounded first, then scaled: never "1,000 ms"
        (0.999_4, "s", "999 ms"),
        (59.96, "s", "60.0 s"),
        (3_600, "s", "3,600 s"),  # never ks
        (-0.002, "s", "-2.00 ms"),
        (1, "B", "1 B"),
        (999, "B", "999 B"),
        (1_024, "B", "1.02 kB"),  # decimal: bytes ÷ (bytes/s) can be done in the head
        (999_999, "B", "1.00 MB"),
        (1e9, "B", "1.00 GB"),
        (0.5, "B", "0.500 B"),  # no milli-bytes
        (2.5e12, "FLOP", "2.50 TFLOP"),
        (9.9e10, "FLOP/s", "99.0 GFLOP/s"),
        (4e10, "B/s", "40.0 GB/s"),
        (31_434, "", "31.4 k"),
        (26, "", "26"),
        (1.5, "FLOP/byte", "1.50 FLOP/byte"),
        (0.000_5, "×", "0.000500 ×"),  # ratios take no prefix
        (12_000, "×", "12,000 ×"),
        (0.993_3, "%", "99.3 %"),
        (0.05, "%", "5.00 %"),
        (0.93 - 0.9, "points", "3.00 points"),  # a difference of shares, which is not a share
        (-0.003_37, "points", "-0.337 points"),
        (7_154.3, "examples/s", "7,154 examples/s"),
        (10.0, "examples", "10 examples"),  # a count has no decimals
        (8.5, "examples", "8.50 examples"),
        (10.0, "days", "10.0 days"),
        (1_600_000, "predictions", "1,600,000 predictions"),
        (math.inf, "s", "∞ s"),
        (math.inf, "answers", "∞ answers"),  # never
        (1e21, "FLOP", "1,000 EFLOP"),
    ],
)
def test_a_number_in_words(value, unit, text):
    assert words(value, unit) == text


@pytest.mark.parametrize("unknown", [None, math.nan])
@pytest.mark.parametrize("unit", ["s", "B", "%", "points", "×", ""])
def test_what_is_unknown_is_a_dash(unknown, unit):
    assert words(unknown, unit) == "—"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (99.94, "99.9"),
        (99.95, "100"),
        (0.012_34, "0.0123"),
        (1e-7, "1.00e-07"),
    ],
)
def test_three_significant_digits(value, text):
    assert digits(value) == text


@pytest.mark.parametrize("power", range(-12, 16))
def test_the_words_are_never_more_than_half_a_percent_off(power):
    prefixes = {"p": -12, "n": -9, "µ": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
    for mantissa in (1.0, 2.346, 9.994, 9.996):
        value = mantissa * 10.0**power
        number, _, unit = words(value, "FLOP/s").partition(" ")
        scale = 10.0 ** prefixes.get(unit.removesuffix("FLOP/s"), 0)
        assert float(number.replace(",", "")) * scale == pytest.approx(value, rel=0.005)


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (0.001, 0.002, "s", "1.00 to 2.00 ms"),
        (0.0009, 0.001, "s", "900 µs to 1.00 ms"),  # "900 to 1.00 ms" would mislead
        (0, 0.001, "s", "0 s to 1.00 ms"),
        (0.9, 1, "%", "90.0 to 100 %"),
        (5, 7, "", "5 to 7"),
    ],
)
def test_a_range_names_a_shared_unit_once(low, high, unit, text):
    assert span(low, high, unit) == text
