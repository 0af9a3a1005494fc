"""Training and inference, measured: the front door of the kit, the names that a notebook types.

device, machine, seed            where we are
peaks, layer_point               what is possible here: the roofline, and a point on it
sweep, scenarios                 one thing varied; one at a time, all at once, or as they come
data, models, workloads          what goes in, what computes, both under one name
count                            what a model costs on paper
predict, evaluate                using the weights
step, train                      changing the weights
save, load                       keeping the weights
measure, measure_parts           how long a call takes
agree, compare                   the same? better, and can we tell?
techniques                       other ways to run what was learnt
bill, bills                      a prediction beside a training step, counted and timed
two_bills                        a whole training beside a prediction of what it made
metered, energy_per_call         joules, where a counter can be read
guess, explore, draw             things to move by hand
verdict, check                   the ledger's card for a claim; is the exercise right?
recorded                         what a lesson measured on other machines
Estimate, units, figures         a number with its interval; in words; as tables and pictures
errors                           what can go wrong
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kit import data, errors, figures, models, scenarios, techniques, units, workloads
from kit.checkpoints import load, save
from kit.comparison import agree, compare
from kit.counting import count
from kit.devices import device, machine, metered, seed
from kit.estimates import Estimate
from kit.inference import evaluate, predict
from kit.measurement import measure, measure_parts
from kit.training import step, train

if TYPE_CHECKING:
    from kit.costs import bill, bills, energy_per_call, two_bills
    from kit.course.claims import verdict
    from kit.course.drawing import draw
    from kit.course.elsewhere import recorded
    from kit.course.exercises import check
    from kit.course.panels import explore, guess
    from kit.limits import layer_point, peaks
    from kit.sweeps import sweep

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "agree",
    "bill",
    "bills",
    "check",
    "compare",
    "count",
    "data",
    "device",
    "draw",
    "energy_per_call",
    "errors",
    "evaluate",
    "explore",
    "figures",
    "guess",
    "layer_point",
    "load",
    "machine",
    "measure",
    "measure_parts",
    "metered",
    "models",
    "peaks",
    "predict",
    "recorded",
    "save",
    "scenarios",
    "seed",
    "step",
    "sweep",
    "techniques",
    "train",
    "two_bills",
    "units",
    "verdict",
    "workloads",
]

# What most programs never ask for is fetched when first asked for: widgets take half a second.
_LATER = {
    "bill": "costs",
    "bills": "costs",
    "check": "course.exercises",
    "draw": "course.drawing",
    "energy_per_call": "costs",
    "explore": "course.panels",
    "guess": "course.panels",
    "layer_point": "limits",
    "peaks": "limits",
    "recorded": "course.elsewhere",
    "sweep": "sweeps",
    "two_bills": "costs",
    "verdict": "course.claims",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"kit.{_LATER[name]}"), name)
    raise AttributeError(f"kit has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
