"""A file with the outputs of a model when all was well: what a server compares its answers with.

Shapes: N examples, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from kit.core.errors import BadValue
from kit.core.files import atomic_write
from kit.core.tensor_files import header, pack, read, unpack
from kit.monitoring.two_samples import Numbers

OUTPUTS = "reference_outputs"


def save_reference(path: str | Path, model: nn.Module, inputs: Any) -> Path:
    """Write what a classifier answers to these inputs: the reference of `kit.serve(watch=path)`.

    Parameters
    ----------
    path
        Where to; safetensors with a digest, by convention named `….safetensors`.
    model
        A classifier with logits (B, C).
    inputs
        Inputs (N, …) from a time when all was well, or a split. Do not give the training data: a
        model is surer of what it was trained on.

    Raises
    ------
    NotEnoughSamples
        Fewer than ten examples.
    BadValue
        NaN or infinity, outputs that are all the same, or the path is a folder.

    Examples
    --------
    >>> import tempfile, torch, kit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_reference(f"{folder}/r.safetensors", kit.models.MLP(), torch.rand(50, 64))
    ...     read_reference(path).shape
    (50, 10)

    Explained in lesson 13.
    """
    from kit.monitoring.views import (
        as_examples,
        check_given_model,
        check_pair,
        check_views,
        views_of,
    )

    target = Path(path)
    if target.is_dir():
        raise BadValue(f"{target} is a folder: give the name of a file in it.")
    check_given_model(model)
    examples, _ = as_examples("reference", inputs)
    check_pair(examples, examples, alpha=0.05, tests=1)
    views = views_of(model, examples)
    check_views(views, views, "outputs")
    tensors = {OUTPUTS: _tensor(views["outputs"])}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as draft:
        draft.write_bytes(pack(tensors))
    return target


def _tensor(outputs: Numbers) -> Any:
    import torch

    return torch.from_numpy(outputs).float()


def read_reference(path: str | Path) -> Numbers:
    """The probabilities (N, C) in a file that `save_reference` wrote.

    Raises
    ------
    CheckpointRefused
        There is no such file, or it was cut off or changed.
    BadValue
        It holds something else.
    """
    source = Path(path)
    data = read(source)
    found = unpack(source, data) if OUTPUTS in header(source, data) else {}
    outputs = found.get(OUTPUTS)
    if outputs is None or outputs.ndim != 2 or not outputs.is_floating_point():
        raise BadValue(
            f"{source} holds no reference outputs. kit.monitoring.save_reference(path, model, "
            f"inputs) writes a file that does."
        )
    return np.asarray(outputs.double().numpy())
