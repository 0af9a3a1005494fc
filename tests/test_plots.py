"""Figures: text that is escaped, pictures that describe themselves, a curve that costs little."""

import base64
import html
import io
import math
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from kit.plots import (
    Live,
    Note,
    Picture,
    Table,
    bars,
    curve,
    dots,
    images,
    lines,
    multiples,
    pareto_front,
    roofline,
    scatter,
    with_doubts,
)


def test_a_table_in_text_aligns_words_left_and_numbers_right():
    table = Table(("model", "time"), [("cnn", "9 ms"), ("perceptron", "12 ms")], "One thread.")
    assert repr(table).splitlines() == [
        "model        time",
        "cnn          9 ms",
        "perceptron  12 ms",
        "One thread.",
    ]


def test_a_table_in_html_shows_everything_and_runs_nothing():
    table = Table(("a", "b"), [("<script>", "1 & 2")], "x < y")
    shown = table._repr_html_()
    assert "<script>" not in shown
    assert all(html.escape(text) in shown for text in ("<script>", "1 & 2", "x < y"))
    assert shown.count("<tr") == 2


WIDE = Table(
    ("", "median since sending", "p99", "energy", "of all"),
    [
        ("batches of one", "1.24 ms [1.20 to 1.30 ms]", "—", "—", "—"),
        ("b", "2.00 ms [interval unknown]", "—", "—", "9"),
    ],
    "In short.",
)


def test_a_column_of_dashes_is_named_and_not_shown():
    for shown in (repr(WIDE), WIDE._repr_html_()):
        assert "Without a value here: p99, energy." in shown
        assert shown.count("p99") == shown.count("energy") == 1 and "of all" in shown
    assert len(WIDE.header) == len(WIDE.rows[0]) == 5  # programs find all columns
    assert "Without" not in repr(Table(("a", "b"), [("1", "—"), ("2", "3")]))
    assert "Without" not in repr(Table(("a", "b"), []))


def test_an_unknown_interval_is_explained_in_the_caption():
    told = "In short. Without a value here: p99, energy. Interval unknown: too little was measured"
    assert told in repr(WIDE) and told in WIDE._repr_html_()
    assert "nterval unknown" not in repr(Table(("a",), [("1.00 ms [0.9 to 1.1 ms]",)]))


def test_a_number_stays_on_its_line_and_its_interval_may_have_the_next():
    shown = WIDE._repr_html_()
    value, interval = "1.24 ms</span>", "[1.20 to 1.30 ms]</span>"
    assert (
        f'<span style="white-space:nowrap">{value} <span style="white-space:nowrap">{interval}'
        in shown
    )
    assert 'white-space:normal">median since sending</th>' in shown  # a long header wraps


def test_a_table_scrolls_in_a_box_that_shows_it_and_a_wide_one_by_keyboard():
    wide = Table([f"quantity {i}" for i in range(9)], [["12,345 ms"] * 9])
    narrow = Table(("a", "b"), [("1", "2")])
    named = 'role="region" aria-label="Table: quantity 0, quantity 1,'
    assert named in wide._repr_html_() and "tabindex" not in narrow._repr_html_()
    for table in (wide, narrow):
        shown = table._repr_html_()
        assert "overflow-x:auto" in shown and "local" in shown
        # The rows let the shadows through; JupyterLab's own colour of a row would cover them.
        assert re.findall("<tr[^>]*>", shown)[1:] == ['<tr style="background-color:transparent">']


def test_details_of_a_table_are_folded_away():
    table = Table(("a",), [("1",)], "In short.", "In full, with x < y.")
    assert repr(table).endswith("In short.\nIn full, with x < y.")
    folded = re.search(r"<details.*</details>", table._repr_html_())[0]
    assert "<summary>" in folded and "In full, with x &lt; y." in folded and "short" not in folded
    assert "<details" not in Table(("a",), [("1",)], "In short.")._repr_html_()


