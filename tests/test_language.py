"""Language: Python's documentation, transformers, and the optimizer that trains them.

Shapes: B batch, N windows, T places, F features, d width, A heads, V tokens in the vocabulary.
"""

import copy
import math
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
import torch
from families import fresh, inputs_for, loss_of
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

import kit
from kit.core.errors import BadValue, ShapeMismatch
from kit.costs.counting import count
from kit.data import python_docs
from kit.data.python_docs import CONTEXT, HELD_OUT, OVERLAP, STRETCH, TURN
from kit.inference import evaluate, predict
from kit.models import FAMILIES, GPT, GPTConfig, Transformer, TransformerConfig
from kit.models.transformer import Attention, Block
from kit.training import muon, step, train
from kit.workloads import language


@pytest.fixture(scope="module")
def work():
    return language()


@pytest.fixture(scope="module")
def data(work):
    return work.data


@pytest.fixture(scope="module")
def text() -> str:
    return python_docs._distinct_paragraphs(python_docs._topics())


# --- Python's documentation ----------------------------------------------------------------------


def paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


def test_the_text_is_that_of_the_running_python(text):
    from pydoc_data.topics import topics as theirs

    everything = "\n\n".join(theirs.values())
    assert all(part in everything for part in text.split("\n\n"))
    assert set(paragraphs(text)) == set(paragraphs(everything)) - {""}


def test_no_paragraph_comes_twice(text):
    assert len(set(paragraphs(text))) == len(paragraphs(text))


def test_what_comes_again_is_left_out_however_it_is_indented_or_broken():
    one, other = "A list\nof names.\n\n\nIt is short.", "   A list of\n   names.\n\nIt is long.\n"
    kept = python_docs._distinct_paragraphs([one, other])
    assert kept == "A list\nof names.\n\nIt is short.\n\nIt is long."


def passages(parts: list[str], length: int) -> set[str]:
    joined = (" ".join(part.split()) for part in parts)
    return {part[i : i + length] for part in joined for i in range(len(part) - length + 1)}


def test_the_test_is_not_known_by_heart_from_the_training(data, text):
    """Of all passages as long as a sentence, nearly none is in both."""
    places = data.encode(text)
    train, test = (
        passages([data.decode(part) for part in python_docs._stretches(places, name)], 60)
        for name in ("train", "test")
    )
    assert len(test & train) < 0.1 * len(test)


def test_each_character_of_the_text_is_in_one_split():
    places = torch.arange(10 * TURN * STRETCH + 777)
    parts = [
        torch.cat(python_docs._stretches(places, name)) for name in ("train", *HELD_OUT.values())
    ]
    assert torch.equal(torch.cat(parts).sort().values, places)
    assert len(parts[1]) == len(parts[2]) == 10 * STRETCH


@pytest.mark.parametrize("rest", [0, 1, CONTEXT, CONTEXT + 1])
def test_a_rest_that_is_too_short_for_a_window_is_left_out(rest):
    last = python_docs._stretches(torch.arange(6 * STRETCH + rest), "train")[-1]
    assert len(last) == (rest if rest > CONTEXT else 5 * STRETCH)


def test_each_target_is_the_character_after(data):
    for inputs, targets in data.splits.values():
        assert inputs.shape == targets.shape == (len(inputs), CONTEXT)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_windows_of_training_overlap_and_the_others_follow_each_other(data, text):
    shared = CONTEXT - CONTEXT // OVERLAP
    pairs = pairwise(data["train"].inputs[:9])
    assert all(torch.equal(a[-shared:], b[:shared]) for a, b in pairs)
    for name in HELD_OUT.values():
        inputs, targets = data[name]
        assert len(inputs) % 20 == 0 and 100 <= len(inputs) <= 300
        for i in range(0, len(inputs), 20):  # a stretch of the text
            whole = data.decode(torch.cat([*inputs[i : i + 20], targets[i + 19, -1:]]))
            assert len(whole) == STRETCH and whole in text


