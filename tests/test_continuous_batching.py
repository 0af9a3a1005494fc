"""Continuous batching: whoever else is in the batch, each text is the one written alone."""

import asyncio
import gc
import time

import pytest
import torch
from families import untrained_gpt

import kit
from kit.core.errors import BadValue
from kit.inference.sampling import Sampler
from kit.models import GPT, MLP, GPTConfig
from kit.serving import batch_weights
from kit.serving.admission import Admission
from kit.serving.batched_sampling import Sampling, draw
from kit.serving.batching import Unobserved
from kit.serving.continuous_batching import GenerationEngine
from kit.serving.refusals import RequestRefused
from kit.serving.slot_cache import SlotCache

SMALL = GPTConfig(vocab_size=40, context=64, d_model=32, n_layers=2, n_heads=2)
WAYS = {
    "greedy": {},
    "sampled": {"temperature": 1.0},
    "top_k": {"temperature": 0.8, "top_k": 5},
    "top_p": {"temperature": 1.2, "top_p": 0.8},
    "both": {"temperature": 1.0, "top_k": 10, "top_p": 0.9},
}


def small_gpt():
    return untrained_gpt(SMALL)


@pytest.fixture(scope="module")
def gpt():
    return small_gpt()


@pytest.fixture
def engine(gpt):
    """Fewer slots than texts, and chunks shorter than prompts: texts join in the middle."""
    engine = GenerationEngine(gpt, slots=5, prefill_chunk=8)
    yield engine
    engine.close()


def requests(ways, texts=12):
    """Prompts of many lengths, each with a length to write and a seed of its own."""
    random = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 40, (texts,), generator=random).tolist()
    prompts = [torch.randint(40, (n,), generator=random).tolist() for n in lengths]
    options = [
        {"max_new_tokens": 4 + 5 * (i % 5), **ways[i % len(ways)], "seed": i} for i in range(texts)
    ]
    return list(zip(prompts, options, strict=True))


def written_alone(model, asked):
    return [list(kit.generate(model, prompt, **options).tokens[0]) for prompt, options in asked]


def written_together(engine, asked):
    async def write():
        readers = [engine.submit(prompt, **options) for prompt, options in asked]
        return [await reader.rest() for reader in readers]

    return asyncio.run(write())


# --- The same texts ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, "all"])
def test_each_text_is_the_one_written_alone(gpt, engine, way):
    asked = requests(list(WAYS.values()) if way == "all" else [WAYS[way]])
    assert written_together(engine, asked) == written_alone(gpt, asked)
    assert engine.exact and engine.near_ties <= 3  # not because all of them were computed alone


def test_texts_share_the_passes_of_the_model(gpt):
    engine = GenerationEngine(gpt, slots=16)
    asked = [([i], {"max_new_tokens": 30}) for i in range(16)]
    assert written_together(engine, asked) == written_alone(gpt, asked)
    assert engine.passes <= 32  # and not 480: the engine may have begun before the last came
    assert engine.cache_use == 0
    engine.close()


def test_a_text_that_joins_later_changes_nothing(gpt, engine):
    asked = requests(list(WAYS.values()), texts=6)

    async def write():
        readers = []
        for prompt, options in asked:
            readers.append(engine.submit(prompt, **options))
            await readers[-1].some()  # the next one comes when this one has a token
        for reader in readers:
            await reader.rest()
        return [reader.tokens for reader in readers]

    assert asyncio.run(write()) == written_alone(gpt, asked)


def test_stop_ends_a_text_where_generate_does(gpt, engine):
    plain = kit.generate(gpt, [1, 2], max_new_tokens=20).tokens[0]
    ending = list(plain[5:7])
    cut = kit.generate(gpt, [1, 2], max_new_tokens=20, stop=ending).tokens[0]

    async def write():
        reader = engine.submit([1, 2], max_new_tokens=20, stop=[[39, 39, 39], ending])
        return await reader.rest(), reader.finish_reason

    assert asyncio.run(write()) == (list(cut), "stop")


# --- Near ties -----------------------------------------------------------------------------------


def tied_gpt():
    """Each token has a twin with the same logit, but for rounding."""
    model = small_gpt()
    model.head.weight[20:] = model.head.weight[:20] * (1 + 1e-7)
    return model


