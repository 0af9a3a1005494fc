"""Watching a text being written: what the buttons send, what the panel is sent, and how it ends."""

import threading

import pytest
import torch

import kit
from kit.core.errors import BadValue, UnknownName
from kit.course import chat_panel
from kit.course.chat_panel import chat, in_words
from kit.data import load_python_docs
from kit.inference import generate
from kit.inference.generation import Generation
from kit.models import GPT, MLP, GPTConfig

WIDGET = "application/vnd.jupyter.widget-view+json"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def text():
    return load_python_docs()


def gpt(text, seed=0, context=64):
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2}
    return GPT(GPTConfig(vocab_size=len(text.classes), context=context, **sizes))


@pytest.fixture
def models(text):
    return {"small": gpt(text), "<other>": gpt(text, seed=1)}


@pytest.fixture
def panel(models, text):
    return watched(chat(models, text, max_new_tokens=30, seed=3))


def watched(panel):
    """The panel; `.sent` has what it sends to the browser."""
    panel.sent = []
    panel.send = panel.sent.append
    return panel


def press(panel, do, **settings):
    """What the browser sends when a button is pressed."""
    content = {"do": do}
    if do == "write":
        content["settings"] = {**panel.settings, **settings}
    data = {"method": "custom", "content": content}
    panel._handle_msg({"content": {"data": data}, "buffers": []})


def wait(panel):
    """Until no text is being written, and the panel was told how it ended."""
    for thread in threading.enumerate():
        if thread.name == "kit.chat":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert not panel._writing.locked()


def pieces(panel):
    return [piece for m in panel.sent if m["kind"] == "pieces" for piece in m["pieces"]]


@pytest.fixture
def held(models):
    """The first model waits before its fourth reading until it is let go."""
    reached, go = threading.Event(), threading.Event()
    readings = []

    def hold(*_):
        readings.append(1)
        if len(readings) == 4:
            reached.set()
            assert go.wait(PATIENCE_S)

    hook = models["small"].register_forward_pre_hook(hold)
    yield reached, go
    go.set()
    hook.remove()


# --- What is written, and when -------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 0, "draft": "n-grams"},
        {"cache": False, "model": "<other>", "prompt": "def \n  x"},
        {"draft": "n-grams", "temperature": 0.2, "max_new_tokens": 50},
    ],
)
def test_what_comes_is_what_generate_writes(panel, models, text, settings):
    press(panel, "write", **settings)
    wait(panel)
    asked = {**panel.settings, "text": text, "seed": 3}
    expected = generate(models[asked.pop("model")], asked.pop("prompt"), **asked)
    assert panel.sent[0] == {"kind": "began", "prompt": panel.settings["prompt"]}
    came = pieces(panel)
    assert panel.settings["prompt"] + "".join(piece for piece, _ in came) == expected.text
    assert [len(piece) for piece, _ in came] == list(expected.arrived)
    assert [at for _, at in came] == sorted(at for _, at in came) and came[0][1] > 0
    assert (panel.last.text, panel.last.way) == (expected.text, expected.way)
    assert panel.ended["pieces"] == came and panel.ended["error"] == ""
    assert panel.ended["sentence"] == in_words(panel.last, 25.0)


def test_what_the_buttons_do_can_be_done_without_them(panel):
    written = panel.write(temperature=0, max_new_tokens=10)
    assert written is panel.last and len(written.tokens[0]) == 10
    assert "".join(piece for piece, _ in pieces(panel)) == written.text[4:]
    assert panel.ended["prompt"] == "The "  # a page that shows the panel later shows this
    assert panel.write().tokens == written.tokens  # the settings stay


def test_each_setting_reaches_generate(panel, models, text, monkeypatch):
    given = {}
    written = generate(models["<other>"], "ab", text=text, max_new_tokens=3)
    monkeypatch.setattr(chat_panel, "generate", lambda *a, **k: given.update(a=a, **k) or written)
    settings = {"prompt": "ab", "model": "<other>", "max_new_tokens": 3, "temperature": 1.5}
    press(panel, "write", **settings, cache=False, draft="n-grams")
    wait(panel)
    assert given.pop("a") == (models["<other>"], text.encode("ab").tolist())
    assert given.pop("on_tokens") and given.pop("text") is text
    assert given == {
        **{"max_new_tokens": 3, "temperature": 1.5, "cache": False, "draft": "n-grams"},
        "seed": 3,
    }


def test_the_messages_are_few(panel):
    bursts = chat_panel._Bursts(panel)
    for i in range(300):  # 300 a second
        bursts(torch.tensor([[1]]), i / 300)
    bursts.send()
    assert len(pieces(panel)) == 300
    assert 25 <= len(panel.sent) <= 32
    assert len(panel.sent[0]["pieces"]) == 1  # the first is not waited for


def test_the_numbers_in_words():
    times = {"arrivals_s": (0.5, 0.75, 1.0), "arrived": (1, 2, 2)}
    written = Generation(((1,),), ((1, 2, 3, 4, 5),), **times, way="with a cache", device="cpu")
    assert in_words(written, 25.0) == (
        "The first character came after 500 ms, then one every 125 ms; 1.67 per pass of the "
        "model. In all, 5.00 characters/s: 0.200 × a reader's pace."
    )
    one = Generation(((1,),), ((1,),), (0.5,), (1,), way="with a cache", device="cpu")
    assert "after 500 ms; 1.00 per pass" in in_words(one, 25.0)