@pytest.mark.parametrize("context", [1, 64, 500])
def test_windows_of_another_length_have_the_same_text(context):
    usual, other = python_docs.load_python_docs(), python_docs.load_python_docs(context=context)
    assert other["train"].inputs.shape[1] == context
    assert other.classes == usual.classes
    if CONTEXT % context == 0:  # cut finer, the held-out text is the same
        for split in HELD_OUT.values():
            one, two = usual[split].inputs.flatten(), other[split].inputs.flatten()
            assert torch.equal(one, two[: len(one)])


@pytest.mark.parametrize("context", [0, 2_561, 64.0, True])
def test_a_context_that_no_stretch_holds_is_refused(context):
    with pytest.raises(BadValue, match=r"context=.*: needs a whole number from 1 to 2,560"):
        python_docs.load_python_docs(context=context)


def test_the_classes_are_the_characters_of_the_text(data, text):
    assert data.classes == tuple(sorted(set(text)))
    assert data.decode(data.encode(text[:5_000])) == text[:5_000]


@pytest.mark.parametrize("prompt", ["for x in ", "a", "\n\n   >>> "])
def test_a_prompt_becomes_tokens_and_text_again(data, prompt):
    tokens = data.encode(prompt)
    assert tokens.dtype == torch.int64 and tokens.shape == (len(prompt),)
    assert data.decode(tokens) == data.decode(tokens.tolist()) == prompt


def test_unknown_characters_are_named(data):
    with pytest.raises(
        BadValue, match=r"given the unknown 'Ж', '鳥': .* the \d+ known: .*abc.*xyz"
    ):
        data.encode("abc鳥ЖЖ")
    with pytest.raises(BadValue, match="given an empty text"):
        data.encode("")


# --- Attention and blocks ------------------------------------------------------------------------


