"""Translation: number words known to be right, and a model that writes as it was taught.

Shapes: B batch, N examples, S and T places of source and translation, E numbers of an embedded
symbol, H hidden units, V symbols.
"""

import math

import pytest
import torch
from num2words import num2words
from torch.nn.functional import cross_entropy

from kit.core.errors import BadValue, ShapeMismatch
from kit.costs.counting import count
from kit.data import Split, load_number_words, number_words
from kit.data.number_words import END, PADDING, SOURCE, START, SYMBOLS, TARGET, draw_numbers
from kit.inference import predict
from kit.models import Seq2Seq, Seq2SeqConfig, seq2seq
from kit.training import train
from kit.workloads import translation
from kit.workloads.translation import is_translated_exactly, mean_per_symbol


@pytest.fixture(scope="module")
def data():
    return load_number_words()


# --- Number words --------------------------------------------------------------------------------


def test_every_row_is_its_numbers_words(data):
    parts = [data[name] for name in ("train", "validation", "test")]
    inputs, targets = (torch.cat(side) for side in zip(*parts, strict=True))
    picked = slice(None, None, 40)
    german = [num2words(number, lang="de") for number in draw_numbers()[picked]]
    english = [num2words(number, lang="en") for number in draw_numbers()[picked]]
    assert data.decode(inputs[picked, :SOURCE]) == german
    assert data.decode(targets[picked]) == english
    assert data.decode(inputs[picked, SOURCE + 1 :]) == english


def test_each_place_is_shown_what_should_stand_before_it(data):
    inputs, targets = data["test"]
    shown = inputs[:, SOURCE:]
    assert (shown[:, 0] == START).all()
    before = targets[:, :-1]
    assert torch.equal(shown[:, 1:], before.masked_fill(before == END, PADDING))
    assert ((targets == END).sum(1) == 1).all()
    assert ((targets != PADDING).long().diff(dim=1) <= 0).all()  # nothing after the end


def test_the_numbers_are_the_small_ones_and_as_many_of_four_as_of_five_digits():
    drawn = draw_numbers()
    assert len(set(drawn)) == len(drawn) == 8_000
    assert sorted(drawn)[:1_000] == list(range(1_000))
    digits = [len(str(number)) for number in drawn]
    assert digits.count(4) == digits.count(5) == 3_500


def test_each_symbol_is_needed_and_no_other(data):
    used = torch.cat([part.flatten() for split in data.splits.values() for part in split])
    assert used.unique().tolist() == list(range(len(SYMBOLS)))


@pytest.mark.parametrize(("language", "between", "width"), [("de", 0, SOURCE), ("en", 2, TARGET)])
def test_the_longest_words_fit(language, between, width):
    """A number below 100,000 is said as its thousands, a comma in English, and the rest."""
    thousands = max(len(num2words(1_000 * n, lang=language)) for n in range(1, 100))
    rest = max(len(num2words(n, lang=language)) for n in range(1_000))
    longest = len(num2words(77_777, lang=language))
    assert longest == thousands + between + rest == width - (language == "en")  # the end


def test_any_number_word_can_be_encoded_and_read_again(data):
    words = [num2words(number, lang="de") for number in range(7, 100_000, 997)]
    tokens = data.encode(*words)
    assert tokens.shape == (len(words), SOURCE)
    assert data.decode(tokens) == words


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zweiundvierzik", "'k'"),
        ("Zwölf", "'Z'"),
        ("12", "'1', '2'"),
        ("", "0 characters: needs 1 to 52"),
        ("a" * 53, "53 characters: needs 1 to 52"),
    ],
)
def test_what_cannot_be_a_number_word_is_refused(text, told, data):
    with pytest.raises(BadValue) as refused:
        data.encode(text)
    assert repr(text) in str(refused.value) and told in str(refused.value)


def test_reading_stops_at_the_end(data):
    a, b = SYMBOLS.index("a"), SYMBOLS.index("b")
    rows = torch.tensor([[a, END, b], [a, PADDING, b], [START, a, b], [END, a, b]])
    assert data.decode(rows) == ["a", "a", "ab", ""]


