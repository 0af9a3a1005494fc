"""What a model costs on paper: parameters, bytes and FLOPs, counted, not timed.

The rule, named in each result: a multiply-add is 2 FLOPs, and of complex numbers 8, since it is
four of real ones (a complex convolution shows as the three real ones that PyTorch makes of it).
BatchNorm cannot train on one value per channel; a step with a single example then counts it as it
predicts, and the result says so. Matmuls, convolutions, recurrent
layers and attention are counted (by PyTorch's own counter, taught what it lacks). Elementwise
work, sums, sorting and look-ups are not, except the optimizer's, which is nothing else: AdamW
does 14 operations per parameter (Loshchilov & Hutter, "Decoupled Weight Decay Regularization",
2019, algorithm 2: 1 decay, 3 first moment, 4 second, 3 root, 3 update). An operation that does
more than elementwise work, and has no formula, is named in the result as not counted.

Attention has two conventions, and both are given:

full       every query meets every key, masked or not: PyTorch's counter, and every number here
           that does not say "causal"
causal     without the pairs that `is_causal=True` throws away: nearly half of them

Both count what is computed. A fused operation computes the scores again in the backward pass;
the MFU of PaLM (Chowdhery et al., 2022, appendix B) leaves that out, a few percent of a step.

Only a fused operation says that it is causal. Where the mask is a tensor, or attention is
written out as matmuls (PyTorch's "math" backend does that), the two conventions give the same.

Memory is what operations make, added up as long as it lives. What an operation needs only
inside itself (workspace) is not seen: on a CPU that is little, but for its LSTM, and for small
convolutions of a single example.

Bytes moved are the least that must cross memory if everything needed were read once and
everything made were written once; a table of embeddings is read whole:

predict    weights + inputs + outputs
forward    the same, and what is made and kept for backward is written
backward   weights and what was kept are read, gradients are written
optimizer  weights, gradients and two moments are read; weights and moments are written
"""

from kit.counting.counts import ADAMW_MOMENTS, ADAMW_OPERATIONS, Count, Work, count
from kit.counting.writing import GenerationCount, count_generation

__all__ = [
    "ADAMW_MOMENTS",
    "ADAMW_OPERATIONS",
    "Count",
    "GenerationCount",
    "Work",
    "count",
    "count_generation",
]
