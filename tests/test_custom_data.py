"""Workloads of one's own data: from arrays to a bill in one call, and what is wrong in one line."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

import kit
from kit.core.errors import BadValue, ShapeMismatch, UnknownName
from kit.data import Split
from kit.workloads import custom, from_data

FEW = {"live": False}


def table(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and a class of three, as numpy gives them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    return x, x[:, :3].argmax(1)


def numbers(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    x, _ = table(n)
    return x, (2 * x[:, :1] - x[:, 1:2])


def net(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, outputs))


def classes(**options):
    return from_data(table(), **{"model": net, **options})


# --- What comes of it ----------------------------------------------------------------------------


def test_what_is_not_given_is_cut_from_train_by_the_seed_and_said():
    work = classes()
    assert {name: work.size(name) for name in work.data.splits} == {
        "train": 140,
        "validation": 30,
        "test": 30,
    }
    assert "validation and test: 15 % of train each, drawn with seed 0" in repr(work.data)
    rows = torch.cat([part.inputs for part in work.data.splits.values()])
    assert torch.equal(rows.unique(dim=0), torch.as_tensor(table()[0]).float().unique(dim=0))
    again, other = classes(), classes(seed=1)
    assert torch.equal(again.data["test"].inputs, work.data["test"].inputs)
    assert not torch.equal(other.data["test"].inputs, work.data["test"].inputs)


def test_what_is_given_stays_as_it_is():
    work = from_data(table(50), table(20, 1), table(10, 2), model=net)
    assert [work.size(name) for name in work.data.splits] == [50, 20, 10]
    assert torch.equal(work.data["test"].inputs, torch.as_tensor(table(10, 2)[0]).float())
    assert repr(work.data).endswith("own data")
    half = from_data(table(100), test=table(10, 2), model=net)
    assert [half.size(name) for name in half.data.splits] == [85, 15, 10]


@pytest.mark.parametrize("kind", ["numpy", "tensors", "lists", "dataset", "pairs", "split"])
def test_arrays_tensors_and_torch_datasets_give_the_same(kind):
    x, y = table()
    tensors = torch.as_tensor(x), torch.as_tensor(y)
    given = {
        "numpy": (x, y),
        "tensors": tensors,
        "lists": (x.tolist(), y.tolist()),
        "dataset": torch.utils.data.TensorDataset(*tensors),
        "pairs": torch.utils.data.Subset(torch.utils.data.TensorDataset(*tensors), range(200)),
        "split": Split(*tensors),
    }[kind]
    work = from_data(given, model=net)
    assert all(map(torch.equal, work.data["train"], classes().data["train"]))
    assert (work.data["train"].inputs.dtype, work.data["train"].targets.dtype) == (
        torch.float32,
        torch.int64,
    )


def test_whole_numbers_are_classes_with_cross_entropy_and_accuracy():
    work = classes()
    assert work.measure == "right" and work.data.classes == ("0", "1", "2")
    best = max(int(work.data[split].targets.bincount().max()) for split in ("validation", "test"))
    assert work.target == pytest.approx((best + 1) / 30)
    logits = torch.zeros(5, 3)
    assert float(work.loss(logits, torch.zeros(5, dtype=torch.int64))) == pytest.approx(np.log(3))


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_no_constant_answer_reaches_the_target_that_was_not_given(kind):
    common = {"train": 0.0, "validation": 1.0, "test": 2.0}  # the best constant is another in each
    work_data = []
    for low in common.values():
        y = torch.tensor([low] * 14 + [(low + 1) % 3] * 4 + [(low + 2) % 3] * 2)
        work_data.append((torch.rand(20, 1), y.long() if kind == "classes" else y[:, None]))
    work = from_data(*work_data, model=lambda: nn.Linear(1, 3 if kind == "classes" else 1))
    assert work.target == pytest.approx(15 / 20)
    for split in ("validation", "test"):
        targets = work.data[split].targets
        for each in range(3):
            constant = torch.eye(3)[each].expand(20, 3)
            outputs = constant if kind == "classes" else torch.full_like(targets, each)
            assert float(work.score(outputs, targets).double().mean()) < work.target
    history = kit.train(work.model(), work, steps=3, batch_size=4, target=work.target, live=False)
    assert history.stopped != "target reached" or history.steps


def test_later_changes_of_what_was_given_do_not_change_the_workload():
    x, y = (torch.as_tensor(part) for part in table(50))
    parts, given = [(x.float(), y), (x.float().numpy(), y.numpy()), (x.float(), y)], net()
    work = from_data(*parts, model=given)
    before = [part.clone() for split in work.data.splits.values() for part in split]
    weights = [weight.clone() for weight in given.parameters()]
    for part in parts:
        part[0][:], part[1][:] = float("nan"), 0
    with torch.no_grad():
        given[0].weight.zero_()
    after = [part for split in work.data.splits.values() for part in split]
    assert all(map(torch.equal, before, after))
    assert all(map(torch.equal, weights, work.model().parameters()))


def test_each_position_of_a_sequence_can_have_its_class():
    ids = torch.randint(0, 7, (60, 5))
    work = from_data((ids, ids), model=lambda: nn.Embedding(7, 7))
    model = work.model()
    with torch.no_grad():
        model.weight.copy_(torch.eye(7))
    assert kit.evaluate(model, work).mean.value == 1
    wrong = ids.clone()
    wrong[:, 0] = (wrong[:, 0] + 1) % 7
    assert work.score(torch.eye(7)[ids], wrong).tolist() == pytest.approx([0.8] * 60)


def test_numbers_are_right_within_a_quarter_of_their_spread():
    work = from_data(numbers(), model=lambda: net(1))
    spread = float(work.data["train"].targets.std(correction=0))
    targets = torch.zeros(3, 1)
    outputs = spread * torch.tensor([[0.24], [0.26], [-0.24]])
    assert work.score(outputs, targets).tolist() == [1, 0, 1]
    assert "quarter" in work.measure and 0 < work.target < 0.5
    assert float(work.loss(outputs, targets)) == pytest.approx(float(outputs.square().mean()))


def test_regression_works_end_to_end():
    torch.manual_seed(0)
    work = from_data(numbers(400), model=lambda: net(1), recipe={"epochs": 30})
    model = work.model()
    before = kit.evaluate(model, work).mean.value
    history = kit.train(model, work, **work.recipe, **FEW)
    score = kit.evaluate(model, work)
    assert before < 0.5 < 0.8 < score.mean.value and score.mean.value > work.target
    bill = kit.step_cost(model, work, budget_s=0.05)
    latency = kit.measure(lambda: kit.predict(model, work.example()[0]), budget_s=0.05)
    assert kit.run_cost(history, score, work.target, bill, latency).reached
    found = kit.fastest(model, work, max_score_loss=0.5, techniques=("none", "half"))
    assert found.form.score.measure == work.measure


def test_several_models_by_name_and_a_model_that_is_copied():
    ready = net()
    work = classes(model={"small": net, "ready": ready})
    assert list(work.models) == ["small", "ready"]
    copy = work.model("ready")
    assert copy is not ready and torch.equal(copy[0].weight, ready[0].weight)
    both = kit.step_costs(work.models, work, batch_sizes=(1,), budget_s=0.02)
    assert [bill.name for bill in both] == ["small", "ready"]
    assert list(classes(model=ready).models) == ["sequential"]
    ladder = kit.training_ladder(net, work, target_loss=0.9, budget_s=0.05, most_steps=20)
    assert ladder.newest.name == "as given"


def test_recipe_measure_and_target_are_taken():
    work = classes(recipe={"steps": 5}, target=0.9, measure="sorted", name="mine")
    assert dict(work.recipe) == {"steps": 5, "batch_size": 32, "lr": 3e-3}
    assert (work.target, work.measure, work.name) == (0.9, "sorted", "mine")
    assert from_data(table(20), model=net).recipe["batch_size"] == 14  # all there are
    assert kit.train(work.model(), work, **work.recipe, **FEW).steps == 5


def test_numbers_of_numpy_are_numbers_and_any_whole_number_is_a_seed():
    work = classes(seed=np.int64(3), target=np.float32(0.5))
    assert torch.equal(work.data["test"].inputs, classes(seed=3).data["test"].inputs)
    assert work.target == 0.5 and classes(seed=2**70).size("test") == 30
    history = kit.train(work.model(), work, steps=2, batch_size=8, seed=7, **FEW)
    assert history.steps == 2
    for batch_size in (np.int64(8), 8):
        assert len(next(work.batches("train", batch_size, seed=2**70))[0]) == 8
        assert len(work.example(batch_size)[0]) == 8
    for wrong in (2.5, True, 0, "8"):
        with pytest.raises(BadValue, match="needs a whole number"):
            work.example(wrong)
        with pytest.raises(BadValue, match="needs a whole number from 1 to 140"):
            work.batches("train", wrong)


def test_trying_the_model_draws_no_random_numbers():
    before = torch.get_rng_state()
    classes()
    assert torch.equal(torch.get_rng_state(), before)


# --- Several inputs ------------------------------------------------------------------------------


class Masked(nn.Module):
    """Takes token ids, a mask of bools, and a number each."""

    def __init__(self):
        super().__init__()
        self.seen = nn.Embedding(10, 8)
        self.head = nn.Linear(9, 2)

    def forward(self, ids, mask, extra):
        assert (ids.dtype, mask.dtype, extra.dtype) == (torch.int64, torch.bool, torch.float32)
        told = self.seen(ids).masked_fill(~mask.unsqueeze(-1), 0).sum(1)
        return self.head(torch.cat([told, extra.unsqueeze(1)], 1))


def several(n: int = 100):
    ids = torch.randint(0, 10, (n, 6), generator=torch.Generator().manual_seed(0))
    parts = {"ids": ids, "mask": ids > 2, "extra": ids[:, 0].double()}
    return parts, (ids == 7).any(1)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_several_inputs_lie_in_one_row_and_reach_the_model_as_they_were(kind):
    parts, targets = several()
    given = parts if kind is dict else tuple(parts.values())
    work = from_data((given, targets), (given, targets), (given, targets), model=Masked)
    model = work.model()
    assert work.data["train"].inputs.shape == (100, 13)
    direct = model.net(parts["ids"], parts["mask"], parts["extra"].float())
    assert torch.equal(kit.predict(model, work.data["train"].inputs), direct)
    assert kit.train(model, work, steps=3, **FEW).steps == 3
    assert kit.step_cost(model, work, batch_size=4, budget_s=0.02).flops_ratio > 1


def test_parts_that_one_row_cannot_hold_are_refused():
    parts, targets = several()
    with pytest.raises(BadValue, match="integers above 16,777,216 together with floating-po"):
        from_data(({**parts, "ids": parts["ids"] + 2**25}, targets), model=Masked)
    with pytest.raises(ShapeMismatch, match="the same number of examples in each"):
        from_data(({**parts, "extra": parts["extra"][:5]}, targets), model=Masked)


# --- What is wrong -------------------------------------------------------------------------------

X, Y = table()
NAN = X.copy()
NAN[7, 2] = np.nan

WRONG = {
    "no train": ({"train": None}, "train=None: needs"),
    "one array": ({"train": X}, r"train=ndarray \(200, 4\): needs a pair"),
    "a loader": (
        {"train": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(3)))},
        r"train= a DataLoader.*train=loader\.dataset",
    ),
    "lengths": ({"train": (X, Y[:5])}, r"inputs \(200, 4\) and targets \(5,\); needs the same num"),
    "nothing": ({"train": (X[:0], Y[:0])}, "at least one"),
    "too few": ({"train": (X[:2], Y[:2])}, "too few to cut validation and test"),
    "text": ({"train": (np.array([["a"]] * 200), Y)}, "cannot be an array of numbers"),
    "ragged": ({"train": ([[1], [1, 2]], [0, 1])}, "cannot be an array of numbers"),
    "NaN": ({"train": (NAN, Y)}, "NaN or infinity in 1 of 200 examples, the first is number 7"),
    "NaN targets": ({"train": (X, NAN[:, 2:3])}, "targets of train: NaN"),
    "shapes": ({"test": (X[:, :3], Y)}, r"float32 \(N, 4\), of test float32 \(N, 3\)"),
    "types": ({"test": (X, Y.astype(float))}, "targets of train are int64 .* of test float32"),
    "labels": ({"train": (X, Y + 1)}, "go from 1 to 3, and the model has 3 outputs"),
    "labels of test": ({"test": (X, Y + 5)}, "go from 0 to 7, and the model has 3 outputs"),
    "classes as floats": ({"train": (X, Y.astype(float))}, r"targets\.long\(\)"),
    "column": (
        {"train": (X, X[:, 0]), "model": lambda: net(1)},
        r"outputs \(32, 1\) and targets \(32,\) of floating-point numbers; needs the same shape",
    ),
    "constant": ({"train": (X, np.ones((200, 1))), "model": lambda: net(1)}, "nothing can be lea"),
    "a number as class": ({"train": (X, Y[:, None])}, r"targets\.float\(\)"),
    "model's inputs": (
        {"model": lambda: nn.Linear(5, 3)},
        r"Linear does not take inputs float32 \(32",
    ),
    "pixels": (
        {"train": (X.astype(np.uint8), Y)},
        r"does not take inputs int64.*\.float\(\) / 255",
    ),
    "model with arguments": ({"model": nn.Linear}, "needs a function without arguments"),
    "no model": ({"model": "mlp"}, "model='mlp': needs a torch.nn.Module"),
    "no module": ({"model": lambda: 3}, "model made 3; needs a torch.nn.Module"),
    "two outputs": ({"model": lambda: Two()}, "Two gives tuple; needs one tensor"),
    "no gradient": ({"loss": lambda o, t: (o.argmax(-1) != t).float().mean()}, "has no gradient"),
    "loss per example": ({"loss": nn.CrossEntropyLoss(reduction="none")}, r"add \.mean\(\)"),
    "infinite loss": ({"loss": lambda o, t: o.sum() / 0}, "of a fresh net is"),
    "score outside": ({"score": lambda o, t: o.argmax(-1) + 1}, "gave values from [123]"),
    "one score": ({"score": lambda o, t: (o.argmax(-1) == t).float().mean()}, "gave one number"),
    "seed": ({"seed": "one"}, "seed='one': needs a whole number"),
    "target": ({"target": 97}, "target=97: needs a score from 0 to 1"),
    "recipe": ({"recipe": 5}, "recipe=5: needs arguments of kit.train"),
    "one class": ({"train": (X, 0 * Y + 2)}, "all targets of train are 2: nothing can be learnt"),
}


@pytest.mark.parametrize(
    ("recipe", "told"),
    [({"stepz": 7}, "'stepz'; did you mean 'steps'"), ({"checkpoint": "a"}, "'checkpoint'")],
)
def test_a_recipe_with_an_unknown_name_is_refused_at_once(recipe, told):
    with pytest.raises(UnknownName, match=told):
        classes(recipe=recipe)


def test_the_names_of_a_recipe_are_those_of_train():
    others = {"model", "workload", "checkpoint", "resume", "after_step"}
    assert set(custom.ARGUMENTS) == set(inspect.signature(kit.train).parameters) - others


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"lr": "big"}, "lr='big': needs a number above 0"),
        ({"steps": 5, "epochs": 1}, "give one of them"),
        ({"epochs": 0}, "epochs=0: needs a number above 0"),
        ({"batch_size": 999}, "batch_size=999: needs a whole number"),
        ({"target": 7}, "target=7: needs a score from 0 to 1"),
        ({"evaluate_every": 0}, "evaluate_every=0: needs a whole number"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_a_value_of_a_recipe_is_refused_before_the_first_step(recipe, told):
    work = classes(recipe=recipe)
    model = work.model()
    with pytest.raises((BadValue, UnknownName), match=told):
        kit.train(model, work, **work.recipe, live=False)


class Two(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_go_together_is_answered_in_one_line_at_once(name):
    given, told = WRONG[name]
    with pytest.raises(BadValue, match=told) as error:
        from_data(**{"train": (X, Y), "model": net, **given})
    assert "\n" not in str(error.value).rstrip()


def test_other_examples_have_to_be_tensors(vision):
    with pytest.raises(BadValue, match=r"given inputs as ndarray; needs a tensor"):
        vision.with_split("test", Split(X, Y))


# --- FILE.py:NAME --------------------------------------------------------------------------------

FILE = """
import numpy as np
from torch import nn
import kit
from beside import N

