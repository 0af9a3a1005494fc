"""How far a GPT's training step uses a machine: counts by hand, both scripts at small size."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kit
from kit.models import GPT, GPTConfig

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports one of the benchmarks' modules, which are no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


@pytest.mark.parametrize(
    "config", [GPTConfig(), GPTConfig(64, context=32, d_model=32, n_layers=3, n_heads=2)]
)
def test_flops_by_hand_are_those_that_kit_counts(script, config):
    tokens = torch.zeros(2, config.context, dtype=torch.long)
    counted, places = kit.count(GPT(config), tokens), tokens.numel()
    full, causal = script("gpu_training").flops_per_token(config).values()
    assert counted.forward_flops == places * full / 3  # a step is three forward passes
    assert counted.causal_forward_flops == places * causal / 3
    # PyTorch's counter adds what fused attention computes again: all scores, 2·T·d in each layer.
    again = 2 * config.n_layers * config.context * config.d_model
    assert counted.step_flops - counted.optimizer_flops == places * (full + again)


def test_the_sizes_are_those_that_their_names_say(script):
    module = script("gpu_training")
    for name, (config, _) in module.SIZES.items():
        multiplying = 12 * config.n_layers * config.d_model**2 + config.vocab_size * config.d_model
        assert multiplying == pytest.approx(1e6 * int(name.rstrip("M")), rel=0.02)


def test_mfu_by_hand(script):
    module = script("gpu_training")
    config, batch = module.SIZES["124M"][0], 64
    told = module.rates(config, batch, kit.statistics.Estimate(0.1, 0.08, 0.2, "s"), 1e15, None)
    assert told["tokens_per_s"].value == 655_360
    # 64·1024 tokens × (6 · 123,568,128 + 12·12·1024·768) FLOPs in 0.1 s, of 10¹⁵ FLOP/s:
    assert told["mfu_full"].value == pytest.approx(0.5601, abs=1e-4)
    assert told["mfu_full"].low == pytest.approx(0.5601 / 2, abs=1e-4)
    assert told["mfu_full"].high == pytest.approx(0.5601 / 0.8, abs=1e-4)
    assert told["mfu_causal"].value == pytest.approx(0.5230, abs=1e-4)
    assert told["share_of_matmul_full"] is None


def test_the_script_for_a_gpu_runs_small_on_the_cpu(script, monkeypatch, tmp_path):
    module = script("gpu_training")
    monkeypatch.setattr(sys.modules["keeping"], "RESULTS", tmp_path)
    row = module.small(compile=False)
    assert row["params"] == sum(p.numel() for p in GPT(module.SMALL).parameters())
    assert row["tokens_per_s"].value * row["step_s"].value == pytest.approx(8 * 32)
    assert row["mfu_full"] is None  # no data sheet tells this CPU's
    assert row["compile_s"] is None
    assert 3 < row["loss"] < 5  # ln 64 = 4.16: nothing was learnt, and it is a number
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_the_script_says_so_and_keeps_nothing(script, monkeypatch, tmp_path):
    module = script("gpu_training")
    monkeypatch.setattr(sys.modules["keeping"], "RESULTS", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        module.main(module.SIZES)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_does_not_fit_is_halved(script, monkeypatch):
    module, tried = script("gpu_training"), []

    def full(config, batch, *rest):
        tried.append(batch)
        if batch > 2:
            raise torch.OutOfMemoryError("full")
        return {"batch_size": batch}

    monkeypatch.setattr(module, "figures", full)
    assert module.fitting(module.SMALL, 8, torch.device("cpu"), None) == {"batch_size": 2}
    assert tried == [8, 4, 2]


def test_a_step_takes_turns_with_the_matmuls(script):
    module = script("gpt_step_share")
    made = []
    steps = iter(lambda: made.append("step"), "the end")
    taken, best = module.rounds(steps, [(1000, lambda: made.append("matmul"))], 2)
    around = ["matmul"] * module.TRIES
    assert made == 2 * [*around, "step", *around]
    assert taken.shape == best.shape == (2, 2)
    assert (best[:, 0] > 0).all()


def test_the_share_of_a_step_is_its_flops_per_second_over_those_of_the_matmul(script, monkeypatch):
    module, work = script("gpt_step_share"), kit.workloads.language()
    monkeypatch.setattr(module, "MATMULS", [(8, 8, 8)])
    real = module.rounds

    def known(steps, calls, n):  # a step of 0.1 s, or 0.2 s by the other clock, beside 1 GFLOP/s
        real(steps, calls, 1)
        return np.tile([0.1, 0.2], (n, 1)), np.full((n, 2), 1e9)

    monkeypatch.setattr(module, "rounds", known)
    row = module.row(work, (16, 1, 1), 2, "bf16", 6)
    multiplying = 12 * 16**2 + 16 * len(work.data.classes)
    full = 2 * 128 * (6 * multiplying + 12 * 128 * 16) / 1e8
    causal = 2 * 128 * (6 * multiplying + 6 * 129 * 16) / 1e8
    assert row["share_full"].value == pytest.approx(full)
    assert row["share_causal"].value == pytest.approx(causal)
    assert row["share_full_by_processor_time"].value == pytest.approx(full / 2)
