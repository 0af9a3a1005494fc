"""The ledger: every claim well formed, and every verdict produced by its own rule."""

import html
import json
import math
import re
import tomllib
from pathlib import Path

import nbformat
import pytest

from kit.core.errors import BadValue, UnknownName
from kit.core.files import NOTEBOOKS
from kit.core.results import RECORD, records_in
from kit.core.statistics import Estimate, share_above
from kit.course import claims
from kit.course.claims import CANNOT_TELL, DOES_NOT, HOLDS, ONLY_IF, labels, ledger, verdict
from kit.course.earlier_lessons import measured_earlier
from kit.course.verdict_table import verdicts
from kit.experiments import lessons
from kit.experiments.execution import experiments

IDS = [f"{i:02d}" for i in range(1, 1 + len(ledger()))]
ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"\blessons?\s+\d\d\b((, | and | or | to )\d\d\b)*")  # "lessons 06 and 07"
RULE = re.compile(r"(>|>=|<|<=|==) (-?[\d.]+(e-?\d+)?)")
each_claim = pytest.mark.parametrize("id", IDS)


def number(rule: str, meets: bool) -> float:
    """A number that meets the rule, or does not."""
    sign, limit = rule.split()
    step = max(1.0, abs(float(limit)))
    above, below = float(limit) + step, float(limit) - step
    good, bad = {">": (above, below), "<": (below, above), "=": (float(limit), above)}[sign[0]]
    return good if meets else bad


def around(value: float, id: str, name: str) -> float | Estimate:
    """The value as the rule wants it: with a narrow interval, unless it is a count."""
    if not ledger()[id].needs_interval(name):
        return value
    return Estimate(value, value - 1e-9 * abs(value) - 1e-9, value + 1e-9 * abs(value) + 1e-9)


def measured(id: str, *broken: str) -> dict[str, float | Estimate]:
    """Quantities that meet all conditions of a claim but the broken ones."""
    return {
        name: around(number(rule, name not in broken), id, name)
        for name, rule in ledger()[id].conditions.items()
    }


# --- Well formed ---------------------------------------------------------------------------------


def test_the_claims_are_numbered_in_order():
    assert list(ledger()) == IDS


@each_claim
def test_a_claim_says_what_who_where_and_when_not(id):
    claim = ledger()[id]
    documents = tomllib.loads(Path(claims.__file__).with_suffix(".toml").read_text("utf-8"))[
        "documents"
    ]
    assert claim.claim and claim.stops.endswith(".") and claim.lessons + claim.later
    assert claim.said_by and set(claim.said_by) <= set(documents)
    there = {path.name[:2] for path in lessons()}
    assert set(claim.lessons) <= there | {"experiments"}
    assert not set(claim.later) & there, "it exists now: move it to `lessons`"


def test_what_a_claim_says_of_the_experiments_is_so():
    """`kit report` sends readers to them: one of them must measure it."""
    read = (nbformat.read(path, as_version=4) for path in experiments())
    code = "\n".join(cell.source for notebook in read for cell in notebook.cells)
    named = {id for id, claim in ledger().items() if "experiments" in claim.lessons}
    assert named and named <= set(re.findall(r'verdict\(\s*"(\d\d)"', code))


def test_no_text_names_a_lesson_that_does_not_exist():
    """What a reader may see: the kit's texts, the documents, and the cells of all notebooks."""
    there = {path.name[:2] for path in lessons()}
    texts = {
        path: path.read_text(encoding="utf-8")
        for folder, ends in (("kit", ("py", "toml", "js")), ("docs", ("md",)), (".", ("md",)))
        for end in ends
        for path in (ROOT / folder).glob(f"*.{end}" if folder == "." else f"**/*.{end}")
    }
    for path in NOTEBOOKS.rglob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        texts[path] = "\n".join(cell.source for cell in cells)
    unknown = {
        f"{path.relative_to(ROOT)}: {named[0]}"
        for path, text in texts.items()
        for named in NAMED.finditer(text)
        if not set(re.findall(r"\d\d", named[0])) <= there
    }
    assert not unknown


@each_claim
def test_a_rule_can_be_read(id):
    assert ledger()[id].holds
    assert all(RULE.fullmatch(rule) for rule in ledger()[id].conditions.values())


