"""Data: each dataset whole, disjoint, the same every time. A new one is tested as it is listed.

Those from public places have tests of their own: nothing is fetched here.
"""

import html
import random

import numpy as np
import pytest
import torch
from torch import Tensor

import kit.data
from kit.core.errors import BadValue, NotInstalled, UnknownName
from kit.data import public
from kit.data.dataset import Dataset, Split, example_batch

OPEN = {"clicks"}  # whose classes are items: some are in no example of a split


def made(name: str) -> Dataset:
    """The dataset; where it needs what is not installed, the test says so and is left out."""
    try:
        return kit.data.OFFLINE[name]()
    except NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=kit.data.OFFLINE)
def dataset(request) -> Dataset:
    return made(request.param)


def rows(split: Split) -> set[bytes]:
    return {example.numpy().tobytes() for example in split.inputs}


def are_numbers(values: Tensor) -> bool:
    """Whether they are measured, not counted or chosen from a list: finite ones."""
    return values.dtype == torch.float32 and bool(values.isfinite().all())


def are_places(values: Tensor) -> bool:
    """Whether they are classes, tokens or items: places in a list, counted from 0."""
    return values.dtype == torch.int64 and int(values.min()) >= 0


def test_each_file_of_a_dataset_is_registered_by_its_name():
    for name, load in kit.data.OFFLINE.items():
        assert load.__name__ == f"load_{name}" and load.__module__ == f"kit.data.{name}"
    loaders = {name for name in dir(kit.data) if name.startswith("load_")}
    others = {*map("load_{}".format, public.FILES), "load_text_file"}
    assert loaders == others | {f"load_{name}" for name in kit.data.OFFLINE}


def test_it_is_described(dataset):
    assert dataset.name in kit.data.OFFLINE and dataset.origin and dataset.licence
    assert dataset.name in repr(dataset) and dataset.origin in repr(dataset)
    assert "\n" not in repr(dataset)
    assert f">{html.escape(repr(dataset))}</p>" in dataset._repr_html_()  # wraps at words


def test_it_has_the_three_splits(dataset):
    assert list(dataset.splits) == ["train", "validation", "test"]


def test_inputs_and_targets_go_together(dataset):
    shapes = set()
    for inputs, targets in dataset.splits.values():
        assert len(inputs) == len(targets) > 0
        assert are_numbers(inputs) or are_places(inputs)
        assert are_numbers(targets) or are_places(targets)
        shapes.add((inputs.shape[1:], targets.shape[1:], inputs.dtype, targets.dtype))
    assert len(shapes) == 1  # what is learnt from one split can be asked of another


def test_targets_that_are_classes_have_names(dataset):
    assert len(set(dataset.classes)) == len(dataset.classes)
    for _, targets in dataset.splits.values():
        if dataset.classes and are_places(targets):
            assert int(targets.max()) < len(dataset.classes)


def test_each_split_has_every_class(dataset):
    for _, targets in dataset.splits.values():
        chosen = targets.ndim == 1 and are_places(targets) and dataset.name not in OPEN
        if dataset.classes and chosen:
            assert set(targets.tolist()) == set(range(len(dataset.classes)))


def test_no_example_is_in_two_splits(dataset):
    train, validation, test = map(rows, dataset.splits.values())
    assert not (train & validation or train & test or validation & test)


def test_it_is_the_same_every_time_and_draws_nothing_from_the_generators_of_others(dataset):
    def states() -> tuple:
        _, drawn, place, *_ = np.random.get_state()
        return torch.get_rng_state().tolist(), random.getstate(), drawn.tolist(), place

    before = states()
    again = made(dataset.name)
    assert states() == before
    for name, split in dataset.splits.items():
        assert torch.equal(split.inputs, again[name].inputs)
        assert torch.equal(split.targets, again[name].targets)


def test_an_unknown_split_lists_the_near_ones(dataset):
    with pytest.raises(UnknownName, match=r"no split is called 'tets'; did you mean 'test'"):
        dataset["tets"]


# --- Digits --------------------------------------------------------------------------------------


