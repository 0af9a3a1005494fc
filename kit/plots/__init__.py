"""Tables and pictures, made from labels and numbers only.

This room does not know the kit's result types, and it does not use pyplot or choose a backend.
A picture is HTML. Its caption, made from its numbers, is also its alt text; a table of its numbers
is folded away below it.

Table              rows under a header, with a caption
Note               a sentence that contains measured numbers
Picture            a matplotlib figure with its caption
├── lines          values over a quantity, with intervals or markers
├── bars           one bar (or a stack) per name
├── images         a row of small greyscale images
├── roofline       work per second over work per byte, under the machine's limits
├── dots           one row per name: a value with its interval
├── multiples      the same rows in several panes, one quantity per pane
└── scatter        named points, and a line through the Pareto front
Live               a loss curve that grows during a training
"""

from kit.core.tables import Note as Note
from kit.core.tables import Table as Table
from kit.core.tables import with_doubts as with_doubts
from kit.plots.live import Live as Live
from kit.plots.live import curve as curve
from kit.plots.overviews import dots as dots
from kit.plots.overviews import multiples as multiples
from kit.plots.overviews import pareto_front as pareto_front
from kit.plots.overviews import scatter as scatter
from kit.plots.pictures import Picture as Picture
from kit.plots.pictures import axes as axes
from kit.plots.pictures import bars as bars
from kit.plots.pictures import images as images
from kit.plots.pictures import lines as lines
from kit.plots.pictures import roofline as roofline
