"""Using the weights: predict, evaluate, generate. Nothing here can change a weight.

prediction     a model's outputs for a batch, in evaluation mode and without a graph
evaluation     the score of a model on a split, with an interval
generation     a text after a prompt, and when each token came
streaming      the same, token by token: the loop of prefill and decode
decoding       prefill and decode: without a cache, with a cache, as a CUDA graph
sampling       from logits to a token: the likeliest, or one drawn at random
speculative    drafted tokens, of which the model accepts those that it would have written

Training imports inference, because validation is inference. Nothing here imports training: a
deployed model needs no training code.
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