def written_out(block: Block, x: torch.Tensor) -> torch.Tensor:
    """The block as formulas, head by head."""

    def normal(x, norm):
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        return norm.weight * centred / spread + norm.bias

    heads, t, d = block.attention.n_heads, x.shape[1], x.shape[2]
    queries, keys, values = (normal(x, block.attention_norm) @ block.attention.qkv.weight.T).split(
        d, -1
    )
    found = []
    for h in range(heads):
        own = slice(h * d // heads, (h + 1) * d // heads)
        likeness = queries[..., own] @ keys[..., own].transpose(1, 2) / math.sqrt(d // heads)
        if block.attention.causal:
            likeness = likeness.masked_fill(torch.ones(t, t).triu(1).bool(), -math.inf)
        found.append(likeness.exp() / likeness.exp().sum(-1, keepdim=True) @ values[..., own])
    x = x + torch.cat(found, -1) @ block.attention.out.weight.T
    return x + gelu(normal(x, block.mlp_norm) @ block.up.weight.T) @ block.down.weight.T


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_a_block_computes_what_its_formulas_say(heads, causal):
    torch.manual_seed(0)
    block = Block(12, heads, causal)
    for norm in (block.attention_norm, block.mlp_norm):  # ones and zeros would hide a mix-up
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(block(x), written_out(block, x), atol=1e-5, rtol=1e-5)


def test_one_query_finds_with_the_kept_keys_and_values_what_all_find_together():
    """What a cache of keys and values will do."""
    torch.manual_seed(0)
    attention = Attention(12, 3, causal=True)
    queries, keys, values = attention.project(torch.randn(2, 7, 12))
    together = attention.attend(queries, keys, values)
    for t in range(7):
        seen = slice(t + 1)
        alone = scaled_dot_product_attention(
            queries[:, :, t : t + 1], keys[:, :, seen], values[:, :, seen]
        )
        torch.testing.assert_close(alone, together[:, :, t : t + 1])


# --- GPT -----------------------------------------------------------------------------------------

GPTS = [
    GPTConfig(),
    GPTConfig(vocab_size=11, context=7, d_model=6, n_layers=1, n_heads=1),
    GPTConfig(vocab_size=5, context=3, d_model=8, n_layers=3, n_heads=4),
]


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("c", GPTS)
def test_a_gpt_has_the_parameters_counted_by_hand(c):
    d = c.d_model
    block = 2 * (d + d) + 3 * d * d + d * d + 2 * (4 * d * d)
    assert params(GPT(c)) == (c.vocab_size + c.context) * d + c.n_layers * block + 2 * d + (
        d * c.vocab_size
    )


@pytest.mark.parametrize("c", GPTS)
@pytest.mark.parametrize(("b", "t"), [(1, 3), (4, 2)])
def test_a_gpt_costs_what_it_costs_by_hand(c, b, t):
    model = GPT(c)
    counted = count(model, torch.zeros(b, t, dtype=torch.int64))
    matrices = c.n_layers * 12 * c.d_model**2 + c.d_model * c.vocab_size
    meetings = c.n_layers * 2 * 2 * c.d_model  # scores, and values: 2 FLOPs per feature and pair
    assert counted.forward_flops == b * t * (2 * matrices + meetings * t)
    seen = (t + 1) / 2  # on average: itself and those before it
    assert counted.causal_forward_flops == b * t * (2 * matrices + meetings * seen)
    # Backward: each matmul twice; the scores of attention are made once more.
    assert counted.backward_flops == b * t * (4 * matrices + 2.5 * meetings * t)


def test_what_comes_later_changes_nothing_before():
    model = fresh("GPT")
    tokens = inputs_for(model, 2)
    before = predict(model, tokens)
    for t in (0, 5, tokens.shape[1] - 1):
        other = tokens.clone()
        other[:, t] = (other[:, t] + 1) % model.config.vocab_size
        after = predict(model, other)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not (after[:, t:] == before[:, t:]).all(-1).any()  # itself and all later ones


def test_the_beginning_of_a_text_is_answered_like_the_whole():
    model = fresh("GPT")
    tokens = inputs_for(model, 2)
    whole = predict(model, tokens)
    for t in (1, 2, 17):
        torch.testing.assert_close(predict(model, tokens[:, :t]), whole[:, :t], atol=1e-5, rtol=0)


def test_the_order_of_tokens_matters():
    model = fresh("GPT")
    one, other = predict(model, torch.tensor([[1, 2, 3], [2, 1, 3]]))
    assert not torch.allclose(one[-1], other[-1], atol=1e-6)


def test_a_fresh_gpt_holds_all_tokens_about_equally_likely():
    model = fresh("GPT")
    tokens = inputs_for(model, 8)
    loss = cross_entropy(predict(model, tokens).flatten(0, 1), tokens.flatten())
    assert float(loss) == pytest.approx(math.log(model.config.vocab_size), rel=0.1)


def test_a_gpt_takes_texts_up_to_its_context():
    model = fresh("GPT", context=9)
    assert model(torch.zeros(2, 9, dtype=torch.int64)).shape == (2, 9, 103)
    with pytest.raises(ShapeMismatch, match=r"given 12 positions; needed 1 to 9, 3 too many.*-9:"):
        model(torch.zeros(2, 12, dtype=torch.int64))
    with pytest.raises(ShapeMismatch, match=r"given 0 positions; needed 1 to 9\."):
        model(torch.zeros(2, 0, dtype=torch.int64))


def test_what_is_no_batch_of_texts_is_refused():
    model = fresh("GPT")
    with pytest.raises(
        ShapeMismatch, match=r"\(5,\); needed \(B, T\)\. Use tokens\.unsqueeze\(0\)"
    ):
        model(torch.zeros(5, dtype=torch.int64))
    for wrong in (torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.int32)):
        with pytest.raises(BadValue, match=rf"of {wrong.dtype}; needed torch\.int64"):
            model(wrong)


@pytest.mark.parametrize("config", [GPTConfig, TransformerConfig])
def test_heads_that_cannot_share_the_width_are_refused(config):
    with pytest.raises(BadValue, match=rf"{config.__name__} with d_model=64 and n_heads=5"):
        config(d_model=64, n_heads=5)


# --- Transformer for sequences -------------------------------------------------------------------


@pytest.mark.parametrize(
    "c",
    [TransformerConfig(), TransformerConfig(3, 5, d_model=6, n_layers=3, n_heads=3, outputs=2)],
)
def test_a_transformer_costs_what_it_costs_by_hand(c):
    b, t, d = 2, 5, c.d_model
    model = Transformer(c)
    blocks = c.n_layers * 12 * d * d
    ends = (c.features * d + d) + c.context * d + 2 * d + (d * c.outputs + c.outputs)
    assert params(model) == ends + blocks + c.n_layers * 4 * d
    counted = count(model, torch.rand(b, t, c.features))
    each = 2 * (c.features * d + blocks) + c.n_layers * 4 * d * t  # nothing is masked
    assert counted.forward_flops == b * t * each + b * 2 * d * c.outputs
    assert counted.causal_forward_flops == counted.forward_flops


def test_every_place_of_a_sequence_and_its_order_have_a_say():
    model = fresh("Transformer")
    sequences = inputs_for(model, 1)
    before = predict(model, sequences)
    for t in range(sequences.shape[1]):
        other = sequences.clone()
        other[:, t] += 1
        assert not torch.allclose(predict(model, other), before, atol=1e-4)
    turned = predict(model, sequences.flip(1))
    assert not torch.allclose(turned, before, atol=1e-5)
    with torch.no_grad():
        model.position_embedding.zero_()  # without them it is blind to order
    torch.testing.assert_close(predict(model, sequences), predict(model, sequences.flip(1)))


def test_a_transformer_takes_sequences_up_to_its_context():
    model = fresh("Transformer", context=9)
    assert model(torch.rand(2, 9, 8)).shape == model(torch.rand(2, 1, 8)).shape == (2, 10)
    with pytest.raises(ShapeMismatch, match=r"given 10 positions; needed 1 to 9, 1 too many"):
        model(torch.rand(2, 10, 8))
    with pytest.raises(ShapeMismatch, match=r"\(2, 9, 7\); needed \(B, T, 8\)"):
        model(torch.rand(2, 9, 7))


# --- Muon and AdamW ------------------------------------------------------------------------------


def groups(model: nn.Module) -> dict[str, list[str]]:
    """The names of the weights that each rule moves."""
    optimizer = muon(model.named_parameters())
    rules = [type(rule).__name__ for rule in optimizer.rules]
    assert len(rules) == len(optimizer.param_groups)
    return {
        rule: group["param_names"]
        for rule, group in zip(rules, optimizer.param_groups, strict=True)
    }


def test_muon_moves_the_matrices_of_blocks_and_nothing_else():
    by = groups(fresh("GPT", n_layers=1))
    assert by["Muon"] == [
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.out.weight",
        "blocks.0.up.weight",
        "blocks.0.down.weight",
    ]
    assert "token_embedding.weight" in by["AdamW"] and "position_embedding" in by["AdamW"]
    assert "head.weight" in by["AdamW"] and "norm.bias" in by["AdamW"]


def test_a_model_without_blocks_has_hidden_matrices_too():
    assert groups(fresh("MLP"))["Muon"] == ["hidden.0.weight", "hidden.2.weight"]
    assert groups(nn.ModuleDict({"head": nn.Linear(3, 2)})) == {
        "AdamW": ["head.weight", "head.bias"]
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_each_weight_of_each_family_is_moved_once(family):
    model = fresh(family)
    by = groups(model)
    names = [name for moved in by.values() for name in moved]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    before = copy.deepcopy(model.state_dict())
    optimizer = muon(model.named_parameters(), lr=1e-2)
    loss_of(model(inputs_for(model, 16))).backward()
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_it_is_pytorchs_two_optimizers_side_by_side(monkeypatch):
    """But in float32 here: PyTorch's Muon always multiplies in bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    work, lr = language(), 3e-3
    inputs, targets = work.example(4)
    one, two = fresh("GPT", d_model=12), fresh("GPT", d_model=12)
    optimizer = muon(one.named_parameters(), lr=lr)
    inner = [p for name, p in two.named_parameters() if name in groups(two)["Muon"]]
    outer = [p for name, p in two.named_parameters() if name in groups(two)["AdamW"]]
    apart = [
        torch.optim.Muon(inner, lr=lr, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=lr, fused=True),
    ]
    for _ in range(3):
        step(one, optimizer, inputs, targets, work.loss)
        for each in apart:
            each.zero_grad()
        work.loss(two(inputs), targets).backward()
        for each in apart:
            each.step()
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * lr)


def test_a_step_of_muon_goes_equally_far_in_all_directions():
    """As its source says: singular values between 0.5 and 1.5, whatever those of the gradient."""
    torch.manual_seed(0)
    layer = nn.Linear(24, 16, bias=False)
    before = layer.weight.detach().clone()
    optimizer = muon([("hidden", layer.weight)], lr=1e-2)
    layer.weight.grad = torch.randn(16, 24) * torch.logspace(0, -2, 24)  # some a hundred × weaker
    optimizer.step()
    kept = 1 - 1e-2 * optimizer.param_groups[0]["weight_decay"]
    moved = (before * kept - layer.weight.detach()) / (1e-2 * 0.2 * math.sqrt(24))
    stretch = torch.linalg.svdvals(layer.weight.grad)
    assert stretch.max() / stretch.min() > 5
    assert torch.linalg.svdvals(moved).min() > 0.4 and torch.linalg.svdvals(moved).max() < 1.6


def test_queries_keys_and_values_can_move_each_by_itself():
    """As three matrices would; without it, as one."""
    torch.manual_seed(0)
    weight, gradient = (
        torch.randn(24, 8),
        torch.randn(24, 8) * torch.tensor([[1.0], [9], [0.1]] * 8),
    )

    def moved(named, gradients, **options):
        weights = {name: nn.Parameter(value.clone()) for name, value in named.items()}
        optimizer = muon(weights.items(), lr=1e-2, **options)
        for each, gradient in zip(weights.values(), gradients, strict=True):
            each.grad = gradient.clone()
        optimizer.step()
        return torch.cat([each.detach() for each in weights.values()])

    apart = moved(dict(zip("abc", weight.chunk(3), strict=True)), gradient.chunk(3))
    name = "blocks.0.attention.qkv.weight"
    split = moved({name: weight}, [gradient], split_qkv=True)
    torch.testing.assert_close(split, apart)
    assert (moved({name: weight}, [gradient]) - apart).abs().max() > 1e-4
    other = {"blocks.0.up.weight": weight}
    assert torch.equal(moved(other, [gradient], split_qkv=True), moved(other, [gradient]))


def test_parameters_without_names_are_refused():
    with pytest.raises(BadValue, match=r"without names: .* Use model\.named_parameters\(\)"):
        muon(fresh("MLP").parameters())


def test_a_schedule_reaches_both_rules_also_after_a_loading():
    model = fresh("MLP")
    optimizer = muon(model.named_parameters(), lr=1e-2)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: 0.0 if at else 1.0)
    before = copy.deepcopy(model.state_dict())

    def closure():
        optimizer.zero_grad()
        value = loss_of(model(inputs_for(model, 8)))
        value.backward()
        return value

    first = optimizer.step(closure)
    moved = copy.deepcopy(model.state_dict())
    assert not any(torch.equal(moved[name], before[name]) for name in before)
    schedule.step()
    assert optimizer.step(closure) < first  # it moved, and now it stands still:
    assert all(torch.equal(moved[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("kept", [True, False])
def test_a_training_goes_on_where_it_ended_to_the_bit(work, tmp_path, kept):
    options = {"batch_size": 4, "optimizer": muon, "evaluate_every": 100, "live": False}

    def start():
        return fresh("GPT", d_model=12, n_layers=1, vocab_size=len(work.data.classes))

    whole, model = start(), start()
    wanted = train(whole, work, steps=6, **options)
    state = train(model, work, steps=3, **options).state
    if kept:
        history = train(other := start(), work, steps=3, **options)
        back = kit.load(kit.save(tmp_path / "gpt.safetensors", other, history))
        model, state = back.model, back.state
    assert train(model, work, steps=6, resume=state, **options).losses == wanted.losses
    assert all(map(torch.equal, model.parameters(), whole.parameters()))
    with pytest.raises(BadValue, match=r"optimizer='AdamW': .*optimizer='MuonAndAdamW'"):
        train(start(), work, steps=6, resume=state, **{**options, "optimizer": torch.optim.AdamW})


# --- The workload --------------------------------------------------------------------------------


def test_uniform_logits_lose_ln_v_nats_and_foresee_the_first_character(work):
    inputs, targets = work.example(50)
    v = len(work.data.classes)
    logits = torch.zeros(*inputs.shape, v)
    assert float(work.loss(logits, targets)) == pytest.approx(math.log(v), rel=1e-5)
    assert torch.equal(work.score(logits, targets), (targets == 0).float().mean(1))


def test_a_window_is_worth_the_share_of_its_characters(work):
    targets = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    logits = nn.functional.one_hot(torch.tensor([[0, 1, 2, 0], [0, 2, 0, 3]]), 4).float()
    assert work.score(logits, targets).tolist() == [0.75, 0.25]


def foreseen_by_counting(work, before: int) -> float:
    """Share of the test that is the commonest character after as many as `before` it."""
    v = len(work.data.classes)
    train, test = work.data["train"], work.data["test"]

    def key(inputs):
        parts = [inputs[:, 1 - i : inputs.shape[1] - i] * v**i for i in range(before)]
        return torch.stack(parts).sum(0) if parts else torch.zeros_like(inputs[:, 1:])

    seen = torch.zeros(v**before * v)
    places = key(train.inputs) * v + train.targets[:, 1:]
    seen.index_put_((places.flatten(),), torch.ones(places.numel()), accumulate=True)
    best = seen.view(-1, v).argmax(1)
    return float((best[key(test.inputs)] == test.targets[:, 1:]).double().mean())


def test_looking_up_the_longest_piece_that_is_known_is_better_still(work, text):
    """The commonest character after as many as eight, or fewer where those were never seen."""
    data, seen = work.data, [defaultdict(Counter) for _ in range(9)]
    for part in python_docs._stretches(data.encode(text), "train"):
        read = data.decode(part)
        for before, table in enumerate(seen):
            for i in range(before, len(read)):
                table[read[i - before : i]][read[i]] += 1
    right = []
    for inputs, targets in zip(*data["test"], strict=True):
        read = data.decode(inputs)
        for i, target in enumerate(data.decode(targets), start=1):
            known = next(k for k in range(min(8, i), -1, -1) if read[i - k : i] in seen[k])
            right.append(seen[known][read[i - known : i]].most_common(1)[0][0] == target)
    assert sum(right) / len(right) == pytest.approx(0.67, abs=0.06)
    assert sum(right) / len(right) > work.target
    assert sum(map(len, seen)) > len(text)


def test_the_target_is_far_from_what_counting_reaches(work):
    """And counting reaches about what the workload's docstring says, whatever Python this is."""
    commonest, bigram, trigram = (foreseen_by_counting(work, before) for before in range(3))
    assert [commonest, bigram, trigram] == pytest.approx([0.18, 0.29, 0.45], abs=0.05)
    assert work.target > bigram + 0.2 and work.target > trigram + 0.05


@pytest.fixture(scope="module")
def learnt(work):
    """The small GPT after a short training by each optimizer, and its loss."""
    found = {}
    for optimizer in ("muon", "adamw"):
        torch.manual_seed(0)
        model = work.model("gpt-small")
        options = {**work.recipe, "steps": 60, "optimizer": optimizer, "evaluate_every": 60}
        history = train(model, work, **options, live=False)
        found[optimizer] = model, history.scores[-1][1].loss
    return found


def test_a_short_training_beats_the_commonest_character(work, learnt):
    score = evaluate(learnt["muon"][0], work)
    assert score.mean.value > 0.2 and score.n == work.size("test")
    assert " of the next characters right on " in repr(score)


def test_with_muon_as_many_steps_learn_more(learnt):
    """At the recipe's learning rate, with which AdamW alone learns too."""
    assert learnt["muon"][1] < learnt["adamw"][1] - 0.1


def test_a_prompt_can_be_typed(work):
    model = work.model("gpt-small")
    logits = predict(model, work.data.encode("The for statement").unsqueeze(0))
    assert logits.shape == (1, 17, len(work.data.classes))
    assert len(work.data.decode(logits[0].argmax(-1))) == 17
