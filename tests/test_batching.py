"""Feeding: batches come in the same order whatever the chunks, little memory is taken, and a text
of one's own is read where it lies.
"""

import gc
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import kit
from kit.core.errors import BadValue
from kit.data import Split, batching, load_text_file
from kit.data.batching import ahead, is_moved, resident
from kit.data.dataset import example_batch
from kit.data.text_file import HELD_OUT
from kit.measurement.memory import peak_bytes
from kit.workloads import language

CPU, META = torch.device("cpu"), torch.device("meta")  # meta: another device that is always there
Batches = list[tuple[Tensor, Tensor]]


def plain(split: Split, batch_size: int, seed: int | None) -> Batches:
    """Batches of the whole split at once: what every recorded training was fed."""
    inputs, targets = split
    if seed is not None:
        shuffle = torch.Generator().manual_seed(seed)
        places = torch.randperm(len(inputs), generator=shuffle)
        places = places[: len(places) - len(places) % batch_size]
        inputs, targets = inputs[places], targets[places]
    return list(zip(inputs.split(batch_size), targets.split(batch_size), strict=True))


def same(some: Batches, others: Batches) -> bool:
    """Bit for bit, and of the same kind."""
    return len(some) == len(others) and all(
        torch.equal(a, b) and a.dtype == b.dtype
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def numbers(n: int, width: int = 3) -> Split:
    """Examples that are all different; each begins with its place, which is its target, too."""
    inputs = torch.rand(n, width)
    inputs[:, 0] = torch.arange(n)
    return Split(inputs, torch.arange(n))


@pytest.fixture
def windows() -> Split:
    """Windows of bytes that overlap."""
    seen = torch.randint(256, (4_000,), dtype=torch.uint8).unfold(0, 9, 2)
    return Split(seen[:, :-1], seen[:, 1:])


def chunks_of(monkeypatch, batches: int, most_bytes: int = 10**9) -> None:
    monkeypatch.setattr(batching, "MOST_BATCHES", batches)
    monkeypatch.setattr(batching, "MOST_BYTES", most_bytes)


# --- Order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 0, 1, 100_003])
@pytest.mark.parametrize("batch_size", [1, 32, 1_000, 1_197])
def test_the_order_is_that_of_the_whole_split_shuffled_at_once(vision, batch_size, seed):
    split = vision.data["train"]
    assert same(list(split.batches(batch_size, seed=seed)), plain(split, batch_size, seed))


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("batches, most_bytes", [(1, 10**9), (2, 10**9), (64, 1), (64, 1_700)])
def test_chunks_of_any_size_give_the_same_batches(monkeypatch, seed, batches, most_bytes):
    split = numbers(207)
    chunks_of(monkeypatch, batches, most_bytes)
    assert same(list(split.batches(10, seed=seed)), plain(split, 10, seed))


def test_as_stored_each_example_comes_once_also_those_that_fill_no_batch(monkeypatch):
    chunks_of(monkeypatch, 2)
    batches = list(numbers(45).batches(10))
    assert [len(targets) for _, targets in batches] == [10, 10, 10, 10, 5]
    assert torch.cat([targets for _, targets in batches]).tolist() == list(range(45))


@pytest.mark.parametrize("n, batch_size", [(60, 10), (200, 8), (24, 24), (30, 3)])
def test_a_long_split_is_shuffled_by_stretches_and_each_example_comes_once(
    monkeypatch, n, batch_size
):
    monkeypatch.setattr(batching, "SHUFFLED_AT_ONCE", 25)
    batches = [targets.tolist() for _, targets in numbers(n).batches(batch_size, seed=5)]
    assert all(len(batch) == batch_size for batch in batches)
    order = [place for batch in batches for place in batch]
    assert sorted(order) == list(range(n)) != order
    stretch = 25 - 25 % batch_size
    assert all(len({place // stretch for place in batch}) == 1 for batch in batches)


def test_stretches_come_in_an_order_of_their_own(monkeypatch):
    monkeypatch.setattr(batching, "SHUFFLED_AT_ONCE", 100)
    split = numbers(1_030)  # ten stretches, and a rest that is longer than a batch

    def stretches(seed: int) -> list[int]:
        firsts = [int(targets[0]) // 100 for _, targets in split.batches(20, seed=seed)]
        return list(dict.fromkeys(firsts))

    assert stretches(1) == stretches(1) != stretches(2)
    assert sorted(stretches(1)) == list(range(11)) != stretches(1)
    assert len(list(split.batches(20, seed=1))) == 1_030 // 20


# --- Chunks --------------------------------------------------------------------------------------


def places_in_memory(batches: Batches) -> list[int]:
    return [inputs.untyped_storage().data_ptr() for inputs, _ in batches]


def test_a_batch_is_a_view_of_a_chunk_of_64():
    places = places_in_memory(list(numbers(1_300).batches(10, seed=0)))
    assert [places.count(place) for place in dict.fromkeys(places)] == [64, 64, 2]


def test_as_stored_nothing_is_copied():
    split = numbers(100)
    assert set(places_in_memory(list(split.batches(10)))) == set(places_in_memory([split]))


def test_a_chunk_has_few_bytes_but_always_a_whole_batch():
    split = numbers(3_000, width=1_000)  # 12 MB
    chunk = next(split.batches(32, seed=0))[0].untyped_storage()
    assert 0.9 * batching.MOST_BYTES < chunk.nbytes() <= batching.MOST_BYTES
    chunk = next(split.batches(1_500, seed=0))[0].untyped_storage()
    assert chunk.nbytes() == 1_500 * 4_000 > batching.MOST_BYTES


def test_an_epoch_takes_a_few_chunks_of_memory_however_large_the_split():
    split = numbers(50_000, width=200)  # 40 MB

    def epoch() -> None:
        for _ in split.batches(32, seed=0):
            pass

    order_bytes = 2 * split.targets.nbytes  # which of them were drawn, twice while they are cut
    assert peak_bytes(epoch, CPU) < order_bytes + 3 * batching.MOST_BYTES < split.inputs.nbytes / 2


@pytest.mark.parametrize("seed", [None, 3])
def test_bytes_become_int64_in_batches_and_stay_bytes_in_the_split(windows, seed):
    whole = Split(*(part.long() for part in windows))
    assert same(list(windows.batches(16, seed=seed)), plain(whole, 16, seed))
    assert windows.inputs.dtype == torch.uint8
    assert example_batch(windows.inputs, 4_000).dtype == torch.int64


# --- Ahead of time -------------------------------------------------------------------------------


def test_the_next_chunk_is_under_way_before_one_is_given():
    log = []

    def begin(i: int) -> int:
        log.append(f"begin {i}")
        return 10 * i

    for done in ahead(range(4), begin, lambda begun: begun + 1):
        log.append(f"given {done}")
    assert log == [
        *("begin 0", "begin 1", "given 1", "begin 2", "given 11"),
        *("begin 3", "given 21", "given 31"),
    ]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_chunks_all_arrive(n):
    assert list(ahead(range(n), str, int)) == list(range(n))


def test_no_more_than_two_chunks_are_asked_for_before_they_are_needed():
    asked = iter(range(100))
    assert next(ahead(asked, str, int)) == 0
    assert next(asked) == 2


# --- What stays on a device ----------------------------------------------------------------------


def test_small_examples_are_moved_once_and_again_only_if_they_were_changed():
    split = numbers(10)
    first = resident(split, META, lambda: 10**6)
    assert [part.device for part in first] == [META, META]
    assert all(a is b for a, b in zip(first, resident(split, META, lambda: 0), strict=True))
    split.inputs[0] = 5.0
    changed, kept = resident(split, META, lambda: 10**6)
    assert changed is not first[0] and kept is first[1]


def test_what_would_take_much_of_the_devices_memory_is_not_moved():
    split = numbers(10)
    needed = round((split.inputs.nbytes + split.targets.nbytes) / batching.SHARE)
    assert resident(split, META, lambda: needed - 10) is None
    assert not any(is_moved(part, META) for part in split)
    assert resident(split, META, lambda: needed) is not None


def test_windows_over_a_text_are_not_moved_which_would_write_them_out(windows):
    assert resident(windows, META, lambda: 10**9) is None


def test_what_was_moved_is_forgotten_with_its_examples():
    split = numbers(10)
    before = len(batching._MOVED)
    resident(split, META, lambda: 10**6)
    assert len(batching._MOVED) == before + 2
    del split
    gc.collect()
    assert len(batching._MOVED) == before


def test_what_is_moved_for_inference_serves_for_training():
    with torch.inference_mode():
        split = Split(torch.rand(4, 2), torch.rand(4))  # such as a teacher's answers
        parts = resident(split, META, lambda: 10**6)
    assert not any(part.is_inference() for part in parts)
    assert resident(split, META, lambda: 0) == parts


# --- On a GPU ------------------------------------------------------------------------------------


def test_only_devices_with_streams_get_chunks_copied_ahead():
    assert batching.streams_of(CPU) is batching.streams_of(META) is None
    assert batching.streams_of(torch.device("cuda")) is torch.cuda


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(params=["moved once", "copied ahead"])
def way(request, monkeypatch) -> str:
    """Both ways to a GPU, by what it is said to have room for."""
    monkeypatch.setattr(batching, "SHARE", 0.1 if request.param == "moved once" else 0.0)
    chunks_of(monkeypatch, 3)
    return request.param


@on_gpu
@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("kind", ["numbers", "windows"])
def test_a_gpu_gets_the_same_batches_bit_for_bit(way, windows, kind, seed):
    split = numbers(1_003) if kind == "numbers" else windows
    for _ in range(3):  # epochs: memory is used again
        found = [(x.cuda(), y.cuda()) for x, y in split.batches(10, seed=seed)]
        batches = []
        for i, (inputs, targets) in enumerate(split.batches(10, "cuda", seed)):
            batches.append((inputs.clone(), targets.clone()))
            here, beside = torch.cuda.current_stream(), batching.copying(inputs.device)
            with torch.cuda.stream(beside if i % 2 else here):  # now one is late, now the other
                torch.cuda._sleep(200_000)
        assert same(batches, found)
    assert all(is_moved(part, inputs.device) for part in split) == (
        way == "moved once" and kind == "numbers"
    )


@on_gpu
def test_after_the_first_batch_nothing_waits_for_the_gpu(way):
    split = numbers(1_000)
    total = torch.zeros((), device="cuda")
    batches = split.batches(10, "cuda", seed=0)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for epoch in (batches, split.batches(10, "cuda", seed=1)):
            for inputs, targets in epoch:
                total += inputs.sum() + targets.sum()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert total.item() > 0


@on_gpu
def test_what_a_gpu_fetches_by_itself_is_pinned_and_whole(windows):
    copy = batching.pinned(windows.inputs)
    assert copy.is_pinned() and copy.is_contiguous() and torch.equal(copy, windows.inputs)


# --- A text of one's own -------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    """A file of 100,000 bytes, no two stretches of which are alike."""
    path = tmp_path / "mine.txt"
    drawn = torch.randint(256, (100_000,), generator=torch.Generator().manual_seed(0))
    path.write_bytes(bytes(drawn.tolist()))
    return path


def starts(split: Split, content: bytes) -> list[int]:
    """Where in the file each window begins."""
    return [content.index(bytes(window.tolist())) for window in split.inputs]


def test_windows_overlap_in_training_and_follow_each_other_elsewhere(path):
    data, content = load_text_file(path, context=64), path.read_bytes()
    held = 97 * 64 + 1  # of each: whole windows in a sixteenth of the file, and a last target
    train = 100_000 - 2 * held
    assert starts(data["train"], content) == list(range(0, train - 64, 16))
    assert starts(data["validation"], content) == list(range(train, train + held - 1, 64))
    assert starts(data["test"], content) == list(range(train + held, 100_000 - 1, 64))


def test_each_target_is_the_byte_after_and_no_byte_is_in_two_splits(path):
    data, content = load_text_file(path, context=64), path.read_bytes()
    seen = []
    for split in data.splits.values():
        assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])
        places = starts(split, content)
        assert all(
            content[first + 64] == last
            for first, last in zip(places, split.targets[:, -1].tolist(), strict=True)
        )
        seen.append({byte for first in places for byte in range(first, first + 65)})
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert min(map(len, seen)) > 6_000


def test_it_is_the_file_itself_that_is_read(path):
    data = load_text_file(path)
    with path.open("r+b") as file:  # while it is mapped
        file.write(b"here and now")
    assert data.decode(data["train"].inputs[0, :12]) == "here and now"


@pytest.mark.parametrize("text", ["for x in range(3):", "Zürich", "鳥 é 🦜", "\n\t\\'"])
def test_a_text_becomes_bytes_and_a_text_again(path, text):
    data = load_text_file(path)
    tokens = data.encode(text)
    assert tokens.dtype == torch.int64 and tokens.tolist() == list(text.encode())
    assert data.decode(tokens) == data.decode(tokens.tolist()) == text


def test_half_a_letter_is_said_to_be_one(path):
    data = load_text_file(path)
    assert data.decode(data.encode("ü")[:1]) == "�"
    with pytest.raises(BadValue, match="given an empty text"):
        data.encode("")


def test_its_classes_are_the_bytes(path):
    classes = load_text_file(path).classes
    assert len(set(classes)) == 256 and classes[65] == "A" and classes[10] == r"\n"
    assert "mine.txt" in repr(load_text_file(path)) and str(path.parent) not in repr(
        load_text_file(path)
    )


def test_little_is_held_out_of_a_long_text(tmp_path):
    path = tmp_path / "long.txt"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(10**8)  # zeros, which take no place on a disk
    data = load_text_file(path)
    assert len(data["validation"].inputs) == len(data["test"].inputs) == HELD_OUT // 128
    assert len(data["train"].inputs) == (10**8 - 2 * (HELD_OUT + 1) - 129) // 32 + 1


def test_the_shortest_text_has_a_window_in_each_split(tmp_path):
    path = tmp_path / "short.txt"
    path.write_bytes(bytes(range(33)))
    data = load_text_file(path, context=10)
    assert [split.inputs[:, 0].tolist() for split in data.splits.values()] == [[0], [11], [22]]
    path.write_bytes(bytes(range(32)))
    with pytest.raises(BadValue, match=r"short.txt has 32 bytes; it needs 33, .* of 10 "):
        load_text_file(path, context=10)


def test_what_is_no_text_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(BadValue, match=r"nowhere.txt: no such file\. Give"):
        load_text_file(tmp_path / "nowhere.txt")
    with pytest.raises(BadValue, match=r"is a folder; load_text_file needs a file"):
        load_text_file(str(tmp_path))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(BadValue, match=r"empty.txt has 0 bytes; it needs 387"):
        load_text_file(tmp_path / "empty.txt")


@pytest.mark.parametrize("context", [0, -1, 2.5, "128", True])
def test_a_wrong_context_says_what_is_needed(path, context):
    with pytest.raises(BadValue, match=rf"context={context!r}: needs a whole number"):
        load_text_file(path, context=context)


def test_a_model_learns_from_it_as_from_the_documentation(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("abcdefgh" * 2_000)
    work = replace(language(), load=lambda: load_text_file(path, context=16))
    inputs, targets = work.example(5)
    assert inputs.dtype == targets.dtype == torch.int64 and inputs.shape == (5, 16)
    assert work.size("train") == len(work.data["train"].inputs) > 3_000
    model = work.model("gpt-small")
    history = kit.train(model, work, steps=40, batch_size=16, live=False)
    assert history.losses[0] > 4 and history.losses[-1] < 2
    assert kit.evaluate(model, work).mean.value > 0.5  # by chance one in 256


LARGE = """
import resource, sys, torch
from dataclasses import replace
import kit

def kilobytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

torch.set_num_threads(1)
allowed = kilobytes("VmData") * 1024 + 600_000_000
resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
work = replace(kit.workloads.language(), load=lambda: kit.data.load_text_file(sys.argv[1]))
size, before = work.size("train"), kilobytes("RssAnon")
for (inputs, targets), _ in zip(work.batches("train", 32, seed=0), range(2_000)):
    assert inputs.shape == (32, 128) and torch.equal(inputs[:, 1:], targets[:, :-1])
grown = kilobytes("RssAnon") - before
model = kit.models.GPT(kit.models.GPTConfig(256, d_model=8, n_layers=1, n_heads=1))
history = kit.train(model, work, steps=2, live=False)
print(size, grown, history.steps, history.scores[-1][1].n)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, to limit memory and to read it")
def test_a_file_much_larger_than_the_memory_allowed_is_trained_on(tmp_path):
    """Two gigabytes, of which nothing takes room on the disk, with 0.6 to be had."""
    path = tmp_path / "large.txt"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(2 * 10**9)
    command = [sys.executable, "-c", LARGE, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    size, grown, steps, scored = map(int, run.stdout.split())
    assert size > 62_000_000 and steps == 2 and scored == 256
    assert grown < 200_000  # of which 67,000 are the order
