"""The course's side of the bills over a life: options, the panel, and the lesson's figures."""

import math
import re
from dataclasses import replace

import nbformat
import numpy as np
import pytest

import kit
from kit.core.errors import BadValue, UnknownName
from kit.core.files import NOTEBOOKS
from kit.core.statistics import Estimate
from kit.costs.lifetime_options import options
from kit.costs.published import CLASSES, figures_table, of_kind
from kit.course.claims import verdict
from kit.course.sentences import unmarked_sentences

(LESSON,) = NOTEBOOKS.glob("14-*.ipynb")


def life(training_s, answer_s, **more):
    return kit.lifetime(training_s, answer_s, **{"answers_per_day": 1_000, **more})


# --- Options -------------------------------------------------------------------------------------


@pytest.fixture
def sizes():
    """The narrow one is dearer to train and cheaper to use: 10,000 answers make it even."""
    return options({"narrow": life(200.0, 0.01), "wide": life(100.0, 0.02)})


def test_the_demand_decides_which_is_cheapest(sizes):
    assert sizes.overtakes("narrow", "wide").value == pytest.approx(10_000)
    assert sizes.cheapest == "narrow"  # 365,000 answers in the year
    assert sizes.assume(answers_per_day=10).cheapest == "wide"
    assert "narrow costs least" in repr(sizes) and sizes.table().rows
    assert len(sizes.plot((10, 1_000)).figure.axes[0].containers) == 2
    assert sizes.to_dict()["options"]


def test_the_picture_has_an_interval_for_each_dearer_option():
    unsure = {"sure": life(200.0, 0.01), "unsure": life(100.0, Estimate(0.02, 0.015, 0.03, "s"))}
    picture = options(unsure).plot((10, 1_000))
    ends = [each[1][1].get_ydata() for each in picture.figure.axes[0].containers]
    assert ends[0][1] == 1  # at 1,000 answers a day, it is the cheapest: 1 without an interval
    assert ends[1][0] == 1 and ends[1][1] > 1.5  # the upper end of the other one
    assert "95 % intervals" in picture.caption


def test_it_may_be_at_once_or_never(sizes):
    both = options({"small": life(50.0, 0.01), "large": life(100.0, 0.02)})
    assert both.overtakes("small", "large").value == 0
    assert math.isinf(both.overtakes("large", "small").value)
    assert sizes.overtakes("wide", "narrow").value == 0  # cheaper from the first answer


def test_intervals_of_both_go_through():
    wide = life(100.0, 0.02)
    given = {"narrow": life(Estimate(200.0, 150.0, 300.0, "s"), 0.01), "wide": wide}
    even = options(given).overtakes("narrow", "wide")
    assert (even.low, even.high) == (pytest.approx(5_000), pytest.approx(20_000))
    unsure = {"narrow": life(200.0, Estimate(0.01, 0.005, 0.03, "s")), "wide": wide}
    assert options(unsure).overtakes("narrow", "wide").high == math.inf


def test_when_it_is_cheaper_in_words(sizes):
    assert sizes.when_cheaper("narrow", "wide").startswith("after 10,000 answers [")
    assert sizes.when_cheaper("wide", "narrow").startswith("up to 10,000 answers [")
    slower = options({"narrow": life(200.0, 0.02), "wide": life(100.0, 0.01)})
    assert slower.when_cheaper("narrow", "wide") == "never"
    assert slower.when_cheaper("wide", "narrow") == "from the first answer on"
    trains = Estimate(99.0, 90.0, 120.0, "s")
    close = options({"narrow": life(trains, 0.02), "wide": life(100.0, 0.02)})
    assert close.when_cheaper("narrow", "wide").endswith("we cannot tell")
    unsure = {"narrow": life(Estimate(99.0, 90.0, 120.0, "s"), 0.01), "wide": life(100.0, 0.02)}
    said = options(unsure).when_cheaper("narrow", "wide")
    assert said == "after at most 2,000 answers, perhaps from the first"


def test_a_training_that_may_cost_nothing_has_a_ratio_without_an_upper_end():
    may = {"a": life(100.0, 0.01, runs=(0, 10)), "b": life(100.0, 0.02, runs=4)}
    assert options(may).excess("training").value >= 1


def test_looking_at_one_phase_alone_costs_more():
    """Claim 27: the smallest bill of each phase, and an option in between that is cheapest."""
    lives = {"a": life(1e5, 0.01), "b": life(3e5, 0.001), "c": life(6e5, 0.0009)}
    three = options(lives).assume(answers_per_day=1e5)
    assert (three.smallest("training"), three.smallest("inference")) == ("a", "c")
    assert three.cheapest == "b"
    costs = {name: each.total("time").value for name, each in three.lives.items()}
    for phase, name in (("training", "a"), ("inference", "c")):
        assert three.excess(phase).value == pytest.approx(costs[name] / costs["b"])


