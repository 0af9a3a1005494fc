"""Watch a model learn: how it reads the same few images after more and more steps of a training."""

from __future__ import annotations

import base64
import html
import io
import os

import torch
from matplotlib.image import imsave
from torch import Tensor, nn

from kit.core.results import RECORDING
from kit.core.units import words
from kit.inference import device_of, evaluate, predict
from kit.plots.live import screen
from kit.training.hooks import StepInfo
from kit.workloads import Workload

LOOKS = {n * 10**k for n in (1, 2, 5) for k in range(9)} - {1, 2}  # the steps that get a row
FIRST_TOTAL = 500  # steps for whose rows there is room before the first step tells how many come
# JupyterLab scrolls by what an output grows, so that the next cell, which is then the active one,
# stays in its place. Here the table must stay, because its head has the images.
STEADY = (
    '<style class="kit-watch">'
    ".jp-Cell:has(.kit-watch) + .jp-Cell{overflow-anchor:none!important}</style>"
)
RIGHT = "background-color:rgba(0,158,115,.3);font-weight:bold"


class Watch:
    """A table that gets a row at the start, and after 5, 10, 20, 50, … steps."""

    def __init__(self, model: nn.Module, workload: Workload):
        self.workload, self.rows = workload, list[str]()
        self.total, self.last = FIRST_TOTAL, 0
        inputs, targets = workload.data["validation"]
        self.classes = targets.unique().tolist()  # in ascending order: a reader knows the answers
        self.images = torch.stack([_typical(inputs[targets == each]) for each in self.classes])
        self.screen = screen()
        self.look(0, model)

    def __call__(self, info: StepInfo) -> None:
        """The hook: called after each step."""
        self.total = info.total
        if info.step in LOOKS:
            self.look(info.step, info.model)

    def look(self, step: int, model: nn.Module) -> None:
        """Add a row: how the model reads the images now, and its score on the validation split."""
        self.last = step
        read = predict(model, self.images.to(device_of(model))).argmax(dim=1).tolist()
        share = words(evaluate(model, self.workload, "validation").mean.value, "%")
        cells = "".join(
            f'<td style="text-align:center;{RIGHT if a == b else "opacity:.6"}">{a}</td>'
            for a, b in zip(read, self.classes, strict=True)
        )
        self.rows.append(f'<tr><th scope="row">{step:,}</th>{cells}<td>{share}</td></tr>')
        if self.screen:
            text = f"after {step:,} steps: {' '.join(map(str, read))}, {share} right of all"
            steady = "" if os.environ.get(RECORDING) else STEADY
            self.screen.show(text, self._table([*self.rows, *self._to_come()]) + steady, last=True)

    def _to_come(self) -> list[str]:
        """Rows of the steps to come: the table has its height from the start, and nothing jumps."""
        steps = [step for step in sorted(LOOKS) if self.last < step <= self.total]
        empty = f'<td colspan="{len(self.classes) + 1}">&nbsp;</td>'
        return [f'<tr><th scope="row" style="opacity:.6">{n:,}</th>{empty}</tr>' for n in steps]

    def _repr_html_(self) -> str:
        return self._table(self.rows)

    def _table(self, rows: list[str]) -> str:
        images = "".join(map(_image_html, self.images[:, 0], self.classes))
        n = self.workload.size("validation")
        head = f'<th scope="col">after steps</th>{images}<th scope="col">of {n} right</th>'
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
            "<p>What the model reads in each image. On green: what its writer meant.</p>"
        )


def _typical(images: Tensor) -> Tensor:
    """Of images (N, 1, H, W), the one whose distance from their mean is the median."""
    far = (images - images.mean(dim=0)).flatten(1).norm(dim=1)
    return images[far.argsort()[len(far) // 2]]


def _image_html(image: Tensor, label: int) -> str:
    """The head of a column: an image, large enough to see."""
    buffer = io.BytesIO()
    imsave(buffer, image.cpu().numpy(), cmap="gray_r", vmin=0, vmax=1, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(f"an image of the handwritten digit {label}")
    style = "width:40px;height:40px;image-rendering:pixelated"
    return f'<th><img alt="{alt}" style="{style}" src="data:image/png;base64,{data}"></th>'


def watch(model: nn.Module, workload: Workload) -> Watch:
    """A hook for `kit.train` that shows how the model reads one image per class while it learns.

    In a notebook, rows are filled during the training; it takes a few milliseconds per row.

    Parameters
    ----------
    model
        The model before its training: it makes the first row.
    workload
        Images (N, 1, H, W) with one class each, such as those of `kit.workloads.vision()`.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> model = work.model("mlp")
    >>> watching = kit.watch(model, work)
    >>> _ = kit.train(model, work, steps=20, live=False, after_step=watching)
    >>> len(watching.rows)  # after 0, 5, 10 and 20 steps
    4

    Explained in lesson 00.
    """
    return Watch(model, workload)