@pytest.mark.parametrize("options", [WAYS["greedy"], WAYS["top_k"]])
def test_a_near_tie_is_decided_as_alone(options):
    model = tied_gpt()
    asked = requests([options], texts=6)
    engine = GenerationEngine(model, slots=6)
    assert written_together(engine, asked) == written_alone(model, asked)
    # Random numbers break ties between twins, but not the tie at the limit of top_k.
    assert engine.near_ties >= (1 if options else 50)
    engine.close()


def test_a_model_that_rounds_more_is_not_called_exact(gpt):
    engine = GenerationEngine(small_gpt().bfloat16(), slots=4)
    assert not engine.exact
    assert [len(new) for new in written_together(engine, requests([{}], 5))] == [4, 9, 14, 19, 24]
    assert engine.near_ties == 0  # all tokens would be
    engine.close()


def test_each_text_draws_its_own_random_numbers():
    """The same tokens as `Sampler`, position after position, whatever stands in the other rows."""
    torch.manual_seed(5)
    ways = [{**way, "seed": i} for i, way in enumerate(WAYS.values())]
    samplings, samplers = [Sampling(**way) for way in ways], [Sampler(**way) for way in ways]
    for position in range(20):
        logits = 3 * torch.randn(len(ways), 50)
        alone = [int(s(row[None, None], position)) for s, row in zip(samplers, logits, strict=True)]
        assert draw(logits, samplings) == (alone, [True] * len(ways))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_certain_stays_whatever_the_rounding(way):
    """Logits that are off by as much as rounding allows give the same token, if it is certain."""
    torch.manual_seed(6)
    rounding, certain, flipped = 0.002, 0, 0
    logits = 2 * torch.randn(300, 30)
    off = rounding * logits.abs().amax(-1, keepdim=True)
    seeds = range(len(logits))
    drawn = draw(logits, [Sampling(**WAYS[way], seed=i) for i in seeds], rounding)
    for trial in range(8):
        noise = 2 * torch.rand(logits.shape) - 1 if trial < 4 else torch.randn(logits.shape).sign()
        other = draw(logits + off * noise, [Sampling(**WAYS[way], seed=i) for i in seeds])
        for mine, its, is_certain in zip(drawn.tokens, other.tokens, drawn.certain, strict=True):
            assert mine == its or not is_certain
            certain, flipped = certain + is_certain, flipped + (mine != its)
    assert certain > 0.85 * 8 * len(logits)  # most are
    assert flipped  # and some of the others did change: the test could have failed


def test_a_token_at_the_limit_of_top_p_is_not_certain():
    """The first two have 0.8: whether the third may be drawn is a matter of rounding."""
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    differ = 0
    for seed in range(40):
        few, many = (
            draw(logits, [Sampling(1.0, top_p=p, seed=seed)]).tokens for p in (0.799, 0.801)
        )
        drawn = draw(logits, [Sampling(1.0, top_p=0.8, seed=seed)], 1e-3)
        assert drawn.certain == [few == many]
        differ += few != many
    assert 2 <= differ <= 20  # a fifth of the texts draw the third


def test_equal_scores_at_the_limit_of_top_k_are_not_certain():
    """Rounding can let in any of the two; with room for both, nothing is in doubt."""
    logits = torch.tensor([[3.0, 2.5, 2.5, -9.0]])
    seen = set()
    for seed in range(40):
        one, both = (draw(logits, [Sampling(1.0, top_k=k, seed=seed)], 1e-6) for k in (2, 3))
        assert one.certain == [one.tokens == [0]]
        assert both.certain == [True]
        seen |= set(both.tokens)
    assert seen == {0, 1, 2}


# --- The weights in a batch's order --------------------------------------------------------------


@torch.no_grad()
def test_a_batch_reads_copies_of_linear_weights_and_shares_the_rest(gpt, monkeypatch):
    batched = batch_weights.for_batches(gpt)
    linears = [part for part in batched.modules() if isinstance(part, torch.nn.Linear)]
    assert len(linears) == 9 and all(type(part) is batch_weights.BatchLinear for part in linears)
    assert all(a is b for a, b in zip(gpt.parameters(), batched.parameters(), strict=True))
    assert not any(type(part) is batch_weights.BatchLinear for part in gpt.modules())
    tokens = torch.arange(32).view(16, 2)
    assert torch.allclose(batched(tokens), gpt(tokens), atol=1e-4)
    copied = sum(part.columns.nbytes for part in linears)
    monkeypatch.setattr(batch_weights, "MOST_BYTES", copied - 1)
    assert batch_weights.for_batches(gpt) is gpt  # too large for a copy
    half = small_gpt().bfloat16()
    assert batch_weights.for_batches(half) is half


