"""How long a call takes: any call. Nothing here knows what a model is.

Six things make a stopwatch right, and each is in this file once:

wait        an accelerator's queue is empty before the clock is read       Stopwatch.time
warm up     first calls allocate and compile: they are kept apart          warm_up
repeat      one number says nothing about the next                         rounds
interleave  a machine drifts: things to compare take turns                 measure_parts, compare
interval    what the repeats allow one to say, and what they do not        Measurement
doubt       what else the machine did meanwhile                            Conditions
"""

from kit.estimates import samples_needed
from kit.measurement.conditions import Conditions, Observer, compile_time
from kit.measurement.memory import peak_bytes
from kit.measurement.parts import Parts, measure_parts
from kit.measurement.single import Measurement, doubts_told, measure
from kit.measurement.stopwatch import (
    Call,
    Stopwatch,
    check_budget,
    labelled,
    no_collection,
    rounds,
    warm_up,
)

__all__ = [
    "Call",
    "Conditions",
    "Measurement",
    "Observer",
    "Parts",
    "Stopwatch",
    "check_budget",
    "compile_time",
    "doubts_told",
    "labelled",
    "measure",
    "measure_parts",
    "no_collection",
    "peak_bytes",
    "rounds",
    "samples_needed",
    "warm_up",
]
