"""The road of a model that the kit has never seen, as docs/your-own-model.md describes it."""

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from papermill import execute_notebook
from torch import nn
from written import WITHOUT_DRAFTS

import kit
from kit.cli import serve as serve_command
from kit.cli.main import main
from kit.core.errors import BadValue, CheckpointRefused, NotSupported
from kit.core.results import records_in
from kit.serving.packing import pack
from kit.serving.unpacking import unpack
from kit.workloads import from_data

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import record_outputs  # noqa: E402

PAGE = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "notebooks" / "experiments" / "your-own-model.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reader's folder, with the files that the page asks to save."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in record_outputs.files(PAGE).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


# --- The page ------------------------------------------------------------------------------------


def test_the_page_runs_as_it_stands_and_prints_what_it_shows(folder):
    printed = record_outputs.run(PAGE, folder)
    shown = record_outputs.shown(PAGE)
    assert len(printed) == len(shown) > 5 and None not in shown
    for text, old in zip(printed, shown, strict=True):
        assert record_outputs.shape(text) == record_outputs.shape(old)


def test_the_commands_of_the_page_train_plan_and_serve(here, tmp_path):
    sh = [text for kind, text in record_outputs.blocks(PAGE) if kind == "sh"]
    lines = [shlex.split(line)[1:] for text in sh for line in text.splitlines() if "kit " in line]
    commands = {words[0]: words for words in lines}
    run = CliRunner(catch_exceptions=False).invoke
    trained = run(main, [*commands["train"], "--steps", "3"])
    assert trained.exit_code == 0, trained.output
    plan = run(main, [*commands["sweep"], "--dry-run"])
    assert plan.exit_code == 0 and plan.output.count("model=wide") == 2, plan.output

    path, options = Path(commands["serve"][1]), commands["serve"][2:]
    model, example, _ = serve_command._of_workload(path, options[-1])
    pack(model, example, tmp_path)
    served, (asked,) = unpack(tmp_path, "model"), re.findall(r"--data '(.*)'", sh[-1], re.DOTALL)
    specs = {spec.name: spec.to_dict() for spec in served.inputs}
    rows = json.loads(asked)["inputs"]
    assert [(r["name"], r["datatype"]) for r in rows] == [
        (name, spec["datatype"]) for name, spec in specs.items()
    ]
    kinds = {"INT64": np.int64, "FP32": np.float32}
    arrays = {
        r["name"]: np.array(r["data"], kinds[r["datatype"]]).reshape(r["shape"]) for r in rows
    }
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    wanted = kit.predict(model.net, given)
    assert served.predict(arrays)["output"] == pytest.approx(wanted.numpy(), rel=1e-5)
    assert all(f'"{row["name"]}"' in record_outputs.programs(PAGE)[-2] for row in rows)


def test_weights_of_another_class_are_refused_by_the_command(here, tmp_path):
    path = kit.save(tmp_path / "other.kit", nn.Linear(2, 1))
    with pytest.raises(CheckpointRefused, match="does not fit this"):
        serve_command._of_workload(path, "my_model.py:work")
    with pytest.raises(CheckpointRefused, match=r"kit serve PATH --workload FILE\.py:NAME"):
        kit.load(path)


def test_a_model_of_transformers_is_trained_and_billed(capsys):
    pytest.importorskip("transformers")
    (code,) = [text for _, text in record_outputs.blocks(PAGE) if text.startswith("from transf")]
    exec(compile(code, "page", "exec"), {"torch": torch, "kit": kit})
    assert "20 steps in" in (out := capsys.readouterr().out) and "a training step takes" in out


# --- The notebook --------------------------------------------------------------------------------


@pytest.mark.usefixtures("warm_kernels")
def test_the_notebook_takes_the_file_and_leaves_the_records(here, tmp_path):
    quick = {"file": f"{here / 'my_model.py'}:work", "budget_s": 0.2, "threads": 1, "rate": 20.0}
    out = tmp_path / "run.ipynb"
    execute_notebook(NOTEBOOK, out, {**quick, "target_ms": 1000.0}, cwd=here, **WITHOUT_DRAFTS)
    outputs = [o for cell in nbformat.read(out, 4).cells for o in cell.get("outputs", [])]
    kinds = {record["kind"] for output in outputs for record in records_in(output)}
    roads = {"Count", "History", "Score", "StepCost", "RunCost", "Lifetime", "Fastest", "Sweep"}
    assert kinds >= roads | {"Machine", "TrafficResult"}
    assert not [o for o in outputs if o.output_type == "error"]