# --- The cache -----------------------------------------------------------------------------------


@torch.no_grad()
def test_slots_at_different_positions_read_as_texts_alone(gpt):
    text = torch.randint(40, (3, 30), generator=torch.Generator().manual_seed(1))
    alone = gpt(text)
    cache, read = SlotCache(gpt, slots=3, context=64), [0, 0, 0]
    steps = [([0, 2], [7, 3]), ([1], [20]), ([2, 0, 1], [1, 2, 9]), (slice(0, 3), [1, 0, 1])]
    for rows, counts in steps:
        slots = [0, 1, 2] if isinstance(rows, slice) else rows
        width, starts = max(counts), [read[slot] for slot in slots]
        parts = [text[s, a : a + c] for s, a, c in zip(slots, starts, counts, strict=True)]
        ids = torch.stack([torch.cat([p.new_zeros(width - len(p)), p]) for p in parts])
        logits = gpt(ids, cache.reading(rows, starts, counts), last=1)[:, 0]
        for slot, count, row in zip(slots, counts, logits, strict=True):
            read[slot] += count
            if count:
                assert torch.allclose(row, alone[slot, read[slot] - 1], atol=1e-4, rtol=1e-4)
    assert read == [10, 29, 5]
    assert cache.bytes == 4 * 2 * 2 * 3 * 2 * 65 * 16  # 2 layers, keys and values, …, float32


# --- Readers that leave, deadlines, the end ------------------------------------------------------


async def until(condition):
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("how", ["cancel", "task", "drop"])
def test_a_reader_that_leaves_makes_room(gpt, how):
    engine = GenerationEngine(gpt, slots=1)

    async def leave():
        reader = engine.submit([1], max_new_tokens=60)
        waits = engine.submit([2], max_new_tokens=3)
        await reader.some()
        if how == "task":
            task = asyncio.create_task(reader.rest())
            await asyncio.sleep(0)
            task.cancel()
        elif how == "cancel":
            reader.cancel()
        else:
            del reader
            gc.collect()
        assert await waits.rest() == list(kit.generate(gpt, [2], max_new_tokens=3).tokens[0])
        await until(lambda: engine.running == 0)

    asyncio.run(leave())
    assert engine.passes < 60
    engine.close()


def test_a_deadline_that_passed_in_the_queue_is_504(gpt, engine):
    async def write():
        ticket = Admission(deadline_s=1e-6).admit()
        time.sleep(0.001)
        with pytest.raises(RequestRefused, match="deadline") as refused:
            await engine.submit([1], max_new_tokens=3, ticket=ticket).rest()
        return refused.value.status

    assert asyncio.run(write()) == 504


def test_drain_finishes_what_is_inside_and_refuses_what_comes(gpt):
    engine = GenerationEngine(gpt, slots=2)

    async def drain():
        readers = [engine.submit([i], max_new_tokens=20) for i in range(5)]
        assert await engine.drain()
        with pytest.raises(RequestRefused, match="stops") as refused:
            engine.submit([1], max_new_tokens=3)
        assert refused.value.status == 503
        return [len(await reader.rest()) for reader in readers]

    assert asyncio.run(drain()) == [20] * 5
    engine.close()  # a second time does nothing


def test_close_tells_all_that_are_inside(gpt):
    engine = GenerationEngine(gpt, slots=1)

    async def close():
        readers = [engine.submit([i], max_new_tokens=60) for i in range(3)]
        await readers[0].some()
        engine.close()
        return await asyncio.gather(*(r.rest() for r in readers), return_exceptions=True)

    assert {error.status for error in asyncio.run(close())} == {503}


# --- Errors --------------------------------------------------------------------------------------


