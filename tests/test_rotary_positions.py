"""A GPT with rotary positions: distances count, and each way of reading or exporting agrees."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from families import untrained_gpt

import kit
from kit.checkpoints import load, save
from kit.core.errors import BadValue, UnknownName
from kit.inference import generate
from kit.models import GPT, GPTConfig
from kit.models.transformer import rotary_angles, rotated
from kit.serving.slot_cache import SlotCache
from kit.techniques import half
from kit.techniques.exporting import load_onnxruntime, load_openvino, onnx_bytes
from kit.techniques.runtimes import Exported

ROTARY = GPTConfig(vocab_size=40, context=64, d_model=32, n_layers=2, n_heads=2, positions="rotary")


@pytest.fixture(scope="module")
def gpt():
    return untrained_gpt(ROTARY)


@pytest.fixture(scope="module")
def text():
    return torch.randint(40, (3, 48), generator=torch.Generator().manual_seed(1))


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_product_depends_on_the_distance_of_two_positions_alone():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 16)
    positions = torch.arange(50)
    queries, keys = (rotated(x.expand(50, 16), rotary_angles(positions, 16)) for x in (query, key))
    products = queries @ keys.T  # (50, 50)
    for distance in (0, 1, 7, 30):
        along = products.diagonal(distance)
        close(along, along[:1].expand_as(along))
    assert products[0].std() > 0.1  # but on the distance it does


def test_each_pair_is_turned_by_its_angle_as_complex_numbers_are():
    x, positions = torch.randn(5, 8), torch.tensor([0, 1, 2, 9, 60])
    speeds = 10_000 ** (-torch.arange(4) / 4)
    turns = torch.polar(torch.ones(5, 4), positions[:, None] * speeds)
    expected = torch.complex(x[:, :4], x[:, 4:]) * turns
    found = rotated(x, rotary_angles(positions, 8))
    close(found, torch.cat([expected.real, expected.imag], 1))
    close(found[0], x[0])  # position 0 is not turned


def test_there_is_no_table_of_positions_and_the_order_matters():
    model = GPT(replace(ROTARY, n_layers=1))
    learned = GPT(replace(ROTARY, n_layers=1, positions="learned"))
    sizes = [sum(p.numel() for p in each.parameters()) for each in (model, learned)]
    assert sizes[1] - sizes[0] == 64 * 32
    one, other = kit.predict(model, torch.tensor([[1, 2, 3], [2, 1, 3]]))
    assert not torch.allclose(one[-1], other[-1], atol=1e-6)


@pytest.mark.parametrize("ends", [[1, 2, 3, 48], [7, 8, 20, 48]])
def test_read_in_parts_is_read_at_once(gpt, text, ends):
    cache, starts = gpt.cache(3), [0, *ends[:-1]]
    parts = [gpt(text[:, a:b], cache) for a, b in zip(starts, ends, strict=True)]
    close(torch.cat(parts, 1), gpt(text))


def test_padded_texts_and_a_static_cache_say_what_each_text_alone_says(gpt, text):
    lengths = [40, 20, 1]
    together = torch.zeros(3, 40, dtype=torch.int64)
    for row, n in enumerate(lengths):
        together[row, 40 - n :] = text[row, :n]
    cache = gpt.cache(3, left_padding=torch.tensor([40 - n for n in lengths]))
    gpt(together, cache)
    fixed, new = cache.static(), text[:, 40:42]
    logits = torch.cat([gpt(new[:, t : t + 1], fixed) for t in range(2)], 1)
    for row, n in enumerate(lengths):
        alone = torch.cat([text[row : row + 1, :n], new[row : row + 1]], 1)
        close(logits[row], gpt(alone)[0, -2:])


def test_slots_of_a_server_say_what_each_text_alone_says(gpt, text):
    cache = SlotCache(gpt, slots=2, context=64)
    gpt(text[:1, :9], cache.reading(slice(0, 1), starts=[0], counts=[9]))
    both = cache.reading(slice(0, 2), starts=[9, 0], counts=[1, 4])
    new = torch.stack([torch.cat([torch.zeros(3).long(), text[0, 9:10]]), text[1, :4]])
    logits = gpt(new, both, last=1)[:, 0]
    close(logits[0], gpt(text[:1, :10])[0, -1])
    close(logits[1], gpt(text[1:2, :4])[0, -1])


@pytest.mark.parametrize("reading", [{}, {"chunk": 5}, {"draft": "n-grams"}], ids=str)
def test_the_tokens_are_those_of_reading_all_again(gpt, text, reading):
    obvious = generate(gpt, text[0, :12], max_new_tokens=40, cache=False)
    assert len(set(obvious.tokens[0])) > 3
    assert generate(gpt, text[0, :12], max_new_tokens=40, **reading).tokens == obvious.tokens


def test_half_precision_turns_by_the_same_angles(gpt, text):
    """A table of angles in bfloat16 would turn position 60 by 0.1 radian too much."""
    ours = half(gpt, text)(text).softmax(-1)
    assert (ours - gpt(text).softmax(-1)).abs().mean() < 0.01


def test_an_exported_one_says_the_same_at_each_batch(gpt, text):
    """One file, as ONNX Runtime and as OpenVINO run it."""
    runtimes = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}
    there = [name for name in runtimes if find_spec(name) is not None]
    if not there:
        pytest.skip("neither runtime is installed")
    data = onnx_bytes(gpt, text)
    for name in there:
        form = Exported(name, data, runtimes[name])
        close(kit.predict(form, text), gpt(text))
        close(kit.predict(form, text[:1]), gpt(text[:1]))


def test_it_is_saved_and_loaded_with_its_positions(gpt, text, tmp_path):
    again = load(save(tmp_path / "gpt.kit", gpt)).model
    assert again.config == ROTARY
    assert torch.equal(kit.predict(again, text), kit.predict(gpt, text))


def test_it_trains_in_bfloat16_and_recomputes_the_same_loss():
    work = kit.workloads.language(kit.data.load_python_docs(context=16))
    losses = []
    for recompute in (False, True):
        torch.manual_seed(0)
        sizes = {"vocab_size": len(work.data.classes), "context": 16, "d_model": 16}
        model = GPT(GPTConfig(**sizes, n_layers=1, n_heads=1, positions="rotary"))
        history = kit.train(
            model, work, steps=8, optimizer="muon", lr=1e-2, precision="bf16",
            recompute=recompute, live=False,
        )  # fmt: skip
        losses.append(history.losses)
    assert losses[0][-1] < losses[0][0]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_what_cannot_be_turned_is_refused():
    with pytest.raises(UnknownName, match=r"no positions is called 'rotery'; did you mean"):
        GPTConfig(positions="rotery")
    with pytest.raises(BadValue, match=r"heads 3 wide: .* Choose an even d_model / n_heads"):
        GPTConfig(d_model=12, n_heads=4, positions="rotary")
