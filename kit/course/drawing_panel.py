"""The drawing panel of lesson 01: draw a digit and watch models read it.

to_image        turns a drawing into an image like those of the digits dataset
probabilities   each model's probabilities for an image
picture_html    the same as a picture: what the models see, and how sure each is
draw            makes the panel: a pad, and that picture beside it, which follows the pen

Shapes: H, W height and width of a drawing. Images are (1, 8, 8), as in the dataset.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
import traitlets
from matplotlib.image import imsave
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from kit.course.panels import CoursePanel
from kit.inference import device_of, predict

BITMAP = 128  # pixels per side of what the pad sends; the same as in drawing_panel.js
SIDE, BLOCK = 32, 4  # the dataset's bitmaps; its 8×8 images count the ink in each block
TALL, WIDE = 32, 20  # the part of a bitmap that digits fill: there is a margin left and right
WIDEN, HEIGHTEN = 1.25, 2.0  # most stretch relative to the other axis: a 1 stays thin
LEAN = 0.4  # columns per row: the largest slant that is straightened
INK = 313  # inked pixels per digit, mean over the dataset; each class lies between 303 and 330

BLUE, VERMILLION = "#0072B2", "#D55E00"  # Okabe & Ito
TEXT = "color:var(--jp-content-font-color1,inherit)"
TRACK = "var(--jp-layout-color3,rgba(128,128,128,.25))"


def to_image(drawing: ArrayLike) -> Tensor:
    """The drawing as an image like the dataset's: (1, 8, 8) float32, 0 paper to 1 ink.

    Parameters
    ----------
    drawing
        (H, W) of any size, true or non-zero where there is ink. Without ink, the image is zeros.

    Notes
    -----
    The digits were made by NIST's routines (Garris et al., "NIST Form-Based Handprint Recognition
    System", NISTIR 5469, 1994). These straighten a slanted digit and scale it to fill 20×32 pixels
    in the middle of 32×32. They erode a digit with too much ink and dilate one with too little.
    Then Alpaydın and Kaynak counted the ink in blocks of 4×4. This function does the same, with its
    own limits for each step, chosen so that drawn digits look like the data.

    Examples
    --------
    >>> to_image(np.ones((50, 50)))[0, 0].tolist()  # all ink: 6 of 32 columns are margin
    [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]

    Explained in lesson 01.
    """
    drawn = np.asarray(drawing, dtype=bool)
    if not drawn.any():
        return torch.zeros(1, SIDE // BLOCK, SIDE // BLOCK)
    bitmap = min(map(framed, pens(upright(drawn))), key=lambda tried: abs(int(tried.sum()) - INK))
    blocks = bitmap.reshape(SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK)
    return torch.from_numpy(blocks.mean(axis=(1, 3), dtype=np.float32))[None]


def upright(drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The drawing without its slant: each row is shifted so that the digit stands upright."""
    y, x = np.nonzero(drawn)
    down = y - y.mean()
    slant = np.clip((down @ x) / max(down @ down, 1), -LEAN, LEAN)  # least squares: x over y
    shifts = np.rint(-slant * (np.arange(len(drawn)) - y.mean())).astype(int)
    room = np.pad(drawn, ((0, 0), (abs(shifts).max(),) * 2))
    return np.stack([np.roll(row, shift) for row, shift in zip(room, shifts, strict=True)])


