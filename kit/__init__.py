"""Training and inference, measured: the names that a notebook types.

`help(kit.NAME)` explains each of them; the README shows how they work together. A room, such as
`kit.models`, holds more than the names that it lends to this page.
"""

from typing import TYPE_CHECKING, Any

from kit.core.lazy import import_late, listed_names

# The one list of names: type checkers and editors read it here, and Python reads it below, so that
# a name's room is imported when the name is first used. `import kit` costs next to nothing, and
# the command line needs no PyTorch to check a notebook.
# isort: off
if TYPE_CHECKING:
    # This computer, and what it can do at best
    from kit.devices import device as device, machine as machine, seed as seed
    from kit.measurement.peaks import peaks as peaks

    # What goes in, what computes, and both under one name
    from kit import data as data, models as models, workloads as workloads

    # Training: one step, the loop, many processes
    from kit.training import step as step, train as train
    from kit.experiments.torchrun import torchrun as torchrun

    # Inference: outputs, a score, a text
    from kit.inference import evaluate as evaluate, generate as generate, predict as predict
    from kit.inference import stream as stream

    # A model in a small process, as on a device
    from kit import deployment as deployment
    from kit.deployment.small_process import edge as edge

    # Weights in files, and other forms of a trained model
    from kit import techniques as techniques
    from kit.checkpoints import load as load, save as save

    # Measuring
    from kit import loadgen as loadgen
    from kit.measurement import agree as agree, compare as compare, measure as measure
    from kit.measurement import measure_parts as measure_parts, sweep as sweep

    # A model behind HTTP, and traffic for it
    from kit.loadgen.traffic import traffic as traffic
    from kit.serving import serve as serve

    # A deployed model: has anything changed, did it matter, what now
    from kit import monitoring as monitoring
    from kit.monitoring import drift as drift

    # Costs: counted on paper, timed, for a whole training, over a model's life
    from kit.costs.counting import count as count
    from kit.costs.generation_counts import count_generation as count_generation
    from kit.costs.lifetime import lifetime as lifetime
    from kit.costs.planning import plan as plan
    from kit.costs.published import published as published
    from kit.costs.run_cost import run_cost as run_cost
    from kit.costs.step_cost import step_cost as step_cost
    from kit.costs.step_cost_grid import step_costs as step_costs

    # Ladders: one change at a time; the fastest form within limits
    from kit.ladders.fastest import fastest as fastest
    from kit.ladders.inference import inference_ladder as inference_ladder
    from kit.ladders.training import training_ladder as training_ladder

    # The course: guess first, measure, decide
    from kit.course.chat_panel import chat as chat
    from kit.course.claims import verdict as verdict
    from kit.course.conclusions import conclude as conclude
    from kit.course.drawing_panel import draw as draw
    from kit.course.exercises import check as check
    from kit.course.joining import join as join, leave as leave
    from kit.course.lifetime_panel import live_lifetime as live_lifetime
    from kit.course.ordering_panel import guess_order as guess_order
    from kit.course.panels import explore as explore, guess as guess
    from kit.course.pole_panel import balance as balance
    from kit.course.quiz import quiz as quiz
    from kit.course.recordings import recordings as recordings
    from kit.course.traffic_panel import live_traffic as live_traffic
    from kit.course.verdict_table import verdicts as verdicts
    from kit.course.watching import watch as watch

    # Numbers, words and pictures
    from kit.core import errors as errors, statistics as statistics, units as units
    from kit import plots as plots
# isort: on

__version__ = "0.1.0"

_ROOMS = listed_names(__file__)
__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        from kit.core.errors import UnknownName  # here: few programs ask for a wrong name

        near = UnknownName("name", name, __all__).hint
        raise AttributeError(f"kit has no {name!r}{near} It has: {', '.join(__all__)}.")
    room = _ROOMS[name]
    try:
        found = import_late(f"{room}.{name}")  # a room, or a file of one
    except ModuleNotFoundError as error:
        if error.name != f"{room}.{name}":
            raise
        found = getattr(import_late(room), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