def test_both_rooms_mean_the_same_by_the_symbols_that_are_no_characters():
    for name in ("PADDING", "START", "END"):
        assert getattr(seq2seq, name) == getattr(number_words, name)
    config = Seq2SeqConfig()
    assert (config.symbols, config.source, config.longest) == (len(SYMBOLS), SOURCE, TARGET)


# --- Loss and score ------------------------------------------------------------------------------

V = 6
TARGETS = torch.tensor([[3, 4, END, PADDING], [5, END, PADDING, PADDING]])


def sure_of(symbols: torch.Tensor) -> torch.Tensor:
    """Logits (N, T, V) whose largest is that of the symbols (N, T)."""
    return torch.nn.functional.one_hot(symbols, V).float()


def test_what_follows_the_end_has_no_say():
    written = TARGETS.masked_fill(TARGETS == PADDING, 5)
    assert is_translated_exactly(sure_of(written), TARGETS).tolist() == [True, True]
    assert mean_per_symbol(sure_of(written), TARGETS) == mean_per_symbol(sure_of(TARGETS), TARGETS)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_wrong_symbol_or_a_late_end_is_a_wrong_translation(place):
    written = TARGETS.clone()
    written[0, place] = 5
    assert is_translated_exactly(sure_of(written), TARGETS).tolist() == [False, True]


def test_the_loss_is_the_mean_over_symbols_and_not_over_translations():
    logits = torch.randn(2, 4, V, generator=torch.Generator().manual_seed(0))
    each = cross_entropy(logits.flatten(0, 1), TARGETS.flatten(), reduction="none").view(2, 4)
    wanted = (each[0, :3].sum() + each[1, :2].sum()) / 5
    torch.testing.assert_close(mean_per_symbol(logits, TARGETS), wanted)
    assert mean_per_symbol(torch.zeros(2, 4, V), TARGETS).item() == pytest.approx(math.log(V))


# --- The model -----------------------------------------------------------------------------------

S, T, E, H = 9, 7, 4, 5


@pytest.fixture
def model() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(symbols=V, source=S, longest=T, embedding=E, hidden=H))


def some(b: int, length: int = S) -> torch.Tensor:
    """Inputs (b, S + T): sources of that length, padded; the start; anything."""
    inputs = torch.randint(END + 1, V, (b, S + T), generator=torch.Generator().manual_seed(b))
    inputs[:, length:S] = PADDING
    inputs[:, S] = START
    return inputs


@pytest.mark.parametrize("length", [1, 4, 9])
def test_padding_is_never_looked_at(length, model):
    """The same source with less padding, and with what padding looks like changed."""
    inputs = some(3, length)
    wanted = model(inputs)
    source, so_far = inputs[:, :length], inputs[:, S:]
    memory, state = model.encode(source)
    torch.testing.assert_close(model.decode(so_far, state, memory, source > 0)[0], wanted)
    model.embed.weight.data[PADDING] += 10
    torch.testing.assert_close(model(inputs), wanted)
    torch.testing.assert_close(model.translate(inputs[:, :S]), model.translate(source))


def test_every_character_of_the_source_matters(model):
    inputs = some(1)
    for place in range(S):
        other = inputs.clone()
        other[0, place] = END + 1 + (other[0, place] - END) % (V - END - 1)
        assert not torch.allclose(model(other), model(inputs), atol=1e-7), place


def test_no_place_sees_what_comes_after_it(model):
    inputs = some(2)
    for place in range(1, T):
        other = inputs.clone()
        other[:, S + place] = START
        assert torch.equal(model(other)[:, :place], model(inputs)[:, :place])
        assert not torch.allclose(model(other)[:, place], model(inputs)[:, place])


def test_the_examples_of_a_batch_do_not_touch_each_other(model):
    inputs = torch.cat([some(2), some(3, length=4)])
    alone = torch.cat([model(row.unsqueeze(0)) for row in inputs])
    torch.testing.assert_close(model(inputs), alone)