def test_the_first_doubt_stands_in_sight_and_the_others_are_folded_away():
    table = Table(("a",), [("1",)], *with_doubts("In short.", ["first", "second"], "In full."))
    assert repr(table).endswith(
        "In short. Doubts: first; 1 more below.\nAlso in doubt: second. In full."
    )
    seen, folded = table._repr_html_().split("<details")
    assert "first" in seen and "second" in folded and "second" not in seen
    assert with_doubts("In short.", ()) == ("In short.", "")


def test_a_table_without_header_or_caption_has_neither():
    shown = Table(("", ""), [("a", "b")])._repr_html_()
    assert "<thead>" not in shown and "<figcaption" not in shown


XS, YS = [1, 8, 64], [3.0, 2.0, 1.0]
PICTURES = {
    "lines": lambda: lines({"a": (XS, YS), "b": (XS, XS)}, "batch", "time (s)", caption="c < d"),
    "lines with bands": lambda: lines(
        {"a": (XS, YS)}, "x", "y", caption="c < d", log="xy", bands={"a": (YS, YS)}, level=("l", 2)
    ),
    "bars": lambda: bars(
        {"a": {"p": 1, "q": 2}, "b": {"p": 3}}, "time (s)", caption="c < d", unit="s"
    ),
    "images": lambda: images([[[0, 1], [1, 0]]] * 3, ["a", "b", "c"], caption="c < d"),
    "roofline": lambda: roofline({"f32": 1e11}, 4e10, {"mlp": (0.5, 1e9)}, caption="c < d"),
    "dots": lambda: dots(
        {"a": (3, 2, 4), "b": (5, 4, 9)}, "ratio", caption="c < d", unit="×", level=("l", 3)
    ),
    "multiples": lambda: multiples(
        ["a", "b"], {"time": ([1.0, None], "s"), "score": ([0.5, 0.9], "%")}, caption="c < d"
    ),
    "scatter": lambda: scatter(
        {"a": (1.0, (0.5, 0.4, 0.6)), "b": (2.0, (0.4, 0.3, 0.5))},
        "time",
        "score",
        caption="c < d",
        x_unit="s",
        y_unit="%",
        front=["a"],
    ),
}


def test_single_points_that_coincide_all_show_and_counts_are_whole():
    """A filled marker would hide the one below it; between 1 and 1 there is no other round."""
    shown = lines(
        {"each": ([1], [2.0]), "what it says": ([1], [2.0])}, "round", "ratio", caption=""
    )
    below, above = shown.figure.axes[0].lines
    assert above.get_markerfacecolor() == "none" != below.get_markerfacecolor()
    assert above.get_markersize() > below.get_markersize()
    shown.png()  # draws the ticks
    low, high = shown.figure.axes[0].get_xbound()
    ticks = shown.figure.axes[0].get_xticks()
    assert [tick for tick in ticks if low <= tick <= high] == [1]


@pytest.fixture(params=PICTURES)
def picture(request) -> Picture:
    return PICTURES[request.param]()


def test_a_picture_is_html_with_its_caption_as_alt_text(picture):
    shown = picture._repr_html_()
    details = f" {html.escape(picture.details)}" if picture.details else ""
    assert f'alt="c &lt; d{details}"' in shown and "<figcaption" in shown


