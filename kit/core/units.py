"""Numbers as text: 0.00124 s becomes "1.24 ms", and an unknown number becomes "—".

One rule holds for every unit: three significant digits and decimal prefixes. That includes bytes
(1 MB = 10⁶ bytes), so that you can divide bytes by bytes/s in your head. The kit never writes MiB.
"""

import math

UNKNOWN = "—"
PREFIXES = {
    -4: "p",
    -3: "n",
    -2: "µ",
    -1: "m",
    0: "",
    1: "k",
    2: "M",
    3: "G",
    4: "T",
    5: "P",
    6: "E",
}
COUNTED = {"", "B", "FLOP"}  # counts are whole: there are no milli-bytes
SHARES = {"%", "points"}  # stored from 0 to 1, shown in hundredths
WORDS = (
    "answers",
    "days",
    "examples",
    "parameters",
    "predictions",
    "queries",
    "requests",
    "samples",
    "steps",
    "years",
)  # units that are words take no prefix
COUNTS = {*WORDS} - {"days", "years"}  # of things: 10 examples, but 10.0 days


def words(value: float | None, unit: str = "") -> str:
    """The value as text with its unit, scaled by a decimal prefix.

    Parameters
    ----------
    value
        In base units (s, B, FLOP, FLOP/s, B/s, examples/s); None or NaN where unknown.
    unit
        "" counts in k, M, G; "×", "%" and "points" are never given a prefix. "%" takes a share, 0
        to 1. "points" (percentage points) takes a difference of two shares: from 90 % to 93 % are
        3 points, but 3 % of 90 % would be 2.7 points.

    Examples
    --------
    >>> words(0.00124, "s"), words(3_040_000, "B"), words(None, "s"), words(0.9933, "%")
    ('1.24 ms', '3.04 MB', '—', '99.3 %')
    >>> words(2.98, "×"), words(31_434), words(75, "s"), words(0.93 - 0.9, "points")
    ('2.98 ×', '31.4 k', '75.0 s', '3.00 points')
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if unit in SHARES:
        return f"{digits(100 * value)} {unit}"
    if unit in COUNTS and math.isfinite(value) and math.isclose(value, round(value)):
        return f"{value:,.0f} {unit}"
    if unit == "×" or unit.startswith(WORDS) or value == 0 or math.isinf(value):
        return f"{digits(value)} {unit}".strip()
    power = math.floor(math.log10(abs(float(f"{value:.2e}"))) / 3)
    power = min(max(power, 0 if unit in COUNTED else -4), 6)
    if unit == "s":
        power = min(power, 0)  # 1,200 s, never 1.2 ks
    scaled = value / 1000**power
    count = power == 0 and float(value).is_integer() and unit in COUNTED
    text = f"{value:.0f}" if count else digits(scaled)
    return f"{text} {PREFIXES[power]}{unit}".strip()


def plural(n: int, thing: str) -> str:
    """A number of things.

    >>> plural(1, "thread"), plural(2_000, "run")
    ('1 thread', '2,000 runs')
    """
    return f"{n:,} {thing}{'s' * (n != 1)}"


def span(low: float, high: float, unit: str = "") -> str:
    """A range as text, with the unit once if both ends share it.

    >>> span(8.11, 8.38, "×"), span(0.00098, 0.00112, "s")
    ('8.11 to 8.38 ×', '980 µs to 1.12 ms')
    """
    first, last = words(low, unit), words(high, unit)
    number, _, suffix = first.partition(" ")
    return f"{number if last.endswith(f' {suffix}') else first} to {last}"


def digits(value: float) -> str:
    """Three significant digits; an exponent only below 0.0001.

    >>> digits(0.0123), digits(1234.5), digits(99.95), digits(0)
    ('0.0123', '1,234', '100', '0')
    """
    if value == 0 or math.isinf(value):
        return f"{value:.0f}".replace("inf", "∞")
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if exponent < -4:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - exponent)}f}"
