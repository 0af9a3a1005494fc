"""Watching a model learn: which rows appear, what they say, and that looking changes nothing."""

import copy

import pytest
import torch

import kit
from kit.core.results import RECORDING


@pytest.fixture
def work():
    return kit.workloads.vision()


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters())


def test_rows_appear_after_steps_that_grow(work):
    model = work.model("mlp")
    watching = kit.watch(model, work)
    history = kit.train(model, work, steps=105, live=False, after_step=watching)
    shown = [row.split("</th>")[0].split(">")[-1] for row in watching.rows]
    assert shown == ["0", "5", "10", "20", "50", "100"]
    assert history.steps == 105


def test_right_answers_are_marked_and_the_share_is_of_the_whole_split(work):
    class Sevens(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(torch.full((len(images),), 7), 10).float()

    watching = kit.watch(Sevens(), work)
    (row,) = watching.rows
    assert row.count("font-weight:bold") == 1 and row.count(">7</td>") == 10
    share = kit.evaluate(Sevens(), work, "validation").mean.value
    assert f"<td>{kit.units.words(share, '%')}</td>" in row
    images = watching._repr_html_().split("<img ")[1:]
    assert [f"handwritten digit {n}" in image for n, image in enumerate(images)] == [True] * 10


def test_looking_changes_neither_the_weights_nor_the_mode_nor_what_is_learnt(work):
    kit.seed(0)
    watched = work.model("cnn")
    alone = copy.deepcopy(watched)
    kit.train(watched, work, steps=10, live=False, after_step=kit.watch(watched, work))
    kit.train(alone, work, steps=10, live=False)
    assert torch.equal(weights(watched), weights(alone))
    assert watched.training == alone.training


def test_the_table_has_its_height_from_the_start(work, monkeypatch):
    """The rows to come are there, empty: nothing jumps, and JupyterLab does not scroll."""
    shown = []

    class Screen:
        def show(self, text, picture, last):
            shown.append(picture)

    monkeypatch.setattr("kit.course.watching.screen", Screen)
    monkeypatch.delenv(RECORDING, raising=False)
    model = work.model("mlp")
    watching = kit.watch(model, work)
    assert shown[0].count("<tr>") == 1 + 8  # room for 500 steps, until the training says how many
    kit.train(model, work, steps=100, live=False, after_step=watching)
    assert [each.count("<tr>") for each in shown[1:]] == [1 + 6] * 5
    assert [each.count("&nbsp;") for each in shown[1:]] == [4, 3, 2, 1, 0]
    assert all(each.endswith("</style>") for each in shown)
    assert "&nbsp;" not in watching._repr_html_() and "<style" not in watching._repr_html_()
    monkeypatch.setenv(RECORDING, "1")
    kit.watch(model, work)
    assert "<style" not in shown[-1]  # what is stored for readers changes no page


def test_in_a_terminal_each_row_is_a_line(work, monkeypatch):
    lines = []

    class Screen:
        def show(self, text, picture, last):
            assert last and picture.startswith("<table>")
            lines.append(text)

    monkeypatch.setattr("kit.course.watching.screen", Screen)
    watching = kit.watch(work.model("mlp"), work)
    watching.look(1_000, work.model("mlp"))
    assert [line.split(":")[0] for line in lines] == ["after 0 steps", "after 1,000 steps"]
