"""Writing: every way of reading on gives the same text, and what cannot be is refused before."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from families import untrained_gpt
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

import kit
from kit.core.errors import BadValue, DeviceUnavailable, NotSupported, ShapeMismatch, UnknownName
from kit.costs.generation_counts import count_generation
from kit.data import load_python_docs
from kit.devices import lacks_compiler
from kit.inference import Generation, generate, one_pass, stream
from kit.inference.generation import timeline
from kit.inference.sampling import Sampler
from kit.inference.speculative import NGrams
from kit.models import GPT, MLP, GPTConfig
from kit.techniques import half

SMALL = GPTConfig(vocab_size=40, context=64, d_model=32, n_layers=2, n_heads=2)


@pytest.fixture(scope="module")
def gpt():
    return untrained_gpt(SMALL)


@pytest.fixture(scope="module")
def text():
    return torch.randint(40, (3, 48), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def library():
    return load_python_docs()


def tokens_of(generation):
    return [list(new) for new in generation.tokens]


# --- The cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [[48], [1, 2, 3, 48], [7, 8, 20, 21, 48], list(range(1, 49))])
def test_read_in_parts_is_read_at_once(gpt, text, ends):
    cache, starts = gpt.cache(3), [0, *ends[:-1]]
    parts = [gpt(text[:, a:b], cache) for a, b in zip(starts, ends, strict=True)]
    torch.testing.assert_close(torch.cat(parts, 1), gpt(text), atol=1e-4, rtol=1e-4)
    assert cache.length == 48 and repr(cache) == "Cache: 48 of 64 positions of 3 texts, 2 layers"


def test_the_obvious_mask_would_let_nobody_see_the_past(gpt, text):
    """`is_causal` lays the first of the new places beside the first of all: silently wrong."""
    block = gpt.blocks[0].attention
    queries, keys, values = block.project(torch.randn(1, 6, 32))
    right = scaled_dot_product_attention(queries, keys, values, is_causal=True)[:, :, 3:]
    obvious = scaled_dot_product_attention(queries[:, :, 3:], keys, values, is_causal=True)
    assert (right - obvious).abs().max() > 0.01
    mask = torch.ones(3, 6, dtype=torch.bool).tril(3)
    torch.testing.assert_close(block.attend(queries[:, :, 3:], keys, values, mask), right)


@pytest.mark.parametrize("first", [1, 30, 47])
def test_texts_of_different_lengths_are_read_as_each_alone(gpt, text, first):
    lengths = [48, 20, 1]
    padding = torch.tensor([48 - n for n in lengths])
    together = torch.zeros_like(text)
    for row, n in enumerate(lengths):
        together[row, 48 - n :] = text[row, :n]
    cache = gpt.cache(3, left_padding=padding)
    logits = torch.cat([gpt(together[:, :first], cache), gpt(together[:, first:], cache)], 1)
    assert logits.isfinite().all()
    for row, n in enumerate(lengths):
        alone = gpt(text[row : row + 1, :n])[0]
        torch.testing.assert_close(logits[row, 48 - n :], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padding", [None, torch.tensor([0, 5, 9])])
def test_a_cache_that_counts_on_the_device_says_the_same(gpt, text, padding):
    cache = gpt.cache(3, 52, padding)
    gpt(text, cache)
    fixed, twin = cache.static(), gpt.cache(3, 52, padding)
    gpt(text, twin)
    for step in range(4):
        new = text[:, step : step + 1]
        torch.testing.assert_close(gpt(new, fixed), gpt(new, twin), atol=1e-4, rtol=1e-4)
    assert fixed.position.tolist() == [twin.length] == [52]


def test_what_is_taken_back_was_never_there(gpt, text):
    cache = gpt.cache(3)
    gpt(text[:, :10], cache)
    gpt(text[:, 30:40], cache)
    cache.truncate(10)
    torch.testing.assert_close(
        gpt(text[:, 10:20], cache), gpt(text[:, :20])[:, 10:], atol=1e-4, rtol=1e-4
    )


def test_only_the_last_answers_are_given_if_no_others_are_asked_for(gpt, text):
    torch.testing.assert_close(gpt(text, last=2), gpt(text)[:, -2:])


def test_each_call_of_one_pass_reads_the_same(gpt):
    call = one_pass(gpt, tokens=2, before=30, texts=3)
    first, again = call(), call()
    assert first.shape == (3, 1, 40) and torch.equal(first, again)
    zeros = torch.zeros(1, 5, dtype=torch.int64)
    torch.testing.assert_close(one_pass(gpt, 5)(), gpt(zeros)[:, -1:], atol=1e-5, rtol=1e-5)


def test_the_cache_is_as_large_as_counted(gpt, text):
    cache = gpt.cache(batch_size=5, capacity=17)
    by_hand = 2 * 2 * 5 * 17 * 32 * 4  # keys and values, layers, texts, places, width, bytes
    assert cache.bytes == by_hand
    assert count_generation(gpt, 9, 9, batch_size=5).kv_bytes == by_hand
    assert half(gpt, text).cache(5, 17).bytes * 2 == by_hand


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda m: m.cache(1, 65), "capacity=65: needs 1 to 64"),
        (lambda m: m.cache(1, 0), "capacity=0"),
        (
            lambda m: m.cache(2, left_padding=torch.zeros(3)),
            r"left padding of shape \(3,\); needed \(2,\)",
        ),
        (lambda m: m(torch.zeros(1, 9, dtype=torch.long), m.cache(1, 8)), "capacity of 8"),
        (lambda m: m.cache().truncate(1), r"truncate\(1\): needs 0 to 0"),
        (
            lambda m: m(torch.zeros(1, 2, dtype=torch.long), m.cache().static()),
            "takes one per call",
        ),
    ],
)
def test_a_cache_refuses_what_does_not_fit(gpt, wrong, match):
    with pytest.raises(BadValue, match=match):
        wrong(gpt)


# --- The same text, however it is written --------------------------------------------------------

WAYS = [{"temperature": 0.0}, {"temperature": 1.3, "seed": 5}]
WAYS += [{"temperature": 1.0, "top_k": 5}, {"temperature": 1.0, "top_p": 0.7, "seed": 2}]
READINGS = [
    {},
    {"chunk": 1},
    {"chunk": 5},
    {"draft": "n-grams"},
    {"draft": "n-grams", "drafted": 1},
    {"draft": "n-grams", "drafted": 6, "chunk": 2},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_the_tokens_are_those_of_reading_all_anew(gpt, text, way, reading):
    prompt = text[0, :12]
    obvious = generate(gpt, prompt, max_new_tokens=50, cache=False, **way)
    assert len(set(obvious.tokens[0])) > 3  # not one token over and over
    written = generate(gpt, prompt, max_new_tokens=50, **reading, **way)
    assert written.tokens == obvious.tokens


def test_without_a_cache_it_is_the_loop_that_everybody_writes_first(gpt, text):
    tokens = text[:1, :12]
    for _ in range(20):
        tokens = torch.cat([tokens, kit.predict(gpt, tokens)[:, -1:].argmax(-1)], 1)
    assert tokens_of(generate(gpt, text[0, :12], max_new_tokens=20)) == [tokens[0, 12:].tolist()]


@pytest.mark.parametrize("way", WAYS[:2], ids=str)
@pytest.mark.parametrize("kind", ["all right", "all wrong", "half right", "silent", "too many"])
def test_no_draft_can_change_what_is_written(gpt, text, kind, way):
    prompt = text[0, :12].tolist()
    plain = generate(gpt, prompt, max_new_tokens=40, **way)
    known = [*prompt, *plain.tokens[0]]

    def draft(tokens, most):
        true = known[len(tokens) : len(tokens) + most]
        wrong = [(token + 1) % 40 for token in true]
        mixed = [a if i < 2 else b for i, (a, b) in enumerate(zip(true, wrong, strict=True))]
        return {"all right": true, "all wrong": wrong, "half right": mixed, "silent": []}.get(
            kind, true * 9
        )

    written = generate(gpt, prompt, max_new_tokens=40, draft=draft, drafted=4, **way)
    assert written.tokens == plain.tokens
    if kind == "all right":  # four guesses and one more each time; the first comes of the prompt
        assert written.arrived == (1, 5, 5, 5, 5, 5, 5, 5, 4)
    if kind in ("all wrong", "silent"):
        assert written.arrived == (1,) * 40


@pytest.mark.parametrize("new", range(1, 14))
def test_guesses_never_write_more_than_was_asked_for(gpt, text, new):
    prompt = text[0, :12].tolist()
    known = [*prompt, *generate(gpt, prompt, max_new_tokens=30).tokens[0]]
    for right in (30, new - 1):  # guesses that are right to the end, or up to the last but one
        draft = lambda tokens, most: (known[: 12 + right] + [0] * 9)[len(tokens) :][:most]  # noqa: E731, B023
        written = generate(gpt, prompt, max_new_tokens=new, draft=draft, drafted=4)
        assert written.tokens[0] == tuple(known[12 : 12 + new])


def test_texts_written_together_are_those_written_alone(gpt, text):
    prompts = [text[0, :12], text[1, :3], text[2, :30]]
    together = generate(gpt, prompts, max_new_tokens=20)
    alone = [generate(gpt, prompt, max_new_tokens=20).tokens[0] for prompt in prompts]
    assert list(together.tokens) == alone
    again = generate(gpt, prompts, max_new_tokens=20, cache=False)
    assert again.tokens == together.tokens


def test_half_the_bytes_write_too(gpt, text):
    served = half(gpt, text)
    cache = served.cache()
    parts = torch.cat([served(text[:1, :20], cache), served(text[:1, 20:], cache)], 1)
    torch.testing.assert_close(parts, served(text[:1]), atol=0.5, rtol=0.1)
    assert len(generate(served, text[0, :12], max_new_tokens=20).tokens[0]) == 20


def test_writing_changes_nothing_of_the_model(text):
    torch.manual_seed(0)
    model = GPT(SMALL).train()
    model.blocks[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    coming = stream(model, [text[0, :5]], max_new_tokens=9)
    next(coming)
    assert not torch.is_inference_mode_enabled()  # what the reader of the stream does is theirs
    coming.close()
    assert model.training and not model.blocks[0].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Keeps(GPT):
    """Keeps a tensor of its forward pass, as a model with a lazy table does."""

    def forward(self, *args, **options):
        self.kept = super().forward(*args, **options)
        return self.kept


def test_what_a_model_keeps_while_it_writes_can_be_trained_with(text):
    model, hooked, kept = Keeps(SMALL), GPT(SMALL), []
    hooked.norm.register_forward_hook(lambda part, inputs, outputs: kept.append(outputs))
    for each in (model, hooked):
        generate(each, text[0, :5], max_new_tokens=3)
    assert not any(tensor.is_inference() for tensor in (model.kept, *kept))


def test_written_tokens_can_be_trained_with(gpt, text):
    assert not any(each.is_inference() for each in stream(gpt, text[:2, :5], max_new_tokens=3))


def test_a_part_that_is_replaced_between_two_tokens_writes_the_next(text):
    model = GPT(SMALL)
    coming = stream(model, [text[0, :5]], max_new_tokens=3)
    next(coming)
    with torch.no_grad():
        model.norm, rows = torch.nn.Identity(), torch.zeros(SMALL.vocab_size, SMALL.d_model)
        model.head.weight = torch.nn.Parameter(rows)
    assert next(coming).item() == 0  # all logits are 0: the first is taken


def test_keys_and_values_of_a_layer_are_written_by_one_copy(gpt):
    cache, token = gpt.cache(), torch.zeros(1, 1, dtype=torch.int64)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
        gpt(token, cache)
    counted = Counter(event.key for event in seen.events())
    assert counted["aten::copy_"] == SMALL.n_layers


# --- Drawing -------------------------------------------------------------------------------------


def drawn(probabilities, n=4000, **options):
    """How often each token is drawn, in n texts at once."""
    logits = torch.tensor(probabilities).log().expand(n, 1, -1)
    tokens = Sampler(**options)(logits, 0)[:, 0]
    return torch.bincount(tokens, minlength=len(probabilities)) / n


def test_tokens_are_drawn_as_often_as_the_model_says():
    wanted = torch.tensor([0.5, 0.3, 0.15, 0.05])
    assert torch.allclose(drawn(wanted.tolist(), temperature=1.0), wanted, atol=0.03)
    cooler = (wanted.log() / 0.5).softmax(0)
    assert torch.allclose(drawn(wanted.tolist(), temperature=0.5), cooler, atol=0.03)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_k": 2}, 2),
        ({"top_k": 9}, 4),
        ({"top_p": 0.5}, 1),
        ({"top_p": 0.51}, 2),
        ({"top_p": 0.81}, 3),
        ({"top_p": 1.0}, 4),
        ({"top_k": 3, "top_p": 0.5}, 1),
    ],
)
def test_only_the_likeliest_are_drawn(options, allowed):
    probabilities = [0.5, 0.3, 0.15, 0.05]
    found = drawn(probabilities, temperature=1.0, **options)
    assert (found > 0).tolist() == [i < allowed for i in range(4)]
    left = torch.tensor(probabilities[:allowed])
    assert torch.allclose(found[:allowed], left / left.sum(), atol=0.03)


def test_another_seed_writes_another_text(gpt, text):
    texts = {
        generate(gpt, text[0, :12], max_new_tokens=30, temperature=1.0, seed=s).tokens
        for s in range(4)
    }
    assert len(texts) == 4


# --- Drafts --------------------------------------------------------------------------------------


def test_ngrams_go_on_as_it_went_on_before():
    draft = NGrams(longest=4, shortest=2)
    assert draft([1, 2, 3, 9, 9, 1, 2, 3], 3) == [9, 9, 1]
    assert draft([1, 2, 3, 9, 9, 1, 2, 3, 7], 3) == []
    assert draft([1, 2, 3, 9, 9, 1, 2, 3, 7, 1, 2, 3], 1) == [7]  # the last time counts
    assert draft([5, 5, 5], 4) == [5]  # another text; what it knows of the rest is one token


def test_the_longest_match_is_believed():
    draft = NGrams(longest=3, shortest=1)
    assert draft([1, 2, 3, 4, 0, 2, 3, 5, 1, 2, 3], 1) == [4]


# --- As it comes ---------------------------------------------------------------------------------


def test_the_first_token_comes_before_the_second_is_computed(gpt, text):
    readings = []
    hook = gpt.register_forward_hook(lambda *_: readings.append(1))
    coming = stream(gpt, [text[0, :12]], max_new_tokens=9, chunk=4)
    assert not readings  # nothing is computed before it is asked for
    assert next(coming).shape == (1, 1)
    assert len(readings) == 3  # the prompt, in chunks
    assert sum(1 for _ in coming) == 8 and len(readings) == 11
    hook.remove()


def test_they_are_shown_as_they_come_and_kept_with_their_time(gpt, text):
    shown = []
    written = generate(gpt, text[0, :12], max_new_tokens=9, on_tokens=lambda *t: shown.append(t))
    assert [int(tokens) for tokens, _ in shown] == list(written.tokens[0])
    assert tuple(at for _, at in shown) == written.arrivals_s
    assert len(written.arrivals_s) == 9 and list(written.arrivals_s) == sorted(written.arrivals_s)


def test_who_is_shown_the_tokens_may_say_that_it_is_enough(gpt, text):
    shown = []
    written = generate(
        gpt, text[0, :12], max_new_tokens=30, on_tokens=lambda *t: shown.append(t) or len(shown) < 4
    )
    assert len(written.tokens[0]) == len(shown) == 4


def test_a_text_ends_where_it_is_to_stop(gpt, text):
    whole = generate(gpt, text[0, :12], max_new_tokens=30).tokens[0]
    stop = list(whole[9:11])
    end = next(i for i in range(2, 31) if list(whole[i - 2 : i]) == stop)
    for options in ({}, {"draft": lambda tokens, most: whole[len(tokens) - 12 :][:most]}):
        written = generate(gpt, text[0, :12], max_new_tokens=30, stop=stop, **options)
        assert written.tokens[0] == whole[:end]


def test_a_text_that_has_ended_waits_for_the_others(gpt, text):
    alone = [generate(gpt, text[i, :12], max_new_tokens=30).tokens[0] for i in range(3)]
    stop = [alone[0][4]]
    together = generate(gpt, list(text[:, :12]), max_new_tokens=30, stop=stop)
    for new, whole in zip(together.tokens, alone, strict=True):
        end = whole.index(stop[0]) + 1 if stop[0] in whole else 30
        assert new == whole[:end]
    parts = list(stream(gpt, list(text[:, :12]), max_new_tokens=30, stop=stop))
    assert (torch.cat(parts, 1) == -1).any()


# --- Texts in characters -------------------------------------------------------------------------


def test_texts_go_in_and_come_out(library):
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=len(library.classes)))
    written = generate(model, "The ", text=library, max_new_tokens=8, stop="\n\n")
    assert written.text.startswith("The ") and len(written.text) == 12
    two = generate(model, ["The ", "A"], text=library, max_new_tokens=3)
    assert [len(each) for each in two.texts] == [7, 4]
    with pytest.raises(BadValue, match="with text="):
        _ = generate(model, [1, 2], max_new_tokens=2).text


# --- What cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prompt": [1] * 60}, r"60 tokens and 8 new ones make 68; .* 64: ask for at most 4"),
        ({"prompt": [1] * 70}, r"70 tokens and 8 new ones make 78; .* 64: shorten the prompt"),
        ({"prompt": []}, "an empty prompt: needs at least one token"),
        ({"prompt": torch.zeros(0, dtype=torch.long)}, "an empty prompt"),
        ({"prompt": [1, 40]}, r"token 40 in a prompt: the model knows 0 to 39"),
        ({"prompt": [-1]}, "token -1"),
        ({"prompt": [[1], []]}, "an empty prompt"),
        ({"prompt": "abc"}, "needs text="),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens=1.5"),
        ({"chunk": 0}, "chunk=0"),
        ({"drafted": True}, "drafted=True"),
        ({"prompt": [[1], [2]], "draft": "n-grams"}, "draft with 2 texts: drafts work"),
        ({"stop": []}, "an empty stop"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 1.5}, "top_p=1.5"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_read(gpt, options, match):
    hook = gpt.register_forward_hook(lambda *_: pytest.fail("it was read"))
    given = {"prompt": [1, 2], "max_new_tokens": 8, **options}
    with pytest.raises(BadValue, match=match):
        generate(gpt, **given)
    hook.remove()


def test_an_unknown_draft_lists_those_there_are(gpt):
    with pytest.raises(UnknownName, match=r"no draft is called 'grams'.* There are: n-grams"):
        generate(gpt, [1], max_new_tokens=2, draft="grams")


def test_an_unknown_character_is_named_and_an_empty_text_too(library):
    model = GPT(GPTConfig(vocab_size=len(library.classes)))
    with pytest.raises(BadValue, match="unknown 'é'"):
        generate(model, "café", text=library, max_new_tokens=2)
    with pytest.raises(BadValue, match="empty text"):
        generate(model, "", text=library, max_new_tokens=2)


def test_the_vocabulary_of_another_text_is_refused(gpt, library):
    with pytest.raises(BadValue, match=r"has \d+ tokens, the model 40"):
        generate(gpt, "The ", text=library, max_new_tokens=2)


@pytest.mark.parametrize("name", ["blocks.1.up.weight", "head.weight"])
def test_weights_that_are_no_numbers_are_named(name):
    torch.manual_seed(0)
    model = GPT(SMALL)
    with torch.no_grad():
        model.get_parameter(name)[3, 3] = float("nan")  # in the head, of one token's logit alone
    with pytest.raises(BadValue, match=rf"are NaN: '{name}' holds NaN"):
        generate(model, [1, 2], max_new_tokens=2)


def test_a_device_that_went_away_is_told_with_what_to_do(text, monkeypatch):
    """The error is PyTorch's own; what raises it here is a model, since a GPU cannot be pulled."""
    torch.manual_seed(0)
    model = GPT(SMALL)

    def gone(_module, _inputs):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    model.blocks[1].register_forward_pre_hook(gone)
    for call in (lambda: generate(model, [1], max_new_tokens=2), lambda: kit.predict(model, text)):
        with pytest.raises(
            DeviceUnavailable, match=r"'cpu' failed, or went away .* last checkpoint"
        ):
            call()


