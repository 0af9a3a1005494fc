"""Published figures: each with class, date and source; what is derived is computed again here."""

import copy
import re
import tomllib
from pathlib import Path

import pytest

import kit
from kit.core.errors import BadValue, UnknownName
from kit.costs import published as room
from kit.costs.published import all_published, inputs_of, of_kind, read

FILE = Path(room.__file__).with_suffix(".toml")
CONTENTS = tomllib.loads(FILE.read_text(encoding="utf-8"))
FIGURES = {
    f"{entry.name}/{name}": figure
    for entry in all_published().values()
    for name, figure in entry.figures.items()
}


def test_there_is_something_of_each_kind():
    assert len(FIGURES) > 100
    kinds = ("model", "accelerator", "service", "share", "misquoted")
    assert all(len(of_kind(kind)) >= 3 for kind in kinds)


@pytest.mark.parametrize("name", all_published())
def test_a_figure_has_all_that_makes_it_worth_quoting(name):
    for figure in kit.published(name).figures.values():
        assert figure.kind in room.CLASSES and figure.unit and figure.source
        assert re.fullmatch(r"\d{4}(-\d\d)?", figure.date) and "1990" < figure.date < "2027"
        assert figure.value > 0
        if figure.low is not None:
            assert 0 < figure.low <= figure.value <= figure.high


def test_an_energy_is_measured_or_says_that_it_is_not():
    energies = [f for f in FIGURES.values() if f.unit in room.ENERGY_UNITS]
    assert len(energies) > 8
    assert {f.kind for f in energies} <= {"measured", "tdp-hours", "estimate", "derived"}
    assert all(f.includes or f.kind == "measured" for f in energies)


def test_each_source_is_used_and_no_rate_stands_in_two_files():
    text = FILE.read_text(encoding="utf-8")
    used = {key for key in CONTENTS["sources"] if re.search(rf'(source|rates) = "{key}"', text)}
    assert used == set(CONTENTS["sources"])
    limits = kit.devices.published_limits.published()
    for name, entry in CONTENTS["entries"].items():
        assert not (name in limits and {"peak", "bandwidth"} & set(entry["figures"])), name
        assert entry.get("accelerator", "NVIDIA T4") in CONTENTS["entries"]


@pytest.mark.parametrize("name", CONTENTS["derived"])
def test_what_is_derived_is_computed_again(name):
    """By Python, from the figures of the file: within 1 %."""
    entry = CONTENTS["derived"][name]
    formula = entry["formula"]
    for placeholder, figure in inputs_of(formula, all_published()).items():
        formula = formula.replace(placeholder, repr(figure.value))
    assert re.fullmatch(r"[\d.e+\-*/() ]+", formula)
    assert eval(formula) == pytest.approx(entry["value"], rel=0.01)


# The arithmetic once more by hand, without the file's figures: a figure typed wrongly shows here.
BY_HAND = {
    "deepseek-days-counted": 3 * 14.8e12 / 776e9,
    "deepseek-days-computed": 3 * 14.8e12 / 434e9,
    "deepseek-days-paid": 5.576e6 / 87_072,
    "deepseek-day-price": 226.75 * 8 * 24 * 2,
    "olmo-joules-per-token": 131e6 * 3600 / 4.05e12,
    "bloom-energy": 1_082_990 * 400,
    "bloom-request": 914_000 / 230_768,
    "gpt-3-in-prompts": 1287e6 / 0.24,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_arithmetic_agrees_with_the_figures_as_they_were_read(name):
    assert kit.published("derived").value(name) == pytest.approx(BY_HAND[name], rel=0.01)


BROKEN = {
    "class": ("class", "needs one of measured"),
    "source": ("source", r"needs a key of \[sources\]"),
    "unit": ("unit", "needs a value, a number, and its unit"),
    "value": ("value", "needs a value, a number, and its unit"),
}


def with_figure(**changed):
    """The file with the hours of a model changed; None removes a field."""
    contents = copy.deepcopy(CONTENTS)
    figure = contents["entries"]["bloom"]["figures"]["hours"]
    figure |= changed
    for field in [name for name, value in changed.items() if value is None]:
        del figure[field]
    return contents


@pytest.mark.parametrize("field, message", BROKEN.values(), ids=BROKEN)
def test_a_figure_without_it_is_refused(field, message):
    with pytest.raises(BadValue, match=f"bloom/hours: .*{message}"):
        read(with_figure(**{field: None}))


@pytest.mark.parametrize("date", ["", "soon", "2024-13", "July 2024"])
def test_a_figure_without_a_date_is_refused(date):
    with pytest.raises(BadValue, match=r"bloom/hours: date=.*2024-07"):
        read(with_figure(date=date))


def test_an_energy_of_a_class_that_measures_nothing_is_refused():
    contents = copy.deepcopy(CONTENTS)
    contents["entries"]["bloom"]["figures"]["energy"]["class"] = "count"
    with pytest.raises(BadValue, match="bloom/energy: class='count'"):
        read(contents)


def test_an_unknown_model_lists_similar_ones():
    with pytest.raises(UnknownName, match=r"did you mean 'llama-3.1-8b'"):
        kit.published("llama-3.1-8")
    with pytest.raises(UnknownName, match=r"no published figure of bloom is called 'joules'"):
        kit.published("bloom")["joules"]
    with pytest.raises(UnknownName, match="no kind"):
        of_kind("horse")


def test_an_accelerator_has_the_rates_of_the_other_file():
    h100 = kit.published("NVIDIA H100 SXM")
    assert h100.value("peak") == 989.5e12 and h100.value("bandwidth") == 3350e9
    assert str(h100["price"]) == "2.95 USD/h [1.99 to 5 USD/h]"


def test_experts_that_rest_compute_nothing():
    assert kit.published("deepseek-v3").computing_params == 37e9
    assert kit.published("gpt-3").computing_params == 175e9


def test_a_table_gives_each_figure_its_class_and_source():
    card = kit.published("bloom")
    table = card.table()
    assert len(table.rows) == len(card.figures)
    assert all(row[3] in room.CLASSES and row[5] == "[1]" for row in table.rows[:3])
    assert "[1] Luccioni et al." in table.details and "second-hand" in table.details
    assert card.to_dict()["figures"]["energy"]["class"] == "tdp-hours"


def test_what_is_derived_is_shown_in_words_and_its_formula_on_request():
    table = kit.published("derived").only("deepseek-days-paid").table()
    assert table.rows[0][0].startswith("until as much money") and table.rows[0][1] == "64 days"
    assert "{deepseek-v3/price} / {deepseek-service/price}" in table.details