# What the table of each picture must hold: all that was drawn.
SHOWN = {
    "lines": ("batch", "1", "8", "64", "3", "2"),
    "lines with bands": ("x", "8", "64", "l: 2."),
    "bars": ("a", "b", "1.00 s", "2.00 s", "3.00 s", "—"),
    "images": ("a", "b", "c"),
    "roofline": ("mlp", "0.500 FLOP/byte", "1.00 GFLOP/s", "100 GFLOP/s", "40.0 GB/s"),
    "dots": ("a", "3.00 ×", "[2.00 to 4.00 ×]", "b", "5.00 ×", "[4.00 to 9.00 ×]", "l: 3.00 ×"),
    "multiples": ("1.00 s", "—", "50.0 %", "90.0 %"),
    "scatter": ("1.00 s", "50.0 %", "[40.0 to 60.0 %]", "2.00 s", "40.0 %", "[30.0 to 50.0 %]"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_below_a_picture_stands_a_table_of_its_numbers(kind):
    shown = PICTURES[kind]()._repr_html_()
    (folded,) = re.findall(r"<details>(.*)</details>", shown)
    assert folded.startswith("<summary>The numbers of this picture</summary>")
    said = re.sub(r"<[^>]+>", " ", folded.partition("</summary>")[2])
    assert all(each in said for each in SHOWN[kind]), said
    assert folded.count("<tr") > 1 and "nan" not in said


def test_the_numbers_of_lines_stand_side_by_side_if_they_share_their_positions():
    bands = {"a": ([0.1, 0.2], [0.3, math.inf])}
    shown = {"a": ([1, 2.5], [0.2, 0.3]), "b": ([1, 2.5], [0.4, math.nan])}
    drawn = lines(shown, "size", "score", caption="", unit="%", bands=bands, level=("goal", 0.5))
    assert drawn.numbers == Table(
        ("size", "a", "b"),
        [("1", "20.0 % [10.0 to 30.0 %]", "40.0 %"), ("2.5", "30.0 % [at least 20.0 %]", "—")],
        "goal: 50.0 %.",
    )
    apart = lines({"a": ([1], [0.2]), "b": ([3], [0.4])}, "size", "score", caption="", unit="%")
    assert apart.numbers.header == ("", "size", "score")
    assert apart.numbers.rows == [("a", "1", "20.0 %"), ("b", "3", "40.0 %")]


@pytest.mark.parametrize("n, several", [(13, 1), (5_000, 1), (5_000, 9)])
def test_of_many_points_the_table_has_a_few_and_says_so(n, several):
    ys = [2.0, *[1.0] * (n - 2), 3.0]
    drawn = lines({f"line {i}": (range(n), ys) for i in range(several)}, "x", "y", caption="")
    rows, caption = drawn.numbers.rows, drawn.numbers.caption
    assert len(rows) <= 48 and f"line 0: {n:,} points from 1 to 3" in caption
    assert rows[0][-2] == "0" and rows[-1][-2] == f"{n - 1:,}"  # both ends are among them


def test_rows_above_each_other_have_where_they_begin_and_end():
    drawn = lines({"one": ([3, 1], [1, 1]), "two": ([2], [0])}, "s", "", caption="", rows=True)
    assert drawn.numbers.rows == [("one", "2", "1", "3"), ("two", "1", "2", "2")]


def test_small_images_leave_no_empty_space_below():
    """Little of the height is white below the last row of dark pixels."""
    from matplotlib.image import imread

    for rows in (1, 2):
        shown = images([[[1, 1], [1, 1]]] * 12, ["\n".join("a" * rows)] * 12, caption="Twelve.")
        dark = imread(io.BytesIO(shown.png()))[..., 0].min(axis=1) < 0.5
        below = len(dark) - 1 - np.flatnonzero(dark)[-1]
        assert below < 0.15 * len(dark)


def test_what_stands_over_small_images_is_in_their_alt_text():
    """A reader who does not see the digits hears which they are."""
    shown = images([[[0, 1], [1, 0]]] * 2, ["a 5", "a <0>"], caption="Two digits.")._repr_html_()
    assert 'alt="Two digits. From left to right: a 5; a &lt;0&gt;."' in shown
    data = re.search(r'src="data:image/png;base64,([^"]+)"', shown)[1]
    assert base64.b64decode(data).startswith(b"\x89PNG")


NAME = "$\\frac{$ <b>"  # two $ and a formula that is none
NAMED = {
    "lines": lambda: lines(
        {NAME: (XS, YS), "b": (XS, XS)}, NAME, NAME, caption="", level=(NAME, 1)
    ),
    "bars": lambda: bars({NAME: {NAME: 1, "q": 2}}, NAME, caption=""),
    "images": lambda: images([[[0, 1], [1, 0]]], [NAME], caption=""),
    "roofline": lambda: roofline({NAME: 1e11}, 4e10, {NAME: (0.5, 1e9)}, caption=""),
    "dots": lambda: dots({NAME: (3, 2, 4)}, NAME, caption="", level=(NAME, 3)),
    "multiples": lambda: multiples([NAME], {NAME: ([1.0], "s")}, caption=""),
    "scatter": lambda: scatter(
        {NAME: (1.0, (0.5, 0.4, 0.6))}, NAME, NAME, caption="", front=[NAME]
    ),
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_is_drawn_as_it_is_and_never_as_a_formula(kind):
    assert NAMED[kind]().png().startswith(b"\x89PNG")


def test_a_table_names_its_columns_and_rows_and_has_no_empty_header():
    shown = Table(("", "time"), [("cnn", "9 ms"), ("", "1 ms")])._repr_html_()
    assert re.findall(r"<th scope=.(\w+)", shown) == ["col", "row"]
    assert not re.search(r"<th[^>]*></th>", shown)


def test_the_axes_say_quantity_and_unit():
    (pane,) = PICTURES["lines"]().figure.axes
    assert (pane.get_xlabel(), pane.get_ylabel()) == ("batch", "time (s)")
    assert [text.get_text() for text in pane.get_legend().get_texts()] == ["a", "b"]


def test_what_is_not_joined_is_points_without_a_line():
    series = {"curve": (XS, YS), "marks": (XS, XS)}
    drawn = lines(series, "x", "y", caption="c", joined=["curve"]).figure.axes[0].get_lines()
    looks = [(line.get_linestyle(), line.get_marker()) for line in drawn]
    assert looks[0][0] != "None" and looks[0][1] == "None"
    assert looks[1][0] == "None" and looks[1][1] != "None"


def test_series_above_each_other_have_their_names_at_their_heights():
    series = {"curve": (XS, [4.0, 6.0, 5.0]), "seen by a": ([8], [-1]), "seen by b": ([8], [-2])}
    (pane,) = lines(series, "x", "", joined=["curve"], rows=True, caption="c").figure.axes
    assert pane.get_legend() is None and list(pane.get_yticks()) == [5, -1, -2]
    assert [label.get_text() for label in pane.get_yticklabels()] == list(series)


def test_a_stretch_of_the_x_axis_is_shaded_and_named():
    series, marked = {"a": (XS, YS)}, ("sound", 1.0, 8.0)
    (pane,) = lines(series, "x", "y", shaded=marked, level=("half", 2), caption="c").figure.axes
    (patch,) = pane.patches
    assert (patch.get_x(), patch.get_x() + patch.get_width()) == (1, 8)
    assert {text.get_text() for text in pane.get_legend().get_texts()} == {"a", "sound", "half"}


def test_lines_differ_in_marker_as_well_as_colour():
    drawn = PICTURES["lines"]().figure.axes[0].get_lines()
    assert (
        len({line.get_marker() for line in drawn}) == len({line.get_color() for line in drawn}) == 2
    )


def test_a_logarithmic_axis_is_marked_where_something_was_tried():
    (pane,) = PICTURES["lines with bands"]().figure.axes
    assert list(pane.get_xticks()) == XS
    assert [label.get_text() for label in pane.get_xticklabels()] == ["1", "8", "64"]


def test_bars_stack_their_parts_and_write_the_total():
    (pane,) = PICTURES["bars"]().figure.axes
    assert [text.get_text().strip() for text in pane.texts] == ["3.00 s", "3.00 s"]
    widths = [[bar.get_width() for bar in part] for part in pane.containers]
    assert widths == [[1, 3], [2, 0]]


def test_the_roof_is_the_lower_of_memory_and_processor():
    roof = PICTURES["roofline"]().figure.axes[0].get_lines()[0]
    for x, y in zip(roof.get_xdata(), roof.get_ydata(), strict=True):
        assert y == pytest.approx(min(1e11, 4e10 * x))
    assert 2.5 in roof.get_xdata()  # the ridge: 1e11 ÷ 4e10


# --- The live curve ------------------------------------------------------------------------------


def points(svg: str) -> list[tuple[float, float]]:
    pairs = re.search(r'points="([^"]*)"', svg)[1].split()
    return [tuple(map(float, pair.split(","))) for pair in pairs]


def test_an_unknown_end_has_no_bar():
    (pane,) = dots({"a": (3, None, 4), "b": (5, None, None)}, "ratio", caption="").figure.axes
    reach = sorted(segment[:, 0].tolist() for c in pane.collections for segment in c.get_segments())
    assert reach == [[3, 4], [5, 5]]


def test_counts_of_thousands_are_written_out_on_the_axis():
    (pane,) = dots(
        {"a": (700, 500, 900), "b": (1300, 1100, 1500)}, "errors", caption=""
    ).figure.axes
    written = [pane.xaxis.get_major_formatter()(tick) for tick in (800, 1200, 240_000)]
    assert written == ["800", "1,200", "240 k"]


def test_dots_stand_in_the_order_of_their_names_from_the_top():
    (pane,) = dots({"a": (3, 2, 4), "b": (5, 4, 9)}, "ratio", caption="").figure.axes
    assert [tick.get_text() for tick in pane.get_yticklabels()] == ["a", "b"]
    top, bottom = pane.get_ylim()[1], pane.get_ylim()[0]
    assert top < 0 < 1 < bottom
    reach = sorted(segment[:, 0].tolist() for c in pane.collections for segment in c.get_segments())
    assert reach == [[2, 4], [4, 9]]  # the intervals


@pytest.mark.parametrize("values", [[1.1, 1.3], [1.2e-3, 2.1e-3], [2.0, 7.0], [1e-4, 0.5]])
def test_each_pane_of_small_multiples_has_numbers(values):
    (pane,) = multiples(["a", "b"], {"time": (values, "s")}, caption="").figure.axes
    low, high = pane.get_xlim()
    shown = [at for at in pane.get_xticks() if low <= at <= high]
    assert 2 <= len(shown) <= 5 and all(pane.xaxis.get_major_formatter()(at) for at in shown)


def test_small_multiples_leave_out_what_is_unknown():
    panes = {"time": ([1.0, None], "s"), "score": ([0.5, 0.9], "%")}
    time_, score = multiples(["a", "b"], panes, caption="").figure.axes
    assert (len(time_.lines), len(score.lines)) == (1, 2)
    assert time_.get_ylim() == score.get_ylim()
    assert (time_.get_xscale(), score.get_xscale()) == ("log", "linear")  # shares end at 100 %


def test_small_multiples_show_intervals_fills_limits_and_a_choice():
    panes = {"time": ([(2.0, 1.0, 4.0), 3.0], "s"), "lost": ([0.1, (0.2, 0.1, 0.4)], "%")}
    given = {"hollow": ["b"], "half": ["a"], "limits": {"lost": 0.3, "time": None}, "chosen": "b"}
    time_, lost = multiples(["a", "b"], panes, caption="", **given).figure.axes
    intervals = [
        c.get_segments()[0][:, 0].tolist() for c in (*time_.collections, *lost.collections)
    ]
    assert intervals == [[1, 4], [0.1, 0.4]]
    a, b, ring = time_.lines
    assert (a.get_fillstyle(), b.get_markerfacecolor()) == ("left", "white")
    assert ring.get_markersize() > b.get_markersize()
    assert [len(time_.lines), len(lost.lines)] == [3, 4]  # the limit is a line


def test_a_bar_has_the_interval_that_is_given_for_it():
    intervals = {"a": (0.5, 100.0), "b": (2.0, 3.5)}
    (pane,) = bars({"a": {"p": 1}, "b": {"p": 3}}, "s", caption="", intervals=intervals).figure.axes
    wide, line = pane.lines
    assert list(line.get_xdata()) == [2, 3.5] and list(line.get_ydata()) == [1, 1]
    assert list(wide.get_xdata()) == pytest.approx([0.5, 3.9])  # cut: the bars stay visible
    assert [text.get_position()[0] for text in pane.texts] == pytest.approx([3.9, 3.5])


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({}, []),
        ({"only": (1, 1)}, ["only"]),
        ({"dear": (2, 1), "cheap": (1, 1)}, ["cheap"]),
        ({"worse": (1, 1), "same price": (1, 2)}, ["same price"]),
        ({"c": (3, 9), "a": (1, 5), "b": (2, 4)}, ["a", "c"]),
        ({"equal": (1, 1), "other": (1, 1)}, ["equal", "other"]),
        ({"small": (2, 3, 1), "beaten": (2, 9, 1), "quick": (1, 9, 1)}, ["quick", "small"]),
    ],
)
def test_nothing_beats_what_is_on_the_front(points, front):
    assert pareto_front(points) == front


def test_a_curve_puts_its_values_where_they_belong():
    """484 wide for `total` steps; the largest value 90 above the line at 96."""
    assert points(curve([2.0, 1.0], 4, "loss")) == [(0.0, 6.0), (121.0, 51.0)]


def test_the_last_curve_ends_at_the_last_step(monkeypatch):
    """A training that stops early would else be a stroke at the left edge of its picture."""
    drawn = []

    class Screen:
        def show(self, text, picture, last):
            drawn.append(picture)

    monkeypatch.setattr("kit.plots.live.screen", Screen)
    live = Live(100_000)
    live.draw([2.0, 1.0])
    live.draw([2.0, 1.0, 1.0, 1.0], last=True)
    assert "step 100,000</text>" in drawn[0] and "step 4</text>" in drawn[1]
    assert points(drawn[1])[-1][0] == 363.0  # three quarters of 484
    assert "<table" in drawn[1] and "<table" not in drawn[0]  # else it would close while you read


@pytest.mark.parametrize("n", [1, 200, 399, 12_345])
def test_a_curve_stays_small(n):
    drawn = points(curve([1.0] * n, n, "loss"))
    assert 1 <= len(drawn) <= 200
    assert {y for _, y in drawn} == {6.0}


def test_a_curve_says_in_words_what_it_shows():
    assert 'aria-label="loss &lt; 1"' in curve([0.5], 1, "loss < 1")


def test_without_a_screen_nothing_is_ever_due():
    live = Live(10, shown=False)
    live.drawn_at -= 1e6
    assert not live.due()
    live.draw([1.0], last=True)


@contextmanager
def terminal(monkeypatch) -> Iterator[Callable[[], str]]:
    """A real terminal as the standard error; gives what was shown there."""
    if not hasattr(os, "openpty"):
        pytest.skip("this system has no pseudo-terminals")
    ours, theirs = os.openpty()

    def shown() -> str:
        text = b""
        while select.select([ours], [], [], 0.3)[0]:  # a terminal hands it over in pieces
            text += os.read(ours, 10_000)
        return text.decode()

    with os.fdopen(theirs, "w") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        yield shown
    os.close(ours)


def test_a_terminal_shows_one_line_that_is_written_over(monkeypatch):
    with terminal(monkeypatch) as shown:
        live = Live(1_000)
        live.draw([2.0, 1.5])
        live.draw([2.0, 1.5, 1.25], "97 % right", last=True)
        first, second = shown().split("\r\x1b[K")[1:]
    assert first == "step 2 of 1,000 · training loss 1.5000"
    assert second.rstrip("\r\n") == "step 3 of 1,000 · training loss 1.2500 · 97 % right"
    assert second.endswith("\n")


def test_drawing_waits_until_it_has_cost_less_than_its_share(monkeypatch):
    with terminal(monkeypatch):
        live = Live(10)
        live.began = live.drawn_at = time.perf_counter() - 10.0
        live.spent_s = 0.09  # of ten seconds: below 1 %
        assert live.due()
        live.spent_s = 1e6
        assert not live.due()


def test_drawing_never_flickers(monkeypatch):
    with terminal(monkeypatch):
        live = Live(10)
        live.began -= 1e6
        live.drawn_at = time.perf_counter() + 1e3  # just now, however slow this machine is
        assert not live.due()


def test_drawing_counts_its_own_time(monkeypatch):
    with terminal(monkeypatch):
        live = Live(10)
        live.draw([1.0])
        assert 0 < live.spent_s < 10


def test_a_note_is_a_sentence_in_text_and_html():
    note = Note("1 < 2")
    assert repr(note) == "1 < 2"
    assert "1 &lt; 2" in note._repr_html_()


def test_points_stand_in_the_label_and_not_at_each_tick():
    from matplotlib.figure import Figure

    from kit.plots import overviews

    pane = Figure().subplots()
    overviews._finish(pane, "score lost", "points", False, 2)
    assert pane.get_xlabel() == "score lost, points"
    assert pane.xaxis.get_major_formatter()(0.02, 0) == "2"
