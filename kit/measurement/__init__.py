"""How long a call takes, which of two is faster, and what this machine can do at best.

Nothing here knows what a model is. Six things make a measurement right, and each is here once:

wait        an accelerator must be idle before the clock is read           Stopwatch.time
warm up     first calls allocate and compile, so they are kept apart       warm_up
repeat      a single number does not show how far the next may differ      rounds
interleave  a machine's speed drifts, so calls to compare take turns       measure_parts, compare
interval    it says how precisely the repeats determine the number         Measurement
doubt       the machine may have done other work at the same time          Conditions

stopwatch   the clock: it waits for the device, warms up, and repeats in rounds
conditions  machine, threads and load during a timing, and the doubts that follow
memory      bytes that a call takes, page faults, and how to make caches cold
timing      `measure`: one call, with all its times
parts       `measure_parts`: the parts of one job, in the same rounds
agreement   `agree`: do two ways compute the same, and is their work equal?
comparison  `compare`: calls in turns, and the one rule for faster and slower
sweeps      `sweep`: one setting varied, all else equal
roofline    limits of a machine, and the share of them that some work reaches
peaks       `kit.peaks`: measures those limits and saves them
"""

from kit.core.statistics import samples_needed as samples_needed
from kit.measurement.agreement import Agreement as Agreement
from kit.measurement.agreement import agree as agree
from kit.measurement.comparison import Comparison as Comparison
from kit.measurement.comparison import compare as compare
from kit.measurement.comparison import ratios as ratios
from kit.measurement.conditions import Conditions as Conditions
from kit.measurement.conditions import Observer as Observer
from kit.measurement.conditions import compile_time as compile_time
from kit.measurement.memory import peak_bytes as peak_bytes
from kit.measurement.parts import Parts as Parts
from kit.measurement.parts import measure_parts as measure_parts
from kit.measurement.roofline import Peaks as Peaks
from kit.measurement.stopwatch import Call as Call
from kit.measurement.stopwatch import Stopwatch as Stopwatch
from kit.measurement.stopwatch import labelled as labelled
from kit.measurement.stopwatch import no_collection as no_collection
from kit.measurement.stopwatch import rounds as rounds
from kit.measurement.stopwatch import warm_up as warm_up
from kit.measurement.sweeps import Sweep as Sweep
from kit.measurement.sweeps import sweep as sweep
from kit.measurement.timing import Measurement as Measurement
from kit.measurement.timing import all_doubts as all_doubts
from kit.measurement.timing import measure as measure
