"""Using the weights: predict, evaluate, generate. Nothing here can change a weight.

prediction     a model's outputs for a batch, in evaluation mode and without a graph
evaluation     the score of a model on a split, with an interval
generation     a text after a prompt, and when each token came
streaming      the same, token by token: the loop of prefill and decode
prefill_decode  prefill and decode: without a cache, with a cache, as a CUDA graph
sampling       from logits to a token: the likeliest, or one drawn at random
speculative    drafted tokens, of which the model accepts those that it would have written

Training imports inference, because validation is inference. Nothing here imports training: a
deployed model needs no training code.
"""

from kit.inference.evaluation import Score as Score
from kit.inference.evaluation import evaluate as evaluate
from kit.inference.evaluation import judge as judge
from kit.inference.generation import Generation as Generation
from kit.inference.generation import generate as generate
from kit.inference.prediction import Runtime as Runtime
from kit.inference.prediction import device_of as device_of
from kit.inference.prediction import evaluating as evaluating
from kit.inference.prediction import predict as predict
from kit.inference.prefill_decode import one_pass as one_pass
from kit.inference.streaming import stream as stream
