"""The benchmarks of inference run, small: their figures belong to `benchmarks/results/`."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

import kit
from kit.core.statistics import Estimate
from kit.costs.counting import PhaseCost
from kit.measurement import Peaks
from kit.models import GPTConfig

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = GPTConfig(vocab_size=16, context=64, d_model=16, n_layers=1, n_heads=1)


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Imports a module of the benchmarks, which are no package; what it keeps is thrown away."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name):
        module = importlib.import_module(name)
        monkeypatch.setattr(sys.modules["keeping"], "RESULTS", tmp_path)
        return module

    yield load
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


# --- With a cache and without --------------------------------------------------------------------


def test_both_ways_are_timed_and_held_against_the_roofline(script, monkeypatch):
    module = script("kv_cache")
    monkeypatch.setattr(module, "CONFIG", TINY)
    monkeypatch.setattr(module, "PROMPT", 8)
    monkeypatch.setattr(module, "NEW", 20)
    limits = Peaks({"float32": 1e12}, 1e11, {}, "cpu", 1, cache_bytes_per_s=2e11)
    monkeypatch.setattr(module.kit, "peaks", lambda *_, **__: limits)
    told = module.measure(pairs=2)
    assert told["speedup"].value == pytest.approx(
        told["measured_to_predicted"].value * told["speedup_predicted"]
    )
    assert told["tokens_per_s_with_cache"] == pytest.approx(20 / told["with_cache_s"].value)
    assert told["kv_bytes"] == 2 * 16 * 4 * 27


def test_the_roofline_by_hand(script):
    module = script("kv_cache")

    class Counted:
        prefill = PhaseCost(100, 10)
        decode = (PhaseCost(10, 10), PhaseCost(10, 20))
        rereading = (PhaseCost(100, 10), PhaseCost(110, 10), PhaseCost(120, 10))

    # 10 FLOP/s, 1 B/s: prefill 10 s by either, then 10 and 20 s of moving; anew 10, 11 and 12 s.
    assert module.predicted(Counted, 10, 1) == (33, 40)


# --- One token on a GPU --------------------------------------------------------------------------


def test_the_script_for_a_gpu_runs_small_on_the_cpu(script, tmp_path):
    module = script("gpu_decode")
    row = module.small(ways=("plain",))
    way = row["ways"]["plain"]
    assert way["bytes_per_s"]["value"] * way["step_s"]["value"] == pytest.approx(
        row["decode_bytes"], rel=1e-6
    )
    assert way["share_of_data_sheet"] is None
    assert way["share_of_measured"]["value"] == pytest.approx(way["bytes_per_s"]["value"] / 1e9)
    assert row["kv_bytes_per_token"] == 2 * 2 * 32 * 2  # bfloat16
    assert list(tmp_path.iterdir()) == []


def test_the_sizes_are_those_that_their_names_say(script):
    for name, config in script("gpu_decode").SIZES.items():
        multiplying = 12 * config.n_layers * config.d_model**2 + config.vocab_size * config.d_model
        number = float(name.split()[0].rstrip("MB")) * (1e9 if "B" in name else 1e6)
        assert multiplying == pytest.approx(number, rel=0.03)


def test_without_a_gpu_the_script_says_so_and_keeps_nothing(script, monkeypatch, tmp_path):
    module = script("gpu_decode")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA GPU"):
        module.main(module.SIZES)
    assert list(tmp_path.iterdir()) == []


# --- Six models in all forms ---------------------------------------------------------------------


def test_zeros_stay_zeros_while_the_others_learn(script, vision):
    module = script("inference_ladder")
    model = vision.model("mlp")
    example, _ = vision.example(16)
    begun = kit.techniques.zeroed(model, example, share=0.8)
    form = module.zeroed(vision)(model, example)
    for before, after in zip(begun.parameters(), form.parameters(), strict=True):
        if before.ndim > 1:
            assert (after[before == 0] == 0).all()
            assert (after[before != 0] != before[before != 0]).any()


def test_the_geometric_mean_by_hand(script):
    module = script("inference_ladder")
    found = module.mean([Estimate(2, 1, 4, "×").to_dict(), Estimate(8, 4, 16, "×").to_dict()])
    assert (found.value, found.low, found.high) == pytest.approx((4, 2, 8))


def made_up(name, first, best):
    times = {"1": Estimate(first, first, first, "s"), "64": Estimate(first, first, first, "s")}
    quick = {n: Estimate(best, best, best, "s") for n in times}
    lost = Estimate(0.001, 0, 0.002, "%").to_dict()

    def form(label, taken):
        told = {n: each.to_dict() for n, each in taken.items()}
        ratio = {n: Estimate(1.25, 1.2, 1.3, "×").to_dict() for n in taken}
        return {"name": label, "time_s": told, "time_ratio": ratio, "score_lost_share": lost}

    gain = Estimate(first / best, first / best, first / best, "×").to_dict()
    return {
        "workload": name,
        "model": "MLP(hidden=1)",
        "forms": [form("none", times), form("none, no_grad", times), form("onnx", quick)],
        "fastest_legal": {"1": "onnx", "64": "onnx"},
        "speedup": {"1": gain, "64": gain},
        "regret": {"1": {"ratio": Estimate(1.02, 1, 1.03, "×").to_dict()}},
    }


def test_the_table_is_printed_from_what_was_kept(script, monkeypatch, tmp_path):
    module = script("inference_ladder")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    models = [made_up("vision", 7.5e-5, 1e-5), made_up("fraud", 3e-5, 1e-5)]
    told = module.summary(models)
    assert told["mean_speedup_batch_1"].value == pytest.approx(22.5**0.5)
    assert told["least_speedup_batch_64"] == pytest.approx(3) and told["largest_regret"] == 1.02
    kept = {**{k: v.to_dict() for k, v in told.items() if isinstance(v, Estimate)}}
    kept |= {"models": models, "machine": {"cpu": "a processor"}, "date": "2026-01-31"}
    (tmp_path / "inference_ladder.json").write_text(json.dumps(kept))
    table = module.table()
    assert "| vision, MLP | 75.0 µs → 10.0 µs | onnx | 7.50 |" in table
    assert "Geometric means: 4.74 ×" in table and "a processor, 1 thread, 2026-01-31" in table
    assert "by `kit.predict`: 1.25 to 1.25 × for one example" in table
