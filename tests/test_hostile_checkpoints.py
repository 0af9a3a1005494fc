"""Checkpoints made to hurt: each is a refusal, soon, and in little memory.

They are loaded in a process of their own that may take no more than a quarter of a gigabyte. What
is loaded all the same (a loss that is another number) must train on, or be refused in one line.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kit import checkpoints
from kit.core import tensor_files
from kit.models import FAMILIES, MLP, MLPConfig
from kit.training import train

MADE = ("junk", "parts", "configs", "headers", "bombs")
ROOM_BYTES, MOST_CPU_S = 2**28, 5.0  # aimed at is 1 s; a busy machine must not decide

VICTIM = """
import json, resource, sys, time, warnings
from pathlib import Path
import torch, kit
from kit.core.errors import CheckpointRefused, KitError
torch.set_num_threads(1)
warnings.simplefilter("ignore")
work, room, told = kit.workloads.vision(), int(sys.argv[2]), {}
def go_on(kept):
    kit.train(kept.model, work, steps=3, batch_size=32, lr=0.003, resume=kept.state, live=False)
model = kit.models.MLP(kit.models.MLPConfig(hidden=2, layers=1))
kit.train(model, work, steps=2, live=False)
used = 1024 * int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, (used + room, used + room))
for path in sorted(Path(sys.argv[1]).glob("*/*.kit")):
    started = time.process_time()
    try:
        kept = kit.load(path)
        outcome = "loaded"
        if kept.state:
            go_on(kept)
    except CheckpointRefused as error:
        outcome = "refused" if str(error).isprintable() and len(str(error)) < 1000 else str(error)
    except KitError as error:
        outcome = "refused later" if outcome == "loaded" else repr(error)
    except BaseException as error:
        outcome = repr(error)
    told[f"{path.parent.name}/{path.stem}"] = outcome, time.process_time() - started
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, tuple[str, float]]:
    """What became of each file, and after how much work; one process opens them all."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs limits on memory as Linux has them")
    folder, kept = tmp_path_factory.mktemp("hostile"), sound(tmp_path_factory.mktemp("sound"))
    for number, make in enumerate(
        (junk_everywhere, parts_missing, large_configs, bad_headers, bombs)
    ):
        (folder / MADE[number]).mkdir()
        make(folder / MADE[number], *kept)
    command = [sys.executable, "-c", VICTIM, str(folder), str(ROOM_BYTES)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def sound(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """A checkpoint taken apart: its tensors and its JSON."""
    from kit.workloads import vision

    model = MLP(MLPConfig(hidden=2, layers=1))
    history = train(model, vision(), steps=2, live=False)
    path = checkpoints.save(folder / "a.kit", model, history)
    data = tensor_files.read(path)
    text = tensor_files.header(path, data)["__metadata__"]["kit"]
    return tensor_files.unpack(path, data, text), json.loads(text)


def signed(path: Path, tensors: dict[str, torch.Tensor], about: object) -> Path:
    """A file with a digest that is right: a stranger knows how it is computed."""
    text = json.dumps(about)
    path.write_bytes(tensor_files.pack(tensors, text, kit=text))
    return path


def signed_again(path: Path, first: bytes, tensors: dict[str, torch.Tensor], about: object) -> Path:
    """Like `signed`, for hundreds of files with the tensors of the first: only the notes differ."""
    text, size = json.dumps(about), int.from_bytes(first[:8], "little")
    notes = {"kit": text, "digest": tensor_files.digest(tensors, text)}
    header = json.dumps({**json.loads(first[8 : 8 + size]), "__metadata__": notes})
    raw(path, header + " " * (-len(header) % 8), first[8 + size :])
    return path


def deep(n: int) -> object:
    value: object = []
    for _ in range(n):
        value = [value]
    return value


JUNK = [
    *(None, True, 0, -1, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf")),
    *(
        "",
        "\ud800",
        "é",
        "\x1b[31m\n" * 99,
        "x" * 9_999,
        [],
        {},
        [[]],
        deep(90),
        {"tensor": "none"},
    ),
    {"pairs": [[[], 1]]},
    {"pairs": 3},
    {"floats": "model.head.bias"},
    {"tensor": "model.head.bias"},
]


def places(value: object, at: tuple = ()) -> Iterator[tuple]:
    """The way to each part of a JSON value."""
    yield at
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*at, name))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from places(each, (*at, i))


def with_junk(value: object, at: tuple, junk: object) -> object:
    if not at:
        return junk
    value = json.loads(json.dumps(value))
    part = value
    for step in at[:-1]:
        part = part[step]
    part[at[-1]] = junk
    return value


# --- What is said of the model and the training --------------------------------------------------


def junk_everywhere(folder: Path, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """In the JSON of the metadata."""
    ways = list(places(about))
    assert len(ways) > 150
    for i, at in enumerate(ways):
        chosen = JUNK if len(at) < 2 else [JUNK[(i + k) % len(JUNK)] for k in range(0, 24, 7)]
        for k, junk in enumerate(chosen):
            signed(folder / f"{i:03}-{k:02}.kit", tensors, with_junk(about, at, junk))


def parts_missing(folder: Path, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Each tensor left out, or of another kind."""
    for i, name in enumerate(tensors):
        less = {k: v for k, v in tensors.items() if k != name}
        signed(folder / f"less-{i}.kit", less, about)
        for k, other in enumerate(
            (torch.zeros(0), torch.zeros(1), torch.full((3, 999), -1), torch.zeros(5056).byte())
        ):
            signed(folder / f"other-{i}-{k}.kit", {**tensors, name: other}, about)


