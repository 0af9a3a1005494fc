"""Training and inference, measured: the front door of the kit, the names that a notebook types.

device, machine, seed            where we are
peaks, layer_point               what is possible here: the roofline, and a point on it
sweep, scenarios                 one thing varied; one at a time, all at once, or as they come
data, models, workloads          what goes in, what computes, both under one name
count, count_generation          what a model costs on paper, and what to write a text
predict, evaluate                using the weights
generate, stream                 a text, token by token, and when each came
step, train, torchrun            changing the weights, in one process or many
save, load                       keeping the weights
measure, measure_parts           how long a call takes
agree, compare                   the same? better, and can we tell?
techniques                       other ways to run what was learnt
bill, bills                      a prediction beside a training step, counted and timed
two_bills                        a whole training beside a prediction of what it made
training_ladder                  ways to train one model, each held against the best before it
inference_ladder, fastest        forms of a trained model: speed, size, score; the fastest allowed
metered, energy_per_call         joules, where a counter can be read
guess, order                     what you expect, said before it is measured
explore, draw, chat              things to move by hand
verdict, check                   the ledger's card for a claim; is the exercise right?
recorded                         what a lesson measured on other machines
Estimate, units, figures         a number with its interval; in words; as tables and pictures
errors                           what can go wrong
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit import data, errors, figures, models, scenarios, techniques, units, workloads
    from kit.checkpoints import load, save
    from kit.comparison import agree, compare
    from kit.costs import (
        bill,
        bills,
        energy_per_call,
        fastest,
        inference_ladder,
        training_ladder,
        two_bills,
    )
    from kit.counting import count, count_generation
    from kit.course.chatting import chat
    from kit.course.claims import verdict
    from kit.course.drawing import draw
    from kit.course.elsewhere import recorded
    from kit.course.exercises import check
    from kit.course.ordering import order
    from kit.course.panels import explore, guess
    from kit.devices import device, machine, metered, seed
    from kit.estimates import Estimate
    from kit.inference import evaluate, generate, predict, stream
    from kit.limits import layer_point, peaks
    from kit.measurement import measure, measure_parts
    from kit.sweeps import sweep
    from kit.training import step, train

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "agree",
    "bill",
    "bills",
    "chat",
    "check",
    "compare",
    "count",
    "count_generation",
    "data",
    "device",
    "draw",
    "energy_per_call",
    "errors",
    "evaluate",
    "explore",
    "fastest",
    "figures",
    "generate",
    "guess",
    "inference_ladder",
    "layer_point",
    "load",
    "machine",
    "measure",
    "measure_parts",
    "metered",
    "models",
    "order",
    "peaks",
    "predict",
    "recorded",
    "save",
    "scenarios",
    "seed",
    "step",
    "stream",
    "sweep",
    "techniques",
    "torchrun",
    "train",
    "training_ladder",
    "two_bills",
    "units",
    "verdict",
    "workloads",
]

# Name -> the room that it is fetched from when first asked for; None: it is a room itself. So
# `import kit` costs nothing, and the command line needs no PyTorch to read a notebook.
_FROM: dict[str, str | None] = {
    "Estimate": "estimates",
    "agree": "comparison",
    "bill": "costs",
    "bills": "costs",
    "chat": "course.chatting",
    "check": "course.exercises",
    "compare": "comparison",
    "count": "counting",
    "count_generation": "counting",
    "data": None,
    "device": "devices",
    "draw": "course.drawing",
    "energy_per_call": "costs",
    "errors": None,
    "evaluate": "inference",
    "explore": "course.panels",
    "fastest": "costs",
    "figures": None,
    "generate": "inference",
    "guess": "course.panels",
    "inference_ladder": "costs",
    "layer_point": "limits",
    "load": "checkpoints",
    "machine": "devices",
    "measure": "measurement",
    "measure_parts": "measurement",
    "metered": "devices",
    "models": None,
    "order": "course.ordering",
    "peaks": "limits",
    "predict": "inference",
    "recorded": "course.elsewhere",
    "save": "checkpoints",
    "scenarios": None,
    "seed": "devices",
    "step": "training",
    "stream": "inference",
    "sweep": "sweeps",
    "techniques": None,
    "torchrun": "runs.launching",
    "train": "training",
    "training_ladder": "costs",
    "two_bills": "costs",
    "units": None,
    "verdict": "course.claims",
    "workloads": None,
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"kit has no {name!r}; it has {', '.join(__all__)}.")
    room = _FROM[name]
    if room is None:
        return import_module(f"kit.{name}")
    found = globals()[name] = getattr(import_module(f"kit.{room}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