def test_an_option_that_is_surely_cheapest_costs_nothing_extra_and_the_rule_can_read_it(sizes):
    assert sizes.excess("inference").value == 1
    ratios = {f"cheapest_{p}_excess_ratio": sizes.excess(p) for p in ("training", "inference")}
    met = verdict("27", **ratios, cases_needing_balance_share=None).met
    assert met["cheapest_inference_excess_ratio"] is False


def test_luck_in_the_smallest_bill_is_in_the_interval_of_the_excess():
    """Two train about equally long, and one of them is cheap to use: the other has luck."""
    lives = {"lucky": life(Estimate(99.0, 90.0, 110.0, "s"), 0.02), "good": life(100.0, 0.01)}
    found = options(lives).excess("training")
    assert found.low == 1 and found.value < found.high == pytest.approx(2.0, rel=0.02)
    surely = {**lives, "lucky": life(Estimate(80.0, 75.0, 85.0, "s"), 0.02)}
    assert options(surely).excess("training").low > 1.9
    free = {n: life(1.0, s, runs=0) for n, s in (("dear", 0.02), ("good", 0.01))}  # no training
    assert options(free).excess("training").high < 1.001


def test_what_both_share_cancels_in_the_excess():
    """A demand or a price moves both bills; rates were measured one by one."""
    lives = {"a": life(1e5, 0.01), "b": life(3e5, 0.001)}
    exact = options(lives).assume(answers_per_day=1e5).excess("training")
    priced = dict(answers_per_day=1e5, price_per_hour=(1.0, 2.0, 4.0))
    both = {n: each.assume(**priced, currency="USD") for n, each in lives.items()}
    found = options(both, "money").excess("training")
    assert found.value == pytest.approx(exact.value) and found.high == pytest.approx(found.low)
    rated = {**lives, "a": lives["a"].assume(inference=Estimate(0.01, 0.009, 0.011, "s"))}
    wide = options(rated).assume(answers_per_day=1e5).excess("training")
    assert wide.low < exact.value < wide.high < 1.12 * exact.value


def test_answers_in_turns_share_the_machines_pace():
    """Its pace changes in steps: that moves both bills, and not which one is the smaller."""
    pace = np.repeat([0.01, 0.019, 0.01, 0.014, 0.019], 20)
    timed = kit.compare({"narrow": lambda: None, "wide": lambda: None}, budget_s=0.01)
    times = {"narrow": pace, "wide": 1.3 * pace}
    timed = replace(
        timed,
        measurements={
            name: replace(each, times_s=tuple(times[name]))
            for name, each in timed.measurements.items()
        },
    )
    lives = options({n: life(1.0, m.mean) for n, m in timed.measurements.items()})
    alone, paired = lives.excess("inference"), lives.in_turns(timed).excess("inference")
    assert alone.value == paired.value == 1 and alone.high > 1.2 and paired.high < 1.001
    assert lives.in_turns(timed)["wide"].values["answer_s"] == pytest.approx(1.3 * pace.mean())
    unknown = replace(lives["narrow"].inputs["answer_s"], value=None)
    inputs = {**lives["narrow"].inputs, "answer_s": unknown}
    narrow = replace(lives["narrow"], inputs=inputs)
    untimed = replace(lives, lives={**lives.lives, "narrow": narrow})
    with pytest.raises(BadValue, match="answer_s=nan"):  # what is unknown is not 0 s
        untimed.in_turns(timed)


def test_the_rates_of_the_options_stand_side_by_side(sizes):
    table = sizes.rates("Here the narrow one wins.")
    assert [row[0] for row in table.rows] == ["narrow", "wide"]
    assert table.rows[0][1:] == ("200 s", "10.0 ms", "1 ×") or table.rows[0][3] == "1 ×"
    assert "narrow one wins" in table.caption and table.rows[1][3].startswith("1.9")


def test_balance_is_needed_where_either_phase_alone_misleads():
    lives = {"a": life(1e5, 0.01), "b": life(3e5, 0.001), "c": life(6e5, 0.0009)}
    assert options(lives).assume(answers_per_day=1e5).needs_balance()
    assert not options(lives).assume(answers_per_day=1e9).needs_balance()


def test_what_cannot_be_compared_is_refused(sizes):
    with pytest.raises(BadValue, match="at least two lives"):
        options({"one": life(1.0, 1.0)})
    with pytest.raises(BadValue, match="at least two lives"):
        options([life(1.0, 1.0), life(2.0, 1.0)])
    with pytest.raises(UnknownName, match="no bill is called 'wattage'"):
        options(sizes.lives, "wattage")
    priced = {c: life(1.0, 1.0, price_per_hour=1.0, currency=c) for c in ("USD", "EUR")}
    with pytest.raises(BadValue, match="USD and EUR; needs the same currency"):
        options(priced, "money")
    with pytest.raises(BadValue, match="all bills of time are 0"):
        sizes.assume(answers_per_day=0, runs=0)
    with pytest.raises(BadValue, match="answers_per_day='a': needs a number above 0"):
        sizes.plot(("a",))
    with pytest.raises(UnknownName, match="no option is called 'tall'"):
        sizes.overtakes("tall", "wide")
    with pytest.raises(UnknownName, match="no phase is called 'testing'"):
        sizes.excess("testing")