def shapes():
    x = np.random.default_rng(0).normal(size=(N, 4))
    return kit.workloads.from_data((x, (x[:, 0] > 0).astype(int)), model=lambda: nn.Linear(4, 2))

ready = shapes()
number = 3
def broken():
    return 1 / 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    (tmp_path / "beside.py").write_text("N = 60", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_ones_own_gives_a_workload_that_carries_its_digest(folder, monkeypatch):
    work = kit.workloads.get("mine.py:shapes")
    assert work.size("train") == 42
    assert work.name.startswith("mine.py:shapes@") and len(work.name.partition("@")[2]) == 12
    assert kit.workloads.get("mine.py:ready").name.partition("@")[2] == work.name[-12:]
    assert kit.train(work.model(), work, steps=1, **FEW).workload == work.name
    monkeypatch.chdir("/")
    monkeypatch.setenv("KIT_FOLDER", str(folder))  # where the command was given; kernels are not
    assert kit.workloads.get("mine.py:shapes").name == work.name
    (folder / "mine.py").write_text(FILE + "\n", encoding="utf-8")
    assert kit.workloads.get("mine.py:shapes").name != work.name


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ("nope.py:shapes", BadValue, r"nope\.py cannot be read \(No such file"),
        ("\0.py:x", BadValue, "cannot be read .*null byte"),
        ("n" * 5_000 + ".py:x", BadValue, "cannot be read .*too long"),
        ("mine.py", BadValue, r"needs a workload's name, or FILE\.py:NAME"),
        ("mine.py:shap", UnknownName, "no workload in mine.py is called 'shap'; did you mean 'sha"),
        ("mine.py:number", BadValue, "number in mine.py is 3; needs a workload, or a function"),
        ("mine.py:broken", BadValue, r"mine\.py, line 14: ZeroDivisionError"),
    ],
)
def test_a_file_that_has_no_such_workload_says_so(folder, given, error, told):
    with pytest.raises(error, match=told):
        kit.workloads.get(given)


def test_a_file_that_is_no_program_names_the_line(folder):
    (folder / "bad.py").write_text("x = 1\nx +* 2\n", encoding="utf-8")
    with pytest.raises(BadValue, match=r"bad\.py, line 2: SyntaxError"):
        kit.workloads.get("bad.py:x")