@each_claim
def test_each_quantity_of_a_rule_is_explained_and_no_other(id):
    claim = ledger()[id]
    assert list(claim.conditions) == list(claim.measures)
    assert all(len(meaning) > 20 for meaning in claim.measures.values())
    assert not set(claim.holds) & set(claim.everywhere)
    assert set(claim.equal) <= set(claim.conditions)


@each_claim
def test_a_rule_that_goes_further_says_under_which_condition(id):
    assert bool(ledger()[id].everywhere) == bool(ledger()[id].only_if)


# --- Verdicts ------------------------------------------------------------------------------------


@each_claim
def test_it_holds_if_all_conditions_are_met(id):
    assert verdict(id, **measured(id)).word == HOLDS


@each_claim
def test_it_does_not_hold_if_a_condition_of_its_core_is_broken(id):
    for name in ledger()[id].holds:
        assert verdict(id, **measured(id, name)).word == DOES_NOT
        assert verdict(id, **measured(id, *ledger()[id].everywhere, name)).word == DOES_NOT


@each_claim
def test_it_holds_only_if_where_it_is_not_met_everywhere(id):
    for name in ledger()[id].everywhere:
        assert verdict(id, **measured(id, name)).word == f"{ONLY_IF} {ledger()[id].only_if}"


@each_claim
def test_nobody_can_tell_what_was_not_measured(id):
    for name in ledger()[id].conditions:
        card = verdict(id, **{**measured(id), name: None})
        assert card.word == CANNOT_TELL
        assert "not measured here" in str(card.table()) and card.met[name] is None


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.04, 0.045, DOES_NOT),  # surely within the margin: no difference
        (-0.04, 0.06, CANNOT_TELL),
        (-0.06, 0.04, CANNOT_TELL),
        (0.01, 0.04, HOLDS),  # small, and yet surely above the limit
        (-0.09, -0.01, DOES_NOT),
    ],
)
def test_a_difference_within_the_margin_counts_as_none(low, high, word):
    effect = Estimate((low + high) / 2, low, high, "points")
    given = {**measured("07"), "data_over_model_effect": effect}
    assert ledger()["07"].equal == {"data_over_model_effect": 0.05}
    assert verdict("07", **given).word == word


def test_each_quantity_has_a_short_name_in_plain_words():
    """No name of a variable; and the unit says how its values are read."""
    quantities = {name for claim in ledger().values() for name in claim.conditions}
    assert set(labels()) == quantities
    for label, unit in labels().values():
        assert 8 < len(label) <= 56 and "_" not in label and not re.search("tpot|ttft|p99", label)
        assert unit in ("", "%", "points", "×", "s", "B", "days", "requests/s") or unit.isalpha()


VALUES = [
    ("14", "prediction_latency_s", Estimate(1.5e-4, 1.4e-4, 1.6e-4, "s"), "150 µs [140 to 160 µs]"),
    ("20", "edge_peak_bytes", 243_478_528, "243 MB"),
    ("11", "whole_run_ratio", 38_296.0897, "38,296 ×"),
    ("02", "weights_moved_by_inference", 0, "0 weights"),
    ("15", "late_answers_share", Estimate(0.976, 0.776, 0.998, "%"), "97.6 % [77.6 to 99.8 %]"),
    ("20", "edge_accuracy_drop", Estimate(0.0, -0.006, 0.006), "0 points [-0.600 to 0.600 points]"),
    ("16", "training_time_share", Estimate(2.4e-8, 2.2e-8, 2.6e-8), "under 0.001 %"),
    ("21", "large_model_tpot_s", Estimate(4.9, 4.9, math.inf, "s"), "at least 4.90 s"),
    ("21", "sustained_requests_per_s", Estimate(0, -math.inf, 900), "0 requests/s [at most 900"),
    ("23", "int8_size_ratio", 0.352, "0.352 ×"),
    ("36", "batched_cost_ratio", Estimate(0.46, 0.0, math.inf), "0.460 × [interval unknown]"),
    ("26", "training_cost_share", Estimate(0.5, 0.0, 1.0, "%"), "50.0 % [interval unknown]"),
]


