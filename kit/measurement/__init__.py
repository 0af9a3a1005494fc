"""How long a call takes: any call. Nothing here knows what a model is.

Five things make a stopwatch right, and each is in this file once:

wait        an accelerator's queue is empty before the clock is read       Stopwatch.time
warm up     first calls allocate and compile: they are kept apart          warm_up
repeat      one number says nothing about the next                         rounds
interleave  a machine drifts: things to compare take turns                 measure_parts, compare
interval    what the repeats allow one to say, and what they do not        Measurement
"""

from kit.measurement.parts import Parts, measure_parts
from kit.measurement.single import Measurement, measure, samples_needed
from kit.measurement.stopwatch import (
    Call,
    Stopwatch,
    check_budget,
    conditions_of,
    labelled,
    no_collection,
    rounds,
    warm_up,
)

__all__ = [
    "Call",
    "Measurement",
    "Parts",
    "Stopwatch",
    "check_budget",
    "conditions_of",
    "labelled",
    "measure",
    "measure_parts",
    "no_collection",
    "rounds",
    "samples_needed",
    "warm_up",
]
