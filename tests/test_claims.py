"""The ledger: every claim well formed, and every verdict produced by its own rule."""

import html
import math
import re
import tomllib
from pathlib import Path

import pytest

from kit.course import claims
from kit.course.claims import CANNOT_TELL, DOES_NOT, HOLDS, ONLY_IF, ledger, verdict
from kit.errors import BadValue, UnknownName
from kit.estimates import Estimate

IDS = [f"{i:02d}" for i in range(1, 39)]
RULE = re.compile(r"(>|>=|<|<=|==) (-?[\d.]+(e-?\d+)?)")
each_claim = pytest.mark.parametrize("id", IDS)


def number(rule: str, meets: bool) -> float:
    """A number that meets the rule, or does not."""
    sign, limit = rule.split()
    step = max(1.0, abs(float(limit)))
    above, below = float(limit) + step, float(limit) - step
    good, bad = {">": (above, below), "<": (below, above), "=": (float(limit), above)}[sign[0]]
    return good if meets else bad


def measured(id: str, *broken: str) -> dict[str, float]:
    """Quantities that meet all conditions of a claim but the broken ones."""
    return {
        name: number(rule, name not in broken) for name, rule in ledger()[id].conditions.items()
    }


# --- Well formed ---------------------------------------------------------------------------------


def test_there_are_38_claims_in_order():
    assert list(ledger()) == IDS


@each_claim
def test_a_claim_says_what_who_where_and_when_not(id):
    claim = ledger()[id]
    documents = tomllib.loads(Path(claims.__file__).with_suffix(".toml").read_text("utf-8"))[
        "documents"
    ]
    assert claim.claim and claim.stops.endswith(".") and claim.lessons
    assert claim.said_by and set(claim.said_by) <= set(documents)
    assert all(re.fullmatch(r"\d\d|experiments", lesson) for lesson in claim.lessons)


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


@pytest.mark.parametrize("unknown", [math.nan, Estimate(math.nan, math.nan, math.nan)])
def test_what_is_not_a_number_was_not_measured(unknown):
    card = verdict("01", weights_moved=1.0, loss_ratio=unknown)
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
        assert verdict(id, **{**measured(id), name: Estimate(good, good, good)}).word == HOLDS
        assert verdict(id, **{**measured(id), name: Estimate(bad, bad, bad)}).word == DOES_NOT


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
    assert card.to_dict()["measured"] == measured(id)


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
