"""Lesson 15's parts: texts without leaks, roads, rules that exclude, plans for two phases."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import fresh

from kit.core.errors import BadValue, ShapeMismatch, UnknownName
from kit.core.statistics import Estimate
from kit.costs import two_plans
from kit.course.approaches import (
    Road,
    approaches,
    case_answers,
    influence,
    options,
    recommend,
    roads_table,
    train_all,
)
from kit.course.claims import ledger
from kit.data import read_docstrings
from kit.data.docstrings import MODULES, Texts, masked
from kit.models.fine_tuned import LastBlocks, lower_states
from kit.training.fine_tuning import fine_tune


def share(value: float) -> Estimate:
    return Estimate(value, value - 0.03, value + 0.03, "%")


def road(scores: dict[int, float], answer_s: float, keep_bytes: int) -> Road:
    every = {n: share(value) for n, value in scores.items()}
    answer = Estimate(answer_s, 0.9 * answer_s, 1.1 * answer_s, "s")
    return Road(every, {n: 0.1 * n for n in scores}, answer, keep_bytes)


@pytest.fixture
def roads() -> dict[str, Road]:
    return {
        "words": road({1: 0.3, 4: 0.5, 16: 0.7, 32: 0.8}, 3e-4, 100_000),
        "head": road({1: 0.4, 4: 0.6, 16: 0.76, 32: 0.81}, 1e-2, 91_000_000),
        "last-block": road({4: 0.62, 16: 0.77}, 1e-2, 91_000_000),
        "as-is": road({0: 0.65}, 1e-2, 91_000_000),
    }


# --- The texts -----------------------------------------------------------------------------------


def test_no_docstring_is_in_two_splits_and_none_names_its_module():
    docs = read_docstrings()
    splits = (docs.train, docs.validation, docs.test)
    texts = [text for split in splits for text in split.texts]
    assert len(set(texts)) == len(texts)
    assert not [t for t in texts if re.search("|".join(MODULES), t, re.IGNORECASE)]
    assert np.bincount(docs.test.labels).tolist() == [30] * 10 and docs.chance == 0.1
    assert not [d for d in docs.descriptions if re.search("|".join(MODULES), d, re.IGNORECASE)]


def test_no_test_text_has_a_near_copy_among_those_to_learn_from():
    docs = read_docstrings()

    def words(text):
        return set(re.findall(r"\w+", text.lower()))

    learn = [words(text) for text in docs.train.texts]
    for text in map(words, docs.test.texts):
        assert max(len(text & each) / len(text | each) for each in learn) <= 0.5


def test_labelled_texts_are_drawn_by_class_and_seed():
    texts = Texts(tuple("abcdef"), np.array([0, 0, 0, 1, 1, 1]))
    rows = texts.draw(2, seed=1)
    assert texts.labels[rows].tolist() == [0, 0, 1, 1] and len(set(rows)) == 4
    assert rows.tolist() == texts.draw(2, seed=1).tolist()
    assert any(rows.tolist() != texts.draw(2, seed=s).tolist() for s in range(2, 9))
    assert texts.first(1).texts == ("a", "d")
    with pytest.raises(BadValue, match="per_class=4: needs a whole number from 1 to 3"):
        texts.draw(4, seed=1)


def test_examples_and_names_are_cut_from_a_docstring():
    assert masked("Make  an asyncio.Task\n >>> run()") == "Make an [MASK]"


# --- Fine-tuning ---------------------------------------------------------------------------------


def test_kept_states_and_last_blocks_give_what_the_encoder_gives():
    encoder = fresh("BERT").eval()
    tokens = torch.randint(1, 1000, (5, 9))
    tokens[2, 6:] = 0
    for blocks in (0, 1, 2):
        model = LastBlocks(encoder, blocks, torch.eye(64), torch.zeros(64))
        states = lower_states(encoder, tokens, blocks, batch_size=2)
        torch.testing.assert_close(model(states), encoder(tokens))


def test_fine_tuning_learns_and_leaves_the_encoder_as_it_is():
    encoder = fresh("BERT").eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tokens = torch.randint(1, 1000, (12, 9), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    head = torch.zeros(3, 64), torch.zeros(3)
    states = lower_states(encoder, tokens, 1)
    model = fine_tune(encoder, states, labels, head=head, steps=60, lr=1e-2)
    with torch.no_grad():
        assert (model(states).argmax(1) == labels).double().mean() > 0.9
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    with pytest.raises(ShapeMismatch, match=r"needed \(N, T, d\)"):
        fine_tune(encoder, states[:5], labels, head=head)
    with pytest.raises(ShapeMismatch, match="a weight for each number"):
        LastBlocks(encoder, 1, torch.zeros(3, 7), torch.zeros(3))


# --- Roads ---------------------------------------------------------------------------------------


def test_trainings_of_all_roads_get_the_same_labels():
    texts = Texts(tuple("abcdefgh"), np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    seen = []
    found = train_all(lambda rows, i: seen.append((i, rows.tolist())) or i, texts, (1, 2),
                      trainings=2, seed=5)  # fmt: skip
    assert [models for models, _ in found.values()] == [[0, 1], [0, 1]]
    assert seen[0][1] == texts.draw(1, 5).tolist() and seen[3][1] == texts.draw(2, 6).tolist()


def test_a_road_without_a_time_for_each_score_is_refused():
    with pytest.raises(BadValue, match="the same numbers of labels"):
        Road({1: share(0.5)}, {}, share(0.5), 1)


def test_the_table_of_roads_says_what_is_unknown(roads):
    rows = {row[0]: row for row in roads_table(roads, 16).rows}
    assert rows["as is"][2] == "none" and rows["words"][4] == "—"
    assert roads["words"].labels_for(0.7) == 16 and roads["as-is"].labels_for(0.7) is None


# --- The recommendation --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "approach", "excluded"),
    [
        ({}, "prompt or retrieve", {}),
        ({"purpose": "careful-sorting"}, "fine-tune", {"as-is": "score"}),
        ({"purpose": "ready-made"}, "only deploy", {"words": "nothing-to-learn"}),
        ({"purpose": "own-signals"}, "train", {"head": "nothing-published"}),
        ({"resources": "chip"}, "train", {"head": "memory"}),
        ({"scalability": "reflex"}, "train", {"as-is": "deadline"}),
        ({"scalability": "world"}, "none", {"words": "machines"}),
        ({"purpose": "careful-sorting", "data": "never"}, "none", {"words": "labels"}),
    ],
)
def test_rules_exclude_roads_and_the_cheapest_is_left(roads, changed, approach, excluded):
    made = recommend(roads, {**case_answers("chatbot"), **changed})
    assert made.approach == approach
    assert {name: made.excluded[name] for name in excluded} == excluded
    if made.chosen:
        costs = {name: life.total("money").value for name, life in made.lives.items()}
        assert made.chosen == min(costs, key=costs.get)


def test_what_would_change_it_does_change_it(roads):
    made = recommend(roads, case_answers("chatbot"))
    answers = approaches()["questions"]
    assert made.flips
    for question, says, then in made.flips:
        key = next(k for k, a in answers[question]["answers"].items() if a["says"] == says)
        again = recommend(roads, {**made.answers, question: key}, flips=False)
        assert again.approach == then != made.approach
    assert ("data" in made.questions) == any(q == "data" for q, _, _ in made.flips)


def test_influence_counts_cases_by_their_flips(roads):
    found = influence(roads, ["chatbot", "drone"])
    assert found["purpose"] == {"chatbot": True, "drone": True}
    assert found["resources"]["chatbot"] and not found["expertise"]["chatbot"]


def test_labels_that_cost_nothing_leave_more_options(roads):
    lives = options(roads, "recommender")
    assert set(lives) == {"words, 32 labels", "head, 16 labels", "head, 32 labels",
                          "last-block, 16 labels"}  # fmt: skip
    assert set(options(roads, "translator")) == {"published, 0 labels"}


def test_wrong_answers_and_missing_roads_are_named(roads):
    answers = case_answers("drone")
    with pytest.raises(UnknownName, match="'phone'"):
        recommend(roads, {**answers, "resources": "phon"})
    with pytest.raises(UnknownName, match="no question is called 'money'"):
        recommend(roads, {**answers, "money": "little"})
    with pytest.raises(BadValue, match="'data' has no answer: How many labelled"):
        recommend(roads, {q: a for q, a in answers.items() if q != "data"})
    with pytest.raises(BadValue, match="'as-is' is missing"):
        recommend({"words": roads["words"]}, answers)
    with pytest.raises(UnknownName, match="drone"):
        case_answers("dron")


def test_each_rule_names_a_measurement_that_a_lesson_has():
    for name, rule in approaches()["rules"].items():
        evidence, claim = rule["evidence"], ledger()[rule["evidence"]["claim"]]
        assert evidence["quantity"] in claim.conditions and evidence["lesson"] in claim.lessons, (
            name
        )


def test_a_slow_answer_needs_more_machines_and_they_cost(roads):
    slow = {**roads, "words": replace(roads["words"], answer_s=Estimate(0.03, 0.02, 0.04, "s"))}
    answers = {**case_answers("recommender")}
    fast_cost, slow_cost = (
        recommend(r, answers, flips=False).lives["words"].total("money").value
        for r in (roads, slow)
    )
    assert slow_cost > 10 * fast_cost


# --- Two phases ----------------------------------------------------------------------------------


def test_two_plans_by_hand():
    cheap, fast = (10.0, 100.0, 900.0), (2.0, 300.0, 500.0)
    made = two_plans.TwoPlans("m", 1, 1, 1, ({"a": cheap, "b": fast},))
    assert made.cheapest(1) == "a" and made.cheapest(2) == "b" and made.differ
    assert made.delay.value == 2 / 10  # training on b ÷ on a
    assert made.excess.value == 800 / (100 + 500)


def test_two_plans_of_a_published_model():
    made = two_plans.two_plans("llama-3.1-8b", users=1000, target=20)
    assert set(made.bills[0]) == set(two_plans.MACHINES) and len(made.bills) == 5
    assert made.excess.value >= 1 and made.delay.low < made.delay.high
    assert made.to_dict()["bills"]["NVIDIA H100 SXM"]["training_usd"] > 0
    with pytest.raises(BadValue, match="at least two kinds"):
        two_plans.two_plans("llama-3.1-8b", users=1, target=1, machines=["NVIDIA H100 SXM"])
    with pytest.raises(UnknownName):
        two_plans.two_plans("lama", users=1, target=1)
