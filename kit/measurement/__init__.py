"""How long a call takes, which of two is faster, and what this machine can do at best.

Nothing here knows what a model is. Six things make a measurement right, and each is here once:

wait        an accelerator must be idle before the clock is read           Stopwatch.time
warm up     first calls allocate and compile, so they are kept apart       warm_up
repeat      a single number does not show how far the next may differ      rounds
interleave  a machine's speed drifts, so calls to compare take turns       measure_parts, compare
interval    it says how precisely the repeats determine the number         Measurement
doubt       the machine may have done other work at the same time          Conditions
"""

from kit.core.statistics import samples_needed
from kit.measurement.agreement import Agreement, agree
from kit.measurement.comparison import Comparison, compare
from kit.measurement.conditions import Conditions, Observer, compile_time
from kit.measurement.memory import peak_bytes
from kit.measurement.parts import Parts, measure_parts
from kit.measurement.roofline import Peaks
from kit.measurement.stopwatch import (
    Call,
    Stopwatch,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.measurement.sweeps import Sweep, sweep
from kit.measurement.timing import Measurement, doubts_caption, measure

__all__ = [
    "Agreement",
    "Call",
    "Comparison",
    "Conditions",
    "Measurement",
    "Observer",
    "Parts",
    "Peaks",
    "Stopwatch",
    "Sweep",
    "agree",
    "compare",
    "compile_time",
    "doubts_caption",
    "labelled",
    "measure",
    "measure_parts",
    "no_collection",
    "peak_bytes",
    "rounds",
    "samples_needed",
    "sweep",
    "warm_up",
]