@pytest.mark.parametrize(("id", "name", "value", "text"), VALUES)
def test_a_value_is_shown_as_people_read_it(id, name, value, text):
    card = verdict(id, **{**measured(id), name: value})
    assert card.shown(name).startswith(text)
    stored = card.to_dict()["measured"][name]  # the record is as it was
    assert stored == (value.to_dict() if isinstance(value, Estimate) else value)


@pytest.mark.parametrize(
    ("id", "name", "rule"),
    [
        ("20", "edge_peak_bytes", "< 250 MB"),
        ("19", "one_thread_peak_bytes", "< 1 GB"),
        ("14", "prediction_latency_s", "< 100 ms"),
        ("17", "training_to_prediction_time_ratio", "> 10,000 ×"),
        ("12", "frozen_time_ratio", "< 1.5 ×"),
        ("20", "edge_accuracy_drop", "< 1 point"),
        ("08", "cnn_over_mlp_accuracy_gain", "> 0 points"),
        ("06", "share_of_epochs_improving", "= 100 %"),
        ("38", "questions_changing_choice_count", "≥ 3 questions"),
    ],
)
def test_a_rule_has_the_unit_of_its_quantity(id, name, rule):
    card = verdict(id, **measured(id))
    assert card.claim.rule(name) == rule
    assert card.to_dict()["rule"] == ledger()[id].conditions


@pytest.mark.parametrize("unknown", [math.nan, Estimate(math.nan, math.nan, math.nan)])
def test_what_is_not_a_number_was_not_measured(unknown):
    card = verdict("01", weights_moved=1.0, loss_ratio=unknown)
    assert card.to_dict()
    assert card.word == CANNOT_TELL
    assert card.table()


@each_claim
def test_nobody_can_tell_where_the_interval_straddles_the_limit(id):
    for name, rule in ledger()[id].conditions.items():
        limit = float(rule.split()[1])
        around = Estimate(limit, limit - 0.1, limit + 0.1)
        assert verdict(id, **{**measured(id), name: around}).word == CANNOT_TELL


@each_claim
def test_an_interval_beyond_the_limit_decides(id):
    for name, rule in ledger()[id].holds.items():
        good, bad = number(rule, True), number(rule, False)
        if rule.startswith("=="):
            continue  # an interval around the very number leaves others open
        near = [Estimate(x, x - 1e-6 * abs(x), x + 1e-6 * abs(x) + 1e-9) for x in (good, bad)]
        assert verdict(id, **{**measured(id), name: near[0]}).word == HOLDS
        assert verdict(id, **{**measured(id), name: near[1]}).word == DOES_NOT


@each_claim
def test_an_interval_without_width_decides_nothing(id):
    """One sample: a median of it, with both ends at the same place."""
    for name, rule in ledger()[id].conditions.items():
        good = number(rule, True)
        card = verdict(id, **{**measured(id), name: Estimate(good, good, good)})
        assert card.word == CANNOT_TELL


def test_kinds_of_which_noise_decides_are_not_counted_as_unhurt():
    """Claim 05 with intervals that all contain the limit: nobody can tell."""
    noise = [Estimate(0.03, -0.1, 0.2, "points")] * 4
    given = {**measured("05"), "model_kinds_hurt_share": share_above(noise, 0.02)}
    assert verdict("05", **given).word == CANNOT_TELL
    hurt = [Estimate(0.1, 0.05, 0.2, "points")] * 3 + noise[:1]  # at least three of four
    given["model_kinds_hurt_share"] = share_above(hurt, 0.02)
    assert verdict("05", **given).word == HOLDS


@pytest.mark.parametrize("end", [-math.inf, math.inf])
def test_a_bound_from_one_side_decides_in_one_direction(end):
    """A least time per token: above the limit it refutes for sure, below it nobody can tell."""
    slow, quick = (Estimate(s, *sorted((s, end))) for s in (4.0, 0.05))
    slow_word, quick_word = (
        verdict("21", **{**measured("21"), "large_model_tpot_s": s}).word for s in (slow, quick)
    )
    assert (slow_word, quick_word) == ((HOLDS, CANNOT_TELL) if end > 0 else (CANNOT_TELL, DOES_NOT))