def test_the_digits_are_scikit_learns_and_all_of_them():
    from sklearn.datasets import load_digits

    raw, digits = load_digits(), kit.data.load_digits()
    images = torch.cat([split.inputs for split in digits.splits.values()])
    targets = torch.cat([split.targets for split in digits.splits.values()])
    assert images.shape == (1_797, 1, 8, 8)
    assert images.min() == 0 and images.max() == 1  # paper and ink
    theirs = zip(raw.images, raw.target, strict=True)
    ours = zip((images * 16).double().numpy()[:, 0], targets.tolist(), strict=True)
    ours, theirs = ({(image.tobytes(), int(t)) for image, t in each} for each in (ours, theirs))
    assert ours == theirs


# --- Batches -------------------------------------------------------------------------------------


@pytest.fixture
def ten() -> Split:
    return Split(torch.arange(10.0).unsqueeze(1), torch.arange(10))


def seen(split: Split, *args, **options) -> list[list[int]]:
    batches = list(split.batches(*args, **options))
    assert all(torch.equal(x.squeeze(1), y.float()) for x, y in batches)  # still together
    return [y.tolist() for _, y in batches]


def test_in_order_each_example_comes_once_and_the_last_batch_is_smaller(ten):
    assert seen(ten, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_shuffled_batches_are_all_full(ten):
    batches = seen(ten, 4, seed=1)
    assert [len(batch) for batch in batches] == [4, 4]
    assert len({i for batch in batches for i in batch}) == 8


def test_a_seed_gives_one_order_and_another_seed_another(ten):
    assert seen(ten, 5, seed=1) == seen(ten, 5, seed=1) != seen(ten, 5, seed=2)


def test_over_many_seeds_each_example_comes_first_about_equally_often(ten):
    first = torch.tensor([seen(ten, 1, seed=seed)[0][0] for seed in range(1_000)])
    assert (
        first.bincount(minlength=10).min() >= 60 and first.bincount().max() <= 140
    )  # 100 expected


def test_the_global_generator_has_no_say_in_the_order(ten):
    torch.manual_seed(1)
    once = seen(ten, 5, seed=3)
    torch.manual_seed(2)
    assert seen(ten, 5, seed=3) == once


def test_a_batch_is_a_view(ten):
    first, _ = next(ten.batches(4))
    assert first.data_ptr() == ten.inputs.data_ptr()


@pytest.mark.parametrize("batch_size", [0, -1, 11, 2.5, "4", None])
def test_a_wrong_batch_size_says_what_is_needed(ten, batch_size):
    with pytest.raises(BadValue, match=rf"batch_size={batch_size!r}: .* from 1 to 10"):
        next(ten.batches(batch_size))


@pytest.mark.parametrize("n", [1, 3, 4, 10])
def test_examples_are_repeated_until_there_are_enough(n):
    assert example_batch(torch.arange(3), n).tolist() == [i % 3 for i in range(n)]


# --- Spelled digits ------------------------------------------------------------------------------


def test_a_line_holds_one_number_word_and_its_last_digit_is_the_target():
    from num2words import num2words

    from kit.data.spelled_digits import CHARACTERS, LARGEST

    short = [num2words(n, lang="de") for n in range(1_000)]  # 100,000 of them take 20 s
    digit_of = {word: n % 10 for n, word in enumerate(short)}
    for thousands in range(1, (LARGEST + 1) // 1_000):
        start = num2words(1_000 * thousands, lang="de")
        digit_of |= {start: 0} | {start + word: n % 10 for n, word in enumerate(short) if n}
    assert len(digit_of) == LARGEST + 1
    split = kit.data.load_spelled_digits()["test"]
    begins = []
    for line, digit in zip(split.inputs, split.targets.tolist(), strict=True):
        written = line.sum(1)
        places = written.nonzero().flatten()
        assert set(written.tolist()) <= {0.0, 1.0} and torch.equal(
            places, torch.arange(places[0], places[-1] + 1)
        )
        word = "".join(CHARACTERS[i] for i in line[places].argmax(1).tolist())
        assert digit_of[word] == digit
        begins.append(int(places[0]))
    assert len(set(begins)) > 20, "words begin anywhere"
