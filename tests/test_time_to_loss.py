"""The benchmark of time to a loss runs, small: its figures belong to `benchmarks/results/`."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The benchmark with tiny GPTs, few steps and a loss that all reach."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("time_to_loss")
    tiny = {"n_layers": 1, "n_heads": 1, "d_model": 16}
    turned = {**tiny, "positions": "rotary"}
    recipe = {**module.RECIPE, "steps": 12, "evaluate_every": 4}
    for name, value in {
        "CONTEXT": 16,
        "NANO": tiny,
        "KIT": turned,
        "NGRAMS": turned,
        "SAMPLE": turned,
        "BUCKETS": 64,
        "NANO_STEPS": 40,
        "NANO_WARMUP": 4,
        "NANO_LR": 1e-2,
        "NANO_EVERY": 20,
        "RECIPE": recipe,
        "NGRAMS_RECIPE": recipe,
        "SAMPLE_RECIPE": recipe,
        "SAMPLE_CHARACTERS": 30,
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys.modules["keeping"], "RESULTS", tmp_path)
    yield module
    for name in ("time_to_loss", "keeping"):
        sys.modules.pop(name, None)


@pytest.fixture
def parts(bench):
    return bench.Parts("time_to_loss")


def test_the_recipes_are_timed_to_the_same_loss(bench, parts):
    found = bench.measure(parts, pairs=1, target=4.5)  # chance is 4.6
    for run in (found["runs"][who][0] for who in ("kit", "ngrams", "nano")):
        assert run["loss"] <= 4.5
        assert run["train_s"] == pytest.approx(run["steps"] * run["step_s"])
    assert found["runs"]["kit"][0]["steps"] in (4, 8, 12)
    assert found["nano_to_kit"].value > 0 and found["nano_to_ngrams"].value > 0


def test_a_run_that_never_gets_there_is_no_measurement(bench, parts):
    with pytest.raises(SystemExit, match=r"kit: .* nats after 12 steps, needed 0.1"):
        bench.measure(parts, pairs=1, target=0.1)


def test_it_runs_to_its_end_and_goes_on_where_it_was(bench, monkeypatch, tmp_path):
    """A run that ended early trains nothing twice; the result names the commit that made it."""
    monkeypatch.setattr(bench, "TARGET_LOSS", 4.5)
    monkeypatch.setattr(bench.measure, "__defaults__", (4.5,))
    train, trained = bench.nano, []

    def nano(work, seed, target):
        if seed and not trained.count("stopped"):
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(seed)
        return train(work, seed, target)

    monkeypatch.setattr(bench, "nano", nano)
    with pytest.raises(KeyboardInterrupt):
        bench.main(2, with_sample=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "unfinished"]
    bench.main(2, with_sample=False)
    assert trained == [0, "stopped", 1]
    kept = json.loads((tmp_path / "time_to_loss.json").read_text(encoding="utf-8"))
    assert [len(runs) for runs in kept["runs"].values()] == [2, 2, 2]
    assert kept["nano_to_kit"]["value"] > 0
    assert "Muon with q, k and v apart" in kept["conditions"]
    assert {"commit", "script", "machine", "date"} <= set(kept)
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_gpt_of_n_grams_reads_the_last_characters_of_each_position(bench, monkeypatch):
    monkeypatch.setattr(bench, "BUCKETS", 10**6)
    embedding = bench.NGramEmbedding(10, 4)
    tokens = torch.tensor([[3, 1, 4, 1]])
    single, (pairs, triples) = embedding.weight, embedding.tables
    found = embedding(tokens)[0]
    for at, (one, two, three) in enumerate([(3, 3, 3), (1, 31, 31), (4, 14, 314), (1, 41, 141)]):
        expected = single[one] + pairs.weight[two] + triples.weight[three]
        torch.testing.assert_close(found[at], expected)
    model = bench.zeroed(bench.gpt(bench.windowed(), bench.NGRAMS, 0, bench.NGramGPT))
    with pytest.raises(NotImplementedError, match="without a cache"):
        model.cache()
    names = [name for name, _ in model.named_parameters() if "tables" in name]
    assert names == ["token_embedding.tables.0.weight", "token_embedding.tables.1.weight"]


def test_a_growing_gpt_reads_half_windows_only_at_the_start_of_its_training(bench):
    work = bench.windowed()
    model, read = bench.gpt(work, bench.KIT, 0, bench.Growing), []
    model.token_embedding.register_forward_pre_hook(
        lambda part, inputs: read.append((part.training, inputs[0].shape[1]))
    )
    growing = replace(work, loss=bench.loss_of_read)
    options = {"steps": 5, "evaluate_every": 5, "after_step": bench.grow, "live": False}
    history = bench.kit.train(model, growing, **options)
    assert [length for training, length in read if training] == [8, 8, 16, 16, 16]
    assert {length for training, length in read if not training} == {16}
    assert history.scores[-1][1].loss == bench.kit.evaluate(model, work, "validation").loss


def test_nanos_rate_rises_and_then_falls_to_its_least(bench):
    rates = [bench.nano_rate(step) for step in range(41)]
    assert max(rates) == rates[4] == pytest.approx(1e-2)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[40] == pytest.approx(bench.NANO_LEAST_LR)


def test_what_is_written_begins_with_the_prompt_and_its_words_are_counted(bench):
    found = bench.sample(seconds=0.1)
    assert found["text"].startswith(bench.PROMPT)
    assert len(found["text"]) == len(bench.PROMPT) + 30
    assert 0 <= found["known_words_share"] <= 1
    assert bench.known_share("the qwzrk of it", "The cat of them") == 0.5


def test_a_model_sees_no_more_than_its_context_while_it_writes(bench):
    work = bench.windowed()
    model = bench.gpt(work, bench.KIT, seed=0)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    torch.manual_seed(0)
    bench.write(model, work.data, "The ", 20)
    assert seen == [min(4 + i, 16) for i in range(20)]


def test_parts_of_other_conditions_are_measured_again(bench):
    kept = bench.Parts("time_to_loss", threads=1)
    assert kept.once("a", lambda: 1) == 1
    assert bench.Parts("time_to_loss", threads=1).once("a", lambda: 2) == 1
    assert bench.Parts("time_to_loss", threads=2).once("a", lambda: 2) == 2


def test_only_what_is_measured_changes_the_fingerprint(bench):
    fingerprint = sys.modules["keeping"].fingerprint
    code = '"""About."""\n\nSTEPS = 3\n\n\ndef measure():\n    """It."""\n    return STEPS\n'
    same = (
        code.replace("About", "Other").replace("It", "That") + "\n# end\ndef table():\n    pass\n"
    )
    same = same.replace("STEPS = 3", "import re\n\nSTEPS = (  # of a run\n    3\n)")
    same = same.replace("    return", "    from math import pi\n\n    return")
    assert fingerprint(code) == fingerprint(same)
    assert fingerprint(code) != fingerprint(code.replace("STEPS = 3", "STEPS = 4"))
    assert fingerprint(code) != fingerprint(code.replace("return STEPS", "return 2 * STEPS"))