@each_claim
def test_what_varies_is_not_taken_as_a_bare_number(id):
    for name, rule in ledger()[id].conditions.items():
        bare = {**measured(id), name: number(rule, True)}
        if ledger()[id].needs_interval(name):
            with pytest.raises(BadValue, match=rf"{name}=.* needs an Estimate with its interval"):
                verdict(id, **bare)
        else:
            assert verdict(id, **bare).word == HOLDS


@each_claim
def test_times_scores_and_costs_need_an_interval(id):
    """What a clock, a sample of examples or a price decides is no count."""
    exact = re.compile(r"^(share of|FLOPs|bytes|least bytes|size on disk|weight bits|how many)")
    for name, meaning in ledger()[id].measures.items():
        if re.search(r"latency|_time_|_s$|cost|excess|tpot|goodput", name):
            assert ledger()[id].needs_interval(name) or exact.match(meaning), (name, meaning)


@each_claim
def test_no_two_quantities_of_a_rule_mean_the_same(id):
    meanings = list(ledger()[id].measures.values())
    assert len(set(meanings)) == len(meanings)


def test_what_is_unknown_does_not_save_a_core_that_is_broken():
    assert (
        verdict("11", **{**measured("11", "flops_ratio"), "whole_run_ratio": None}).word == DOES_NOT
    )


# --- The card ------------------------------------------------------------------------------------


@each_claim
def test_the_card_shows_claim_measurement_rule_verdict_and_where_it_stops(id):
    card = verdict(id, on="an MLP", **measured(id))
    shown = card._repr_html_()
    claim = ledger()[id]
    for text in (claim.claim, claim.stops, HOLDS, "an MLP", *claim.measures.values()):
        assert html.escape(text) in shown
    assert repr(card) == f"Claim {id}, “{claim.claim}”: holds here"
    assert card.to_dict()["verdict"] == HOLDS
    assert card.to_dict()["measured"] == {
        name: value.to_dict() if isinstance(value, Estimate) else value
        for name, value in measured(id).items()
    }


@pytest.mark.parametrize("wrong", ["1", "39", "claim 01", 1, ""])
def test_an_unknown_claim_lists_those_there_are(wrong):
    with pytest.raises(UnknownName, match=r"no claim is called .* 01, 02"):
        verdict(wrong)


def test_a_mistyped_claim_lists_the_near_ones():
    with pytest.raises(UnknownName) as told:
        verdict("011")
    assert "01" in told.value.near


@pytest.mark.parametrize(
    "given", [{}, {"loss_ratio": 0.1}, {"weights_moved": 1, "loss_ratio": 0, "x": 1}]
)
def test_wrong_quantities_are_explained(given):
    with pytest.raises(BadValue) as told:
        verdict("01", **given)
    for name, meaning in ledger()["01"].measures.items():
        assert f"{name} ({meaning})" in str(told.value)


@pytest.mark.parametrize("value", ["0.9", [0.9]])
def test_a_quantity_is_a_number(value):
    with pytest.raises(BadValue, match="weights_moved"):
        verdict("01", weights_moved=value, loss_ratio=0.1)


# --- Several in one table ------------------------------------------------------------------------


def test_a_table_of_verdicts_has_a_word_and_a_colour_for_each():
    cards = [verdict(id, **measured(id)) for id in IDS]
    table = verdicts(*cards)
    rows = table.table().rows
    assert [row[0][:2] for row in rows if row[0]] == IDS
    assert rows[0][2:] == ("weights that training moved", "150 %", "> 50 %", "yes")
    assert rows[1] == ("", "", "loss after ÷ before training", "-0.500 ×", "< 0.5 ×", "yes")
    assert len(table.table().header) <= 6
    bodies = re.findall(r"<tbody>.*?</tbody>", table._repr_html_().partition("<details>")[0])
    for card, body in zip(cards, bodies, strict=True):
        assert html.escape(card.claim.claim) in body and ", ".join(card.claim.said_by) in body
        assert f"solid {card.colour}" in body and f"<b>{html.escape(card.word)}</b>" in body
    details = table._repr_html_().partition("<details>")[2]
    assert all(html.escape(f"Where it stops holding: {c.claim.stops}") in details for c in cards)