def test_page_and_notebook_have_the_same_model_and_data():
    code = "\n".join(c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code")
    bare = re.sub(
        r'\n +""".*"""\n(?:\n(?= +def))?', "\n", record_outputs.files(PAGE)["my_model.py"]
    )
    for name in ("Rides", "Arrival"):
        (found,) = re.findall(rf"^class {name}.*?(?=\n\n\n|\nclass |\Z)", bare, re.M | re.S)
        assert found.strip() in code, name


# --- Models that the kit has never seen ----------------------------------------------------------

N = 60


class OneDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(11, 3)

    def forward(self, batch):
        return self.head(torch.cat([self.embed(batch["ids"]).mean(1), batch["x"]], 1))


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


class Object(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x):
        hidden = self.body(x).relu_()
        return Output(self.head(hidden), hidden)


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("offset", torch.arange(6.0), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += len(x)
        return self.head(self.norm(x) + self.offset)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids) + self.embed(torch.arange(ids.shape[1])))


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36 + 2, 3)

    def forward(self, image, numbers):
        return self.head(torch.cat([self.conv(image).relu().flatten(1), numbers], 1))


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(6, 1))

    def forward(self, x):
        return self.head(x).squeeze(-1)


def data_of(name):
    torch.manual_seed(0)
    x, ids = torch.randn(N, 6), torch.randint(1, 20, (N, 7))
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return {
        "OneDict": ({"ids": ids, "x": x[:, :3]}, y),
        "Tied": (ids, ids),
        "Images": ((torch.rand(N, 1, 8, 8), x[:, :2]), y),
        "Number": (x, 2 * x[:, 0]),
    }.get(name, (x, y))


@pytest.mark.parametrize("kind", [OneDict, Object, Buffers, Tied, Images, Number])
def test_a_model_by_others_goes_through_every_door(kind, tmp_path):
    work = from_data(data_of(kind.__name__), model=kind)
    model, rows = work.model(), work.example(16)[0]
    assert repr(kit.count(model, rows)).startswith(f"{kind.__name__}: ")
    history = kit.train(model, work, steps=3, batch_size=8, live=False)
    again = kit.load(kit.save(tmp_path / "m.kit", model, history), model=work.model())
    assert kit.evaluate(again.model, work) == kit.evaluate(model, work)
    assert again.state is not None
    assert kit.step_cost(model, work, batch_size=8, budget_s=0.01).name == kind.__name__.lower()
    answers = kit.predict(model, rows)
    assert kit.predict(kit.techniques.half(model, rows), rows).shape == answers.shape
    pack(model, rows, tmp_path)
    served, parts = unpack(tmp_path, "model"), rows
    if hasattr(model, "layout"):
        parts = dict(zip(model.layout.names, model.layout.unpack(rows), strict=False))
        parts = parts or dict(zip(("image", "numbers"), model.layout.unpack(rows), strict=True))
    arrays = parts if isinstance(parts, dict) else {"input": parts}
    assert [spec.name for spec in served.inputs] == list(arrays)
    found = served.predict({name: part.numpy() for name, part in arrays.items()})["output"]
    assert found == pytest.approx(answers.numpy(), rel=1e-4, abs=1e-5)


class InPlace(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)

    def forward(self, x):
        return super().forward(x.sub_(0.5))


def test_a_model_that_writes_into_its_inputs_is_refused_before_it_spoils_the_data(vision):
    data = data_of("InPlace")
    before = data[0].clone()
    with pytest.raises(BadValue, match=r"InPlace changes its inputs in place.*x = x - 1"):
        from_data(data, model=InPlace)
    assert torch.equal(data[0], before)
    plain = from_data(data, model=lambda: nn.Linear(6, 3))
    for call in (lambda m: kit.evaluate(m, plain), lambda m: kit.techniques.half(m, data[0])):
        with pytest.raises(BadValue, match="in place"):
            call(InPlace())


class Forces(nn.Linear):
    def __init__(self):
        super().__init__(6, 1)

    def forward(self, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)[0]


class Branching(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)

    def forward(self, x):
        return super().forward(x) if x.sum().item() > 0 else x[:, :3]


REFUSED = {
    "gradients inside": (lambda: kit.predict(Forces(), torch.rand(2, 6)), BadValue, "enable_grad"),
    "one dict": (lambda: kit.count(OneDict(), {"x": torch.rand(2, 3)}), BadValue, r"\(inputs,\)"),
    "a branch": (
        lambda: kit.serve(Branching(), example=torch.rand(2, 6)), NotSupported, "torch.where"
    ),
    "weight_norm": (
        lambda: kit.techniques.zeroed(Number(), torch.rand(2, 6)),
        NotSupported,
        r"remove_parametrizations\(model\.head, 'weight'\)",
    ),
    "a Dataset of dicts": (
        lambda: from_data(Dicts(), model=nn.Identity),
        BadValue,
        r"If the targets are 'y': \(\{'x': d\['x'\]\}, d\['y'\]\)",
    ),
}  # fmt: skip


class Dicts(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"x": torch.rand(4), "y": i % 2}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_says_what_to_do(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        call()
