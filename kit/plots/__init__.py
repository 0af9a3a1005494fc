"""Tables and pictures, made from labels and numbers only.

This room does not know the kit's result types, and it does not use pyplot or choose a backend.
A picture is HTML. Its caption, made from its numbers, is also its alt text.

Table              rows under a header, with a caption
Note               a sentence that contains measured numbers
Picture            a matplotlib figure with its caption
├── lines          values over a quantity, with intervals or markers
├── bars           one bar (or a stack) per name
├── images         a row of small greyscale images
├── roofline       work per second over work per byte, under the machine's limits
├── dots           one row per name: a value with its interval
├── multiples      the same rows in several panes, one quantity per pane
├── scatter        named points, and a line through the Pareto front
└── trade_offs     two costs of each point, with its score beside them
Live               a loss curve that grows during a training
"""

from kit.core.tables import Note, Table
from kit.plots.live import Live, curve
from kit.plots.overviews import dots, multiples, pareto_front, scatter, trade_offs
from kit.plots.pictures import Picture, axes, bars, images, lines, roofline

__all__ = [
    "Live",
    "Note",
    "Picture",
    "Table",
    "axes",
    "bars",
    "curve",
    "dots",
    "images",
    "lines",
    "multiples",
    "pareto_front",
    "roofline",
    "scatter",
    "trade_offs",
]