# --- The panel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def panel():
    return kit.live_lifetime(life(36_000.0, 0.1, price_per_hour=2.0, currency="USD"))


def test_each_price_and_rate_has_a_slider_that_begins_at_its_value(panel):
    names = ("training_s", "answer_s", "answers_per_day", "utilisation", "price_per_hour")
    assert set(names) <= set(panel.choices)
    assert panel.chosen["price_per_hour"] == 2.0 and panel.chosen["utilisation"] == 1.0
    labels = {each["label"]: each["texts"] for each in panel.panel.controls}
    assert "2 USD/h" in labels["price per hour"] and "25.0 %" in labels["utilisation"]


def test_a_moved_slider_moves_both_bills_and_the_break_even(panel):
    before = panel.panel.picture
    names = list(panel.choices)
    chosen = list(panel.panel.chosen)
    chosen[names.index("utilisation")] = panel.choices["utilisation"].index(0.25)
    panel.panel.set_state({"chosen": chosen})
    after = panel.panel.picture
    assert "Break-even after 360 days" in before and "Break-even after 90.0 days" in after
    assert "training 20 USD" in after
    chosen[names.index("retrainings_per_year")] = len(panel.choices["retrainings_per_year"]) - 1
    panel.panel.set_state({"chosen": chosen})
    assert "Break-even never" in panel.panel.picture


def test_a_panel_of_something_else_is_refused():
    with pytest.raises(BadValue, match=r"given int; needs a kit\.lifetime"):
        kit.live_lifetime(3)
    with pytest.raises(UnknownName, match="no assumption is called 'euro'"):
        kit.live_lifetime(life(1.0, 1.0), ["euro"])
    with pytest.raises(BadValue, match="training_joules has no value to start from"):
        kit.live_lifetime(life(1.0, 1.0), ["training_joules"])


def test_without_a_page_the_same_picture_is_there(panel):
    shown = panel._repr_mimebundle_()["text/html"]
    assert "<img alt=" in shown and "In JupyterLab" in shown


# --- The lesson's figures ------------------------------------------------------------------------

NOTEBOOK = nbformat.read(LESSON, as_version=4)
# A number with a unit of something that is measured: none stands in the text.
UNIT = r"%|×|times|Wh|kWh|MWh|GWh|J|W|USD|dollars|tons?|t CO2e?|g CO2e?|tokens|hours|days|GPUs?"
TYPED = re.compile(rf"(?<![\w.·-])\d[\d,.]*\s?(?:{UNIT})\b|\d[\d,.]*\s?[%×]")
ALLOWED = {
    "40 %": "the parameter of the call below it",
    "90 %": "a quoted claim",
    "3 ×": "6 ÷ 2",
    "10 %": "a question",
    "50 W": "the assumption that the kit names",
    "45.7 %": "published for PaLM: `share_while_running` in published.toml",
}


def prose():
    """The text before the exercises, where readers are given made-up numbers."""
    cells = [cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown"]
    text = "\n".join(cells)
    return re.sub(r"<!--.*?-->|`[^`]*`|\*Reading .*?\*", "", text).partition("## Exercises")[0]


def test_no_figure_of_the_text_is_typed_by_hand():
    found = {hit[0].strip() for hit in TYPED.finditer(prose())}
    assert found <= set(ALLOWED), found - set(ALLOWED)


def test_the_check_finds_a_typed_figure():
    for text in ("GPT-3 took 1,287 MWh.", "90 % of it", "a 3.5× rise", "2,788,000 hours"):
        assert TYPED.search(text), text
    assert not TYPED.search("6·*N*·*D* for part 4 of lesson 09, in 2024.")


def test_each_published_figure_of_the_lesson_has_class_date_and_source():
    code = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "code")
    entries = [kit.published(name) for name in re.findall(r'published\("(.+?)"\)', code)]
    entries += [each for kind in re.findall(r'of_kind\("(.+?)"\)', code) for each in of_kind(kind)]
    assert len(entries) > 8
    table = figures_table(entries)
    for row in table.rows:
        _, _, value, kind, date, source, _ = row
        assert value and kind in CLASSES and re.match(r"\d{4}", date)
        assert f"{source} " in table.details


def test_each_comparing_sentence_of_the_lesson_is_vouched_for():
    assert not unmarked_sentences(NOTEBOOK)
