"""The two halves of a model's bill: training and inference, counted and timed.

phases     one training step beside one prediction on the same batch, phase by phase
grids      the same for several models and batch sizes
shares     what of the machine's best rate a piece of work reaches
halves     a whole training beside one prediction of the trained model
ladders    ways to train one model, each held against the best before it
"""

from kit.costs.grids import Bills, bills
from kit.costs.halves import TwoBills, energy_per_call, two_bills
from kit.costs.ladders import Ladder, ladder
from kit.costs.phases import Bill, bill

__all__ = [
    "Bill",
    "Bills",
    "Ladder",
    "TwoBills",
    "bill",
    "bills",
    "energy_per_call",
    "ladder",
    "two_bills",
]
