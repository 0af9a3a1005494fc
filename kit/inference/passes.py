"""Forward passes of a generation, without what only training needs.

In a small GPT, a token takes a few milliseconds: about a hundred operations, each of which takes
longer to start than to compute.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

OURS = ("kit.", "torch.nn.")  # modules of these packages keep no tensor of a forward pass


class Passes:
    """A `with` block around each forward pass of a model. It records no gradients.

    If all parts of the model are PyTorch's or the kit's, each operation starts sooner:

    - `torch.inference_mode`: tensors have no version counter and can never get gradients. A model
      that keeps such a tensor, for instance in a hook, could not be trained with it later. So all
      other models run with `torch.no_grad`.
    - Weights and parts lie in each module's own dict, where Python looks first. Elsewhere, only
      `nn.Module.__getattr__` finds them: a function in Python, about 20 calls per layer.
    """

    def __init__(self, model: nn.Module):
        parts = list(model.modules())
        self._lean = all(map(_keeps_nothing, parts))
        named = [(vars(p), names) for p in parts for names in (p._parameters, p._modules) if names]
        self._named = named if self._lean else []
        self._mode: Any = None

    def __enter__(self) -> None:
        self._mode = torch.inference_mode() if self._lean else torch.no_grad()
        self._mode.__enter__()
        # As they are now: between two passes, the caller may replace a part.
        for own, names in self._named:
            own.update(names)

    def __exit__(self, *error: object) -> None:
        for own, names in self._named:
            for name in names:
                own.pop(name, None)  # gone already if another thread generates, too
        self._mode.__exit__(*error)


def _keeps_nothing(part: nn.Module) -> bool:
    """Whether no tensor outlives a forward pass of this module."""
    hooked = part._forward_hooks or part._forward_pre_hooks
    return type(part).__module__.startswith(OURS) and not hooked