def test_what_is_no_text_is_refused_by_the_model_itself(gpt):
    with pytest.raises(ShapeMismatch, match="0 positions"):
        gpt(torch.zeros(1, 0, dtype=torch.long))


# --- Results -------------------------------------------------------------------------------------

BY_HAND = Generation(
    prompts=((1, 2, 3),),
    tokens=((4, 5, 6, 7, 8),),
    arrivals_s=(0.5, 0.7, 1.1),
    arrived=(1, 1, 3),
    way="with a cache, the likeliest",
    device="cpu",
)


def test_the_times_by_hand():
    assert (BY_HAND.ttft_s, BY_HAND.latency_s) == (0.5, 1.1)
    assert BY_HAND.tpot_s == pytest.approx(0.6 / 4)
    assert BY_HAND.tokens_per_s == pytest.approx(5 / 1.1)
    assert BY_HAND.tokens_per_pass == pytest.approx(5 / 3)
    assert replace(BY_HAND, arrivals_s=(0.5,), arrived=(1,), tokens=((4,),)).tpot_s is None


def test_the_table_and_the_record_say_it():
    shown = str(BY_HAND.table())
    assert "500 ms" in shown and "150 ms" in shown and "1.67 tokens per pass" in shown
    assert repr(BY_HAND).startswith("1 × 5 tokens after 3, with a cache")
    record = BY_HAND.to_dict()
    assert record["ttft_s"] == 0.5 and record["tokens"] == [[4, 5, 6, 7, 8]]