def test_a_text_with_nan_fails_alone_and_leaves_nothing_behind():
    model = small_gpt()
    good = [([1], {"max_new_tokens": 3}), (list(range(8, 20)), {"max_new_tokens": 8})]
    expected = written_alone(model, good)
    never = min(set(range(40)) - {1, *range(8, 20), *expected[0], *expected[1]})
    model.token_embedding.weight[never] = float("nan")
    engine = GenerationEngine(model, slots=2)

    async def write():
        bad, mate = (engine.submit(p, max_new_tokens=8) for p in ([1] + 9 * [never], good[1][0]))
        with pytest.raises(RequestRefused, match="NaN") as refused:
            await bad.rest()
        assert refused.value.status == 500
        assert await mate.rest() == expected[1]
        # Now in the slot that held NaN, at positions that are masked.
        after = [engine.submit(prompt, **options) for prompt, options in good]
        in_doubt = engine.near_ties
        assert [await reader.rest() for reader in after] == expected
        assert engine.near_ties == in_doubt  # and not because they were computed alone
        return engine.running

    engine._batch.rounding = 32 * torch.finfo(torch.float32).eps  # the probe met the NaN, too
    assert asyncio.run(write()) == 0
    engine.close()


class Moody(GPT):
    """A GPT that fails at token 13."""

    def forward(self, tokens, cache=None, last=None):
        if (tokens == 13).any():
            raise RuntimeError("secret of the inside")
        return super().forward(tokens, cache, last)


def test_a_model_that_fails_is_told_without_its_secrets_and_the_engine_goes_on(caplog):
    torch.manual_seed(0)
    engine = GenerationEngine(Moody(SMALL), slots=2)

    async def write():
        with pytest.raises(RequestRefused, match="model failed") as refused:
            await engine.submit([13], max_new_tokens=2).rest()
        assert "secret" not in str(refused.value) and refused.value.status == 500
        return len(await engine.submit([1, 2], max_new_tokens=1).rest())

    assert asyncio.run(write()) == 1
    assert "secret" in caplog.text  # the log has it
    engine.close()


@pytest.mark.parametrize(
    ("prompt", "options", "says"),
    [
        ([], {}, "empty prompt"),
        ([40], {}, "token 40"),
        ([1] * 60, {}, "context of 64"),
        ([1], {"max_new_tokens": 0}, "max_new_tokens"),
        ([1], {"temperature": -1}, "temperature"),
        ([1], {"top_k": 0}, "top_k"),
        ([1], {"stop": [[]]}, "stop="),
        ([1], {"stop": [[40]]}, "stop="),
    ],
)
def test_a_wrong_request_is_refused_at_once(engine, prompt, options, says):
    async def submit():
        with pytest.raises(BadValue, match=says):
            engine.submit(prompt, **{"max_new_tokens": 8, **options})

    asyncio.run(submit())
    assert engine.waiting == engine.running == 0


def test_an_engine_needs_a_model_that_generates(gpt):
    with pytest.raises(BadValue, match="cannot generate"):
        GenerationEngine(MLP())
    with pytest.raises(BadValue, match="slots"):
        GenerationEngine(gpt, slots=0)
    with pytest.raises(BadValue, match="context"):
        GenerationEngine(gpt, context=65)


# --- What is observed ----------------------------------------------------------------------------


class Diary(Unobserved):
    """Writes down what it is told."""

    def __init__(self):
        self.queues, self.first, self.later, self.rows = [], [], [], []

    def on_queue(self, wait_s):
        self.queues.append(wait_s)

    def on_first_token(self, ttft_s):
        self.first.append(ttft_s)

    def on_token(self, gap_s):
        self.later.append(gap_s)

    def on_batch(self, rows, predict_s):
        self.rows.append(rows)


def test_waits_and_times_are_told(gpt):
    diary = Diary()
    engine = GenerationEngine(gpt, slots=2, observe=diary)
    written_together(engine, [([i], {"max_new_tokens": 10}) for i in range(4)])
    assert len(diary.queues) == len(diary.first) == 4 and len(diary.later) == 36
    assert sum(diary.rows) == 40 and max(diary.rows) == 2
    assert min(diary.later) >= 0 and min(diary.first) >= min(diary.queues) >= 0
    assert max(diary.queues) > min(diary.first)  # two had to wait for the others' slots
    engine.close()
