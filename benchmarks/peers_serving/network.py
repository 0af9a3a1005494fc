"""What every peer serves: the kit's MLP as plain PyTorch, with the weights of the benchmark."""

import os

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

PORT = int(os.environ.get("PORT", "0"))
MAX_BATCH, WAIT_S, TIMEOUT_S = 32, 0.005, 0.25  # as the kit's server in the benchmark


def load():
    """The network in evaluation mode; it computes on one thread."""
    torch.set_num_threads(1)
    weights = load_file(os.environ["WEIGHTS"])
    layers = []
    for i in range(len(weights) // 2):
        weight, bias = weights[f"{i}.weight"], weights[f"{i}.bias"]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def predict(network, rows):
    """Rows (n, 64) of float32 -> logits (n, 10)."""
    torch.get_num_threads()  # a new thread takes all cores until it has asked
    with torch.inference_mode():
        return network(torch.from_numpy(np.array(rows, dtype=np.float32))).numpy()