def test_the_picture_shows_the_pause_and_a_readers_pace():
    picture = timeline({"here": BY_HAND}, reader=25)
    assert "the first token after 500 ms" in picture.caption
    line, reader = picture.figure.axes[0].get_lines()
    assert list(line.get_ydata()) == [0, 1, 2, 5]
    assert list(reader.get_ydata()) == [0, 25 * 1.1]
    assert BY_HAND.plot().caption


# --- On paper ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt, new, texts", [(1, 1, 1), (9, 1, 2), (30, 34, 1), (10, 20, 3)])
def test_the_work_is_that_counted_by_hand(prompt, new, texts):
    model, d, layers = GPT(SMALL), 32, 2
    counted = count_generation(model, prompt, new, batch_size=texts)
    matmuls, head = 2 * 12 * layers * d * d, 2 * d * 40

    def flops(places, keys):
        return texts * (places * matmuls + head + 4 * layers * d * places * keys)

    weights = sum(p.nbytes for p in model.parameters())
    weights -= model.token_embedding.weight.nbytes + model.position_embedding.nbytes
    kept = 2 * layers * d * 4
    assert counted.kv_bytes_per_token == kept
    assert counted.prefill.flops == flops(prompt, prompt)
    assert counted.prefill.moved_bytes == weights + texts * prompt * kept
    assert [w.flops for w in counted.decode] == [flops(1, prompt + i) for i in range(1, new)]
    again = [flops(prompt + i, prompt + i) for i in range(new)]
    assert [w.flops for w in counted.rereading] == again
    assert counted.to_dict()["rereading_flops"] == sum(again)
    step = counted.decode_step
    assert step.flops == (sum(w.flops for w in counted.decode) // max(1, new - 1))


def test_a_model_of_any_size_is_counted_without_its_numbers():
    with torch.device("meta"):
        model = GPT(GPTConfig(50_304, 1024, 1600, 48, 25))  # GPT-2's largest
    counted = count_generation(model, 512, 512)
    assert counted.kv_bytes_per_token == 2 * 48 * 1600 * 4
    assert counted.decode_step.moved_bytes > 4 * 1.5e9
    assert "a token" in repr(counted) and "halfway" in str(counted.table())


@pytest.mark.parametrize(
    ("model", "prompt", "new", "match"),
    [
        (MLP(), 1, 1, "MLP cannot generate text here. Use a GPT"),
        (GPT(SMALL), 60, 5, "60 tokens and 5 new ones make 65; the model has a context of 64: ask"),
        (GPT(SMALL), 0, 5, "prompt_tokens=0"),
        (GPT(SMALL), 1, None, "new_tokens=None"),
    ],
)
def test_what_cannot_be_counted_is_refused(model, prompt, new, match):
    with pytest.raises(BadValue, match=match):
        count_generation(model, prompt, new)


# --- On a GPU ------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [None, "n-grams"])
def test_a_compiled_step_writes_the_same(gpt, text, draft):
    """On a fixed cache, whose place is a tensor: what a CUDA graph replays."""
    if reason := lacks_compiler(torch.device("cpu")):
        pytest.skip(reason)
    prompt = text[0, :12]
    written = generate(gpt, prompt, max_new_tokens=40, step="compiled", draft=draft)
    assert written.tokens == generate(gpt, prompt, max_new_tokens=40).tokens
    assert "compiled" in written.way


def test_a_step_that_cannot_be_made_here_is_refused(gpt, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NotSupported, match="step='compiled' on cpu: it needs a C"):
        generate(gpt, [1], max_new_tokens=2, step="compiled")
    with pytest.raises(NotSupported, match="step='graph' on cpu: CUDA graphs are for CUDA"):
        generate(gpt, [1], max_new_tokens=2, step="graph")
    with pytest.raises(UnknownName, match="no step is called 'quick'"):
        generate(gpt, [1], max_new_tokens=2, step="quick")


def test_a_step_is_compiled_once_for_a_model(gpt, text, monkeypatch):
    if reason := lacks_compiler(torch.device("cpu")):
        pytest.skip(reason)
    generate(gpt, text[0, :12], max_new_tokens=4, step="compiled")
    with torch.compiler.set_stance("fail_on_recompile"):
        generate(gpt, text[0, :9], max_new_tokens=9, step="compiled")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("texts", [1, 3])
def test_a_replayed_graph_writes_the_same(gpt, text, texts):
    prompts = list(text[:texts, :12])
    here = generate(gpt, prompts, max_new_tokens=50)
    there = GPT(SMALL)
    there.load_state_dict(gpt.state_dict())
    there.cuda()
    assert generate(there, prompts, max_new_tokens=50).tokens == here.tokens
    if texts == 1:
        drafted = generate(there, prompts, max_new_tokens=50, draft="n-grams")
        assert drafted.tokens == here.tokens
