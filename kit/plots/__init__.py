"""How things look: tables and pictures, made from labels and numbers alone.

Nothing here knows a type of the kit, touches pyplot or chooses a backend. A picture is HTML with
the alt text made from its numbers, shown as a caption too: it survives every front end.

Table              rows under a header, with a caption
Note               a sentence made from numbers
Picture            a matplotlib figure with its caption
├── lines          values over a quantity, with a band or marks
├── bars           one bar (or a stack) per name
├── images         a row of small grey images
├── roofline       work per byte against work per second, under the machine's limit
├── dots           one row per name: a value with its interval
├── multiples      the same rows in several panes, one quantity each
├── scatter        points with names, and the front that nothing beats
└── trade_offs     two costs against each other, and what each point is worth
Live               a loss curve that grows while a loop runs
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