def large_configs(folder: Path, *_: object) -> None:
    """Files of 10 kB that ask for gigabytes, or for minutes."""
    few = {f"model.{i}": torch.zeros(1) for i in range(100)}
    first = signed(folder / "first.kit", few, {}).read_bytes()
    path = signed_again(folder / "first.kit", first, few, {})
    # Its notes are right: such a file is refused only for what it asks.
    assert len(tensor_files.unpack(path, path.read_bytes(), "{}")) == len(few)
    path.unlink()
    sizes = (-1, 0, 40_000, 10**6, 2**31 - 1, 2**40, 10**400, 1.5, "x", None, True, [3], {})
    for family, (_, options) in FAMILIES.items():
        about = {"version": 2, "family": family, "class": "", "shared": {}, "state": None}
        config = vars(options())
        for name in config:
            for i, size in enumerate(sizes):
                path = folder / f"{family}-{name}-{i}.kit"
                signed_again(path, first, few, {**about, "config": {**config, name: size}})
                assert path.stat().st_size < 12_000
        for i, other in enumerate(({}, [], 3, None, {"hidden": 1, "x": 2}, {"self": 1})):
            path = folder / f"{family}-{i}.kit"
            signed_again(path, first, few, {**about, "config": other})


def bombs(folder: Path, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Small files that ask for hundreds of times their size, or for minutes of work."""
    many = torch.full((10**6,), 1.0, dtype=torch.float64)
    twice = [{"floats": "state.x"}] * 2
    (losses,) = (pair for pair in about["state"]["pairs"] if pair[0] == "losses")
    others = [pair for pair in about["state"]["pairs"] if pair is not losses]
    states = {
        "unknown": ([*others, losses, ["extra", []]], many[:3]),
        "twice": ([*others, ["losses", twice]], many[:3]),
        "kind": ([*others, ["losses", twice[0]]], many.to(torch.float8_e4m3fn)),
        "square": ([*others, ["losses", twice[0]]], many.reshape(1000, 1000)),
        "model": ([*others, ["losses", {"tensor": "model.head.bias"}]], many[:3]),
    }
    for name, (pairs, x) in states.items():
        signed(
            folder / f"{name}.kit", {**tensors, "state.x": x}, {**about, "state": {"pairs": pairs}}
        )
    plain = {"version": 2, "class": "", "shared": {}, "state": None}
    deep = {"GPT": "n_layers", "Transformer": "n_layers", "RNN": "layers", "MLP": "layers"}
    for kind, each in (("empty", torch.zeros(0).byte()), ("single", torch.zeros(1).byte())):
        weights = {f"model.{i}": each.clone() for i in range(20_000)}
        first = signed(folder / f"MLP-{kind}.kit", weights, {}).read_bytes()
        for family, name in deep.items():
            small = dict.fromkeys(
                {"d_model", "n_heads", "hidden"} & set(vars(FAMILIES[family][1]())), 1
            )
            about = {**plain, "family": family, "config": {**small, name: 20_000}}
            signed_again(folder / f"{family}-{kind}.kit", first, weights, about)


# --- What is said of the tensors -----------------------------------------------------------------


def raw(path: Path, header: str | bytes, body: bytes = b"") -> None:
    header = header if isinstance(header, bytes) else header.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)


def bad_headers(folder: Path, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Junk in the header, and files that say they are larger than they are."""
    data = tensor_files.pack(tensors, json.dumps(about), kit=json.dumps(about))
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    entries = [name for name in header if name != "__metadata__"]
    i = 0
    for name in ("__metadata__", *entries[:3], entries[-1]):
        for at in places(header[name]):
            for junk in JUNK:
                told = json.dumps({**header, name: with_junk(header[name], at, junk)})
                raw(folder / f"junk-{(i := i + 1):04}.kit", told, body)
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    twice = json.dumps({"a": one})[:-1] + f', "a": {json.dumps(one)}}}'
    shapes = ([2**62], [2**31, 2**31, 4], [0, 2**61], [1] * 10_000, [-1], [-1, -1], [1e9], ["1"])
    bombs = {
        "twice": twice,
        "nested": "[" * 100_000,
        "objects": '{"a":' * 100_000,
        "lists": "[" + "[]," * 6_000_000 + "[]]",
        "number": '{"a":' + "9" * 100_000 + "}",
        "utf": b'{"\xff": 1}',
        "text": json.dumps({"__metadata__": {"kit": "[" * 90_000, "digest": ""}}),
        "wide": json.dumps({"__metadata__": {"kit": "[" + "1," * 3_000_000 + "1]", "digest": ""}}),
        "surrogate": json.dumps({"__metadata__": {"kit": "\ud800", "digest": "\ud800"}}),
    }
    for i, shape in enumerate(shapes):
        for end in (0, 4, 2**62):
            entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
            bombs[f"shape-{i}-{end}"] = json.dumps({"a": entry, "__metadata__": {"kit": "{}"}})
    for name, text in bombs.items():
        raw(folder / f"{name}.kit", text, b"\0" * 4)
    for size in (2**25 + 1, 2**40, 2**63, 2**64 - 1):  # no such header follows
        (folder / f"size-{size}.kit").write_bytes(size.to_bytes(8, "little") + b"{" * 99)
    with (folder / "sparse.kit").open("wb") as file:  # no bytes on the disk, a terabyte to read
        file.write((2**24).to_bytes(8, "little"))
        file.truncate(2**40)


# --- What becomes of them ------------------------------------------------------------------------


def test_many_were_tried(told):
    counts = [sum(name.startswith(made) for name in told) for made in MADE]
    assert counts[0] > 700 and counts[1] > 80 and counts[2] > 500 and counts[3] > 500


@pytest.mark.parametrize("made", MADE)
def test_each_is_refused_in_one_line_or_trains_on(told, made):
    mine = {name: outcome for name, (outcome, _) in told.items() if name.startswith(made)}
    fine = {"refused", "refused later", "loaded"} if made in ("junk", "parts") else {"refused"}
    odd = {name: outcome for name, outcome in mine.items() if outcome not in fine}
    same = [name for name, outcome in odd.items() if made == "headers" and outcome == "loaded"]
    assert len(odd) == len(same) < 3, odd  # a junk that is what was there
    assert "refused" in mine.values()


def test_a_tensor_that_is_missing_is_always_noticed(told):
    less = {name: outcome for name, (outcome, _) in told.items() if name.startswith("parts/less")}
    assert less and set(less.values()) == {"refused"}


def test_no_small_file_asks_for_much(told):
    mine = {name: outcome for name, (outcome, _) in told.items() if name.startswith("bombs")}
    assert len(mine) == 13 and set(mine.values()) == {"refused"}, mine


def test_none_takes_long(told):
    assert not {name: cpu_s for name, (_, cpu_s) in told.items() if cpu_s > MOST_CPU_S}