# --- Stop, and Write twice -----------------------------------------------------------------------


def test_stop_ends_after_the_token_being_computed(panel, models, held):
    reached, go = held
    models["small"].train()
    press(panel, "write", temperature=0)
    assert reached.wait(PATIENCE_S)
    press(panel, "stop")
    go.set()
    wait(panel)
    assert len(pieces(panel)) == 4
    assert panel.last.text == "The " + "".join(piece for piece, _ in pieces(panel))
    assert panel.last.arrivals_s == tuple(at for _, at in pieces(panel))
    assert panel.last.way == "with a cache, the likeliest"
    assert panel.ended["sentence"].startswith(
        "Stopped after 4 of 30 characters. The first character"
    )
    assert models["small"].training  # its mode is put back
    assert len(panel.write().tokens[0]) == 30  # and the next is not stopped


def test_a_second_write_changes_nothing(panel, held):
    reached, go = held
    press(panel, "write")
    assert reached.wait(PATIENCE_S)
    press(panel, "write", prompt="another")
    with pytest.raises(
        BadValue, match="another text is being written: wait until it ends, or press Stop"
    ):
        panel.write()
    go.set()
    wait(panel)
    assert [m["kind"] for m in panel.sent].count("began") == 1
    assert panel.last.text.startswith("The ") and panel.ended["error"] == ""


def test_stop_without_a_text_does_nothing(panel):
    press(panel, "stop")
    assert panel.ended is None and len(panel.write().tokens[0]) == 30


# --- What goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt": "Café"}, "given the unknown 'é'"),
        ({"prompt": ""}, "given an empty text"),
        ({"max_new_tokens": 61}, "a prompt of 4 tokens and 61 new ones make 65"),
        ({"max_new_tokens": None}, "max_new_tokens=None: needs a whole number"),
        ({"model": "big"}, "no model is called 'big'"),
        ({"top_q": 1}, "no setting is called 'top_q'"),
    ],
)
def test_an_error_is_shown_and_the_panel_stays_usable(panel, settings, told):
    before = panel.settings
    for times in (1, 2):  # the same error twice is told twice
        press(panel, "write", **settings)
        wait(panel)
        assert panel.ended["error"].startswith(told) and panel.ended["sentence"] == ""
        assert panel.ended["run"] == times
    with pytest.raises((BadValue, UnknownName)):
        panel.write(**settings)
    assert panel.last is None
    press(panel, "write", **before)
    wait(panel)
    assert panel.ended["error"] == "" and panel.ended["sentence"]
    assert len(panel.last.tokens[0]) == 30


def test_an_error_that_nobody_expected_is_named(panel, models):
    def fail(*_):
        raise ZeroDivisionError("by <nothing>")

    hook = models["small"].register_forward_pre_hook(fail)
    press(panel, "write")
    wait(panel)
    assert panel.ended["error"] == "ZeroDivisionError: by <nothing>"
    hook.remove()
    assert panel.write() is panel.last


@pytest.mark.parametrize("models", [{}, [], None])
def test_a_panel_needs_a_model(models, text):
    with pytest.raises(BadValue, match=r"needs at least one, as \{'its name': model\}"):
        chat(models, text)


def test_a_panel_needs_models_that_write_its_vocabulary(models, text):
    with pytest.raises(BadValue, match=r"'digits' \(MLP\) cannot generate text: needs .cache"):
        chat({**models, "digits": MLP()}, text)
    strange = GPT(GPTConfig(vocab_size=7, d_model=16, n_layers=1, n_heads=2))
    with pytest.raises(BadValue, match=r"'strange' knows 7 tokens, .* 'python_docs' has \d+\. "):
        chat({"strange": strange}, text)


@pytest.mark.parametrize("reader", [0, -1, float("nan")])
def test_a_reader_reads(models, text, reader):
    with pytest.raises(BadValue, match=f"reader={reader}: needs characters per second"):
        chat(models, text, reader=reader)


# --- Without a browser ---------------------------------------------------------------------------


def test_without_a_kernel_there_is_the_last_text(panel):
    bundle = panel._repr_mimebundle_()
    assert WIDGET in bundle
    assert "watch the characters appear" in bundle["text/html"]
    assert "<pre" not in bundle["text/html"]
    assert bundle["text/plain"] == repr(panel)
    assert repr(panel).endswith("(small, <other>). Nothing is written yet.")

    written = panel.write(prompt="<b>\n")
    page = panel._repr_mimebundle_()["text/html"]
    assert "&lt;b&gt;\n" in page and "<b>" not in page
    assert page.count("a reader&#x27;s pace.") == 1
    assert repr(panel).endswith(in_words(written, 25.0))


def test_the_panel_starts_as_it_is_told(models, text):
    panel = kit.chat(models, text, prompt="if ", max_new_tokens=9, reader=10)
    state = panel.get_state()
    assert state["names"] == ["small", "<other>"] and state["reader"] == 10.0
    assert state["settings"] == {
        **{"prompt": "if ", "model": "small", "max_new_tokens": 9},
        **{"cache": True, "draft": None, "temperature": 0.7},
    }
    assert panel.last is None and state["ended"] is None


def test_the_panel_brings_its_own_script_and_asks_nobody():
    script, style = str(chat_panel.Chat._esm), str(chat_panel.Chat._css)
    assert "requestAnimationFrame" in script and "prefers-reduced-motion" in style
    assert "http" not in script + style