def pens(drawn: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The drawing with thicker and thicker pens; with thinner ones if it has too much ink."""
    reach = max(drawn.shape) // 10
    room = np.pad(drawn, reach)  # room for thicker lines
    outside, inside = distance_transform_edt(~room), distance_transform_edt(room)
    # Half a pen at most is taken away, so that lines do not break.
    end = reach if framed(drawn).sum() < INK else -inside.max() / 2
    return (outside - inside <= radius for radius in np.linspace(0, end, 12))


def framed(drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The inked part of a drawing, scaled into the frame of a (32, 32) bitmap."""
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    ink = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    tall = max(1, round(min(TALL, HEIGHTEN * WIDE * height / width)))
    wide = max(1, round(min(WIDE, WIDEN * TALL * width / height)))
    from_rows = ((np.arange(tall) + 0.5) * height / tall).astype(int)
    from_columns = ((np.arange(wide) + 0.5) * width / wide).astype(int)
    bitmap = np.zeros((SIDE, SIDE), dtype=bool)
    top, left = (SIDE - tall) // 2, (SIDE - wide) // 2
    bitmap[top : top + tall, left : left + wide] = ink[np.ix_(from_rows, from_columns)]
    return bitmap


def probabilities(models: Mapping[str, nn.Module], image: Tensor) -> dict[str, list[float]]:
    """Name -> the model's probability for each of the ten digits, given an image (1, 8, 8).

    The list is empty for an image without ink: a model would answer, but nothing was asked.
    """
    if not image.any():
        return {name: [] for name in models}
    return {
        name: predict(model, image[None].to(device_of(model))).float().softmax(dim=-1)[0].tolist()
        for name, model in models.items()
    }


def reads(shares: Sequence[float]) -> str:
    """The digit that a model reads, in words.

    >>> reads([0.01, 0.02, 0.9, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]), reads([])
    ('reads 2, 90 %', 'waits for ink')
    """
    if not shares:
        return "waits for ink"
    best = max(range(len(shares)), key=shares.__getitem__)
    return f"reads {best}, {percent(shares[best])}"


def percent(share: float) -> str:
    """The share rounded to percent; "> 99 %" instead of 100 %, because no model is certain.

    >>> percent(0.981), percent(0.9971), percent(0.002)
    ('98 %', '> 99 %', '0 %')
    """
    return "> 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def bars_html(name: str, shares: Sequence[float]) -> str:
    """One model's answer: its name, what it reads, and a bar for each digit."""
    best = max(shares, default=None)
    rows = "".join(
        _bar_html(digit, share, share == best) for digit, share in enumerate(shares or [0.0] * 10)
    )
    title = html.escape(name)
    return (
        f'<div role="img" aria-label="{title}: {reads(shares)}" style="width:184px">'
        f'<div style="line-height:20px">{title}</div>'
        f'<div style="font-size:16px;font-weight:600;line-height:28px">{reads(shares)}</div>'
        f"{rows}</div>"
    )


def _bar_html(digit: int, share: float, best: bool) -> str:
    """One row: digit, bar, percent. All rows have the same size."""
    colour, weight = (VERMILLION, 700) if best else (BLUE, 400)
    return (
        f'<div style="display:flex;align-items:center;height:20px;font-weight:{weight}">'
        f'<div style="width:16px">{digit}</div>'
        f'<div style="width:112px;height:12px;background-color:{TRACK}">'
        f'<div style="width:{100 * share:.1f}%;height:12px;background-color:{colour}"></div></div>'
        f'<div style="width:56px;text-align:right;white-space:nowrap">{percent(share)}</div></div>'
    )


def sees_html(image: Tensor, note: str) -> str:
    """What the models see: the image's 64 numbers as large squares, dark where there is ink."""
    buffer = io.BytesIO()
    squares = np.kron(image[0].cpu().numpy(), np.ones((20, 20)))
    imsave(buffer, squares, cmap="gray_r", vmin=0, vmax=1, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    note = html.escape(note)
    return (
        '<div style="width:162px"><div style="line-height:20px">What a model sees</div>'
        f'<img role="img" alt="{note}, as 8 by 8 grey squares" width="160" height="160" '
        f'style="margin:4px 0;border:1px solid var(--jp-border-color1,#bdbdbd)" '
        f'src="data:image/png;base64,{data}"><div style="opacity:.8">{note}</div></div>'
    )


def picture_html(image: Tensor, answers: Mapping[str, Sequence[float]], note: str) -> str:
    """The panel's picture: the image as the models see it, and each model's bars."""
    columns = [sees_html(image, note), *(bars_html(*answer) for answer in answers.items())]
    return (
        f'<div style="{TEXT};display:flex;flex-wrap:wrap;gap:24px;font-size:13px;line-height:20px;'
        f'font-variant-numeric:tabular-nums">{"".join(columns)}</div>'
    )


class Pad(CoursePanel):
    """A square to draw on with mouse, pen or finger; `drawing` follows ten times a second."""

    # One bit per pixel; what a browser sends arrives as a memoryview.
    bitmap = traitlets.Bytes(bytes(BITMAP * BITMAP // 8)).tag(
        sync=True, from_json=lambda sent, _: bytes(sent)
    )
    spoken = traitlets.Unicode().tag(sync=True)  # the answers as text, for screen readers

    @property
    def drawing(self) -> NDArray[np.bool_]:
        """The drawing, (128, 128), true where there is ink."""
        bits = np.unpackbits(np.frombuffer(self.bitmap, dtype=np.uint8))
        return bits.reshape(BITMAP, BITMAP).astype(bool)


class Panel(ipywidgets.HBox):
    """The pad, and beside it what the models see and how they read it."""

    def __init__(self, models: Mapping[str, nn.Module], example: Tensor, label: str):
        self.models = dict(models)
        self.pad = Pad()
        self.picture = ipywidgets.HTML()
        layout = ipywidgets.Layout(flex_flow="row wrap", grid_gap="24px", align_items="flex-start")
        super().__init__([self.pad, self.picture], layout=layout)
        self._show(example, f"an example from the data{label and f', {label}'}")
        self.pad.observe(self._follow, names="bitmap")

    def _show(self, image: Tensor, note: str) -> None:
        answers = probabilities(self.models, image)
        self.picture.value = picture_html(image, answers, note)
        self.pad.spoken = "; ".join(f"{name} {reads(shares)}" for name, shares in answers.items())

    def _follow(self, change: Any) -> None:
        self._show(to_image(self.pad.drawing), "your drawing")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, and its picture for pages and saved notebooks without a kernel."""
        return {**super()._repr_mimebundle_(**options), "text/html": self.picture.value}


def draw(models: Mapping[str, nn.Module], example: Tensor, label: object = None) -> Panel:
    """A panel to draw a digit on and watch each model's probabilities change.

    Parameters
    ----------
    models
        Name -> model with logits (B, 10) for images (B, 1, 8, 8).
    example
        An image, (1, 8, 8), that is shown before the first stroke and on pages without a kernel.
    label
        The digit on that image, named in its description for people who cannot see it.

    Explained in lesson 01.
    """
    return Panel(models, example, "" if label is None else f"a {label}")