@each_claim
def test_a_number_and_its_rule_stand_on_one_line(id):
    """A reader of lesson 11 could not match them: the number took three lines, its rule one."""
    card = verdict(id, **measured(id))
    lines = re.findall(r"<tr.*?</tr>", verdicts(card)._repr_html_().partition("<details>")[0])[1:]
    for name, line in zip(card.claim.conditions, lines, strict=True):
        text = html.unescape(re.sub(r"<[^>]+>", "", line))
        assert f"{card.claim.label(name)}{card.shown(name)}{card.claim.rule(name)}" in text
        assert not re.search(rf"\b{name.replace('_', ' ')}\b", line)  # a name of the code


def test_an_unknown_interval_is_explained_under_the_table():
    unknown = Estimate(0.46, 0.0, math.inf, "×")
    cards = [
        verdict("36", **{**measured("36"), **more})
        for more in ({}, {"batched_cost_ratio": unknown})
    ]
    known, told = (verdicts(card)._repr_html_().partition("<details>")[0] for card in cards)
    assert "Interval unknown: too little was measured" in told and "unknown" not in known
    assert "Interval unknown: too little was measured" in str(cards[1].table())


def test_each_verdict_of_a_table_keeps_its_own_record():
    cards = [verdict(id, **measured(id)) for id in ("01", "02", "03")]
    found = records_in({"data": verdicts(*cards)._repr_mimebundle_()})
    assert found == [card._repr_mimebundle_()[RECORD] for card in cards]


@pytest.mark.parametrize("given", [(), ("01",), ([],)])
def test_a_table_of_verdicts_needs_verdicts(given):
    with pytest.raises(BadValue, match=r"needs verdicts: kit\.verdicts\(kit\.verdict"):
        verdicts(*given)


# --- What another lesson measured -----------------------------------------------------------------


def stored(path, *verdicts, cpu="a small processor"):
    """A lesson's file with these verdicts as its outputs."""
    results = [{"kind": "Machine", "cpu": cpu}, *verdicts]
    outputs = [{"data": {RECORD: record}} for record in results]
    path.write_text(json.dumps({"cells": [{"outputs": outputs}]}))


def paused(value):
    return {"kind": "Verdict", "claim_id": "15", "measured": {"pause_cost_share": value}}


def lesson_10():
    return next(NOTEBOOKS.glob("10-*.ipynb")).name


def test_a_readers_own_lesson_counts_first(tmp_path):
    share = Estimate(0.02, 0.01, math.inf, "×")
    stored(tmp_path / lesson_10(), paused(0.5), paused(share.to_dict()))
    found = measured_earlier("10", "15", "pause_cost_share", tmp_path)
    assert (found.value, found.source) == (share, "lesson 10 on a small processor")


@pytest.mark.parametrize("value", [None, True, "0.1", {"value": "0.1"}, {"value": 1, "low": []}])
def test_what_is_not_a_measurement_is_not_used(value, tmp_path):
    stored(tmp_path / lesson_10(), paused(value))
    found = measured_earlier("10", "15", "pause_cost_share", tmp_path)
    assert found == measured_earlier("10", "15", "pause_cost_share", tmp_path / "nothing")


def test_a_damaged_lesson_falls_back_on_the_kits_own(tmp_path):
    (tmp_path / lesson_10()).write_text("{")
    found = measured_earlier("10", "15", "pause_cost_share", tmp_path)
    assert isinstance(found.value, Estimate) and "a small" not in found.source


def test_a_verdict_names_the_lesson_that_measured(tmp_path, monkeypatch):
    stored(tmp_path / lesson_10(), paused({"value": 0.02, "low": 0.01, "high": 0.03}))
    monkeypatch.chdir(tmp_path)
    late, archive = Estimate(0.9, 0.8, 1.0), Estimate(3.0, 2.0, 4.0)
    found = verdict(
        "15",
        on="an MLP",
        measured_in={"pause_cost_share": "10"},
        late_answers_share=late,
        offline_throughput_ratio=archive,
    )
    assert found.word.startswith("holds only if")
    assert found.on == "an MLP; lesson 10 on a small processor"
    assert "2.00 % [1.00 to 3.00 %] (lesson 10)" in str(found.table())
    assert found.to_dict()["measured_in"] == {"pause_cost_share": "10"}


def test_a_lesson_that_does_not_exist_is_refused():
    with pytest.raises(BadValue, match="lesson '77'"):
        measured_earlier("77", "15", "pause_cost_share")