def test_a_source_without_a_character_gives_no_nan(model):
    assert model(torch.zeros(2, S + T, dtype=torch.int64)).isfinite().all()


def test_symbol_by_symbol_is_the_same_as_all_at_once(model):
    inputs = some(3, length=6)
    source, so_far = inputs[:, :S], inputs[:, S:]
    memory, state = model.encode(source)
    steps = []
    for place in range(T):
        logits, state = model.decode(so_far[:, place : place + 1], state, memory, source > 0)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(inputs))


def test_a_translation_ends_with_its_end_or_after_the_longest(model):
    model.head.weight.data.zero_()
    model.head.bias.data = torch.tensor([0.0, 0, 0, 1, 0, 0])
    assert model.translate(some(2)[:, :S]).tolist() == [[3] * T] * 2
    model.head.bias.data[END] = 2
    assert model.translate(some(2)[:, :S]).tolist() == [[END] + [PADDING] * (T - 1)] * 2


@pytest.mark.parametrize("shape", [(2, S), (S + T,), (2, S + T, 1)])
def test_inputs_without_a_translation_so_far_are_refused(shape, model):
    with pytest.raises(ShapeMismatch, match=r"given inputs of shape .*needed \(B, 9 \+ T\)"):
        model(torch.zeros(shape, dtype=torch.int64))


def test_a_vocabulary_without_characters_is_refused():
    with pytest.raises(BadValue, match="symbols=3: needs at least 4"):
        Seq2SeqConfig(symbols=3)


def test_it_costs_what_it_costs_by_hand(model):
    b = 3
    counted = count(model, some(b))
    gates = 3 * (E * H + H * H + 2 * H)
    assert counted.params == V * E + 2 * gates + (2 * H * H + H) + (H * V + V)
    inwards, onwards = 2 * b * (S + T) * 3 * H * E, 2 * b * (S + T) * 3 * H * H
    look = 2 * (2 * b * T * S * H)  # likeness to each memory, and their sum
    rest = 2 * b * T * (2 * H * H + H * V)
    assert counted.forward_flops == inwards + onwards + look + rest
    # Backward: of both sides of each product; the encoder's first state is a constant.
    first = 2 * b * 3 * H * H
    assert counted.backward_flops == 2 * counted.forward_flops - first
    assert counted.uncounted == ()


# --- As taught, so written -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_trained(data):
    """A small model that stopped learning when about half of its translations were right."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    work = translation()
    few = Split(*(part[:200] for part in data["validation"]))
    model = Seq2Seq(Seq2SeqConfig(hidden=64))
    work = work.with_split("validation", few)
    train(model, work, epochs=3, batch_size=16, lr=5e-3, target=0.4, evaluate_every=25, live=False)
    return model


def test_a_right_answer_under_teacher_forcing_is_a_right_translation_in_use(half_trained, data):
    """The score shows the model the right symbols so far; a user's translation has only its own."""
    inputs, targets = data["test"]
    taught = is_translated_exactly(predict(half_trained, inputs), targets)
    written = half_trained.translate(inputs[:, :SOURCE])
    assert torch.equal(taught, (written == targets).all(1))
    assert 0.1 < float(taught.float().mean()) < 0.9  # there were both kinds


def test_up_to_the_first_wrong_symbol_both_ways_write_the_same(half_trained, data):
    inputs, targets = data["test"]
    taught = predict(half_trained, inputs).argmax(-1)
    written = half_trained.translate(inputs[:, :SOURCE])
    wrong = (taught != targets) & (targets != PADDING)
    so_far = (wrong.long().cumsum(1) - wrong.long() == 0) & (targets != PADDING)
    assert wrong.any()
    assert torch.equal(taught[so_far], written[so_far])


def test_a_typed_word_comes_back_as_words(half_trained, data):
    words = data.decode(half_trained.translate(data.encode("dreiundzwanzig", "elf")))
    assert len(words) == 2
    assert all(set(word) <= set(SYMBOLS) for word in words)
