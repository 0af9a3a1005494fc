"""The two halves of a model's bill: training and inference, counted and timed.

phases               one training step beside one prediction on the same batch, phase by phase
grids                the same for several models and batch sizes
chains               ratios multiplied along a ladder, and several that hold at once
shares               what of the machine's best rate a piece of work reaches
halves               a whole training beside one prediction of the trained model
training_ladders     ways to train one model, each held against the best before it
inference_ladders    forms of one trained model, each held against what it was in training
choice               the fastest of these forms within limits
"""

from kit.costs.choice import Fastest, fastest
from kit.costs.forms import Form
from kit.costs.grids import Bills, bills
from kit.costs.halves import TwoBills, energy_per_call, two_bills
from kit.costs.inference_ladders import InferenceLadder, inference_ladder
from kit.costs.phases import Bill, bill
from kit.costs.training_ladders import TrainingLadder, training_ladder

__all__ = [
    "Bill",
    "Bills",
    "Fastest",
    "Form",
    "InferenceLadder",
    "TrainingLadder",
    "TwoBills",
    "bill",
    "bills",
    "energy_per_call",
    "fastest",
    "inference_ladder",
    "training_ladder",
    "two_bills",
]
