"""Using the weights: predict, evaluate, generate. Nothing here can change a weight.

prediction    a model's outputs for a batch, in evaluation mode and without a graph
scores        what the outputs for a whole split are worth, with an interval
generation    what a model writes after a prompt, and when each token came
streaming     the tokens one after another, as they come
readers       a model that reads on: all anew for each token, or with a cache
sampling      from logits to a token: the likeliest, or one drawn
drafts        guesses of the tokens to come, for a model to confirm many at once

This room does not know that training exists: a deployed model needs nothing else of the kit.
"""

from kit.inference.evaluation import Score, evaluate, judge
from kit.inference.generation import Generation, generate
from kit.inference.prediction import Runtime, device_of, evaluating, predict
from kit.inference.streaming import stream

__all__ = [
    "Generation",
    "Runtime",
    "Score",
    "device_of",
    "evaluate",
    "evaluating",
    "generate",
    "judge",
    "predict",
    "stream",
]
