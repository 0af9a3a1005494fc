"""The chat panel of lesson 10: type a prompt and watch the characters appear as a model writes.

chat         makes the panel: prompt, settings, the text as it appears, its timeline and numbers
in_words     one sentence that says when the characters of a text came

The panel shows what `kit.generate` does, and when. In slow motion it replays measured times.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import traitlets
from torch import Tensor, nn

from kit import devices
from kit.core.errors import BadValue, KitError, UnknownName
from kit.core.units import digits, words
from kit.course.panels import CoursePanel, shown_with
from kit.data import Text
from kit.inference import Generation, generate

EVERY_S = 1 / 30  # at most one message in this time: sending slows generation down
PURPOSE = "A panel to type a prompt and watch the characters appear as a model writes them"


class _Bursts:
    """The characters from each pass of the model and their times, on their way to the panel.

    A burst is one character, or several that were accepted in one pass.
    """

    def __init__(self, panel: Chat):
        self.panel, self.prompt = panel, ""
        self.pieces: list[tuple[str, float]] = []  # text, seconds since the request
        self._sent, self._sent_s = 0, -EVERY_S

    def __call__(self, tokens: Tensor, now_s: float) -> bool:
        """Store the new tokens, (1, k); send them if it is time. Returns whether to go on."""
        self.pieces.append((self.panel.text.decode(tokens[0]), now_s))
        if now_s - self._sent_s >= EVERY_S:
            self.send()
            self._sent_s = now_s
        return not self.panel.stopping.is_set()

    def send(self) -> None:
        """Send all pieces that were not sent yet."""
        if fresh := self.pieces[self._sent :]:
            self.panel.send({"kind": "pieces", "pieces": fresh})
        self._sent = len(self.pieces)


class Chat(CoursePanel):
    """A prompt, settings and the text; `.last` is the last `Generation`, or None."""

    names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the models
    settings = traitlets.Dict().tag(sync=True)  # of the last text
    reader = traitlets.Float().tag(sync=True)  # characters per second
    # How the last text ended; a page that is opened later shows it. None: nothing written yet.
    ended = traitlets.Dict(default_value=None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        text: Text,
        settings: dict[str, Any],
        reader: float,
        seed: int,
    ):
        self.models, self.text, self.seed = dict(models), text, seed
        self.last: Generation | None = None
        self.stopping = threading.Event()
        self._writing = threading.Lock()  # held while a text is written
        self._sentence = ""  # about the last text
        self._runs = 0
        super().__init__(names=list(models), settings=settings, reader=reader)
        self.on_msg(self._receive)

    def write(self, **settings: Any) -> Generation:
        """Write a text, as the Write button does, and return it when it is complete.

        Parameters
        ----------
        settings
            `prompt`, `model` (its name), `max_new_tokens`, `cache`, `draft` ("n-grams" or None),
            `temperature`. A setting that you leave out stays as it was.

        Raises
        ------
        BadValue
            `kit.generate` refuses the settings, or another text is being written.
        UnknownName
            No setting or model has that name.
        """
        if not self._claim():
            raise BadValue("another text is being written: wait until it ends, or press Stop.")
        return self._write(settings)

    def _receive(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        """Handle the buttons' messages. Write does nothing while a text is being written."""
        if content["do"] == "stop":
            self.stopping.set()
        elif self._claim():
            # In a thread, so that the kernel stays free for Stop and for other cells.
            work = [content["settings"]]
            threading.Thread(target=self._try, args=work, name="kit.chat", daemon=True).start()

    def _claim(self) -> bool:
        """Whether a text may be written now; if so, reserve the panel for it."""
        if not self._writing.acquire(blocking=False):
            return False
        self.stopping.clear()  # before the thread starts, so that a Stop pressed now counts
        return True

    def _try(self, settings: dict[str, Any]) -> None:
        devices.threads_here()  # a new thread does not inherit the setting
        with suppress(Exception):  # the panel shows the error
            self._write(settings)

    def _write(self, given: dict[str, Any]) -> Generation:
        """Write a text and report how it ended, with or without an error."""
        bursts, sentence, error = _Bursts(self), "", ""
        try:
            self.last = self._written(given, bursts)
            new, asked = sum(self.last.arrived), self.settings["max_new_tokens"]
            if new < asked:
                sentence = f"Stopped after {new:,} of {asked:,} characters. "
            sentence += in_words(self.last, self.reader)
            self._sentence = sentence
            return self.last
        except BaseException as raised:
            kind = "" if isinstance(raised, KitError) else f"{type(raised).__name__}: "
            error = f"{kind}{raised}"
            raise
        finally:
            self._writing.release()  # first: a page that sees the end may ask for the next
            bursts.send()
            self._runs += 1  # so that the same error twice is a change, which the page shows
            written = {"prompt": bursts.prompt, "pieces": bursts.pieces}
            self.ended = {"run": self._runs, **written, "sentence": sentence, "error": error}

    def _written(self, given: dict[str, Any], bursts: _Bursts) -> Generation:
        """What `generate` returns; only the part written so far if you press Stop."""
        for name in set(given) - set(self.settings):
            raise UnknownName("setting", name, self.settings)
        self.settings = {**self.settings, **given}
        options = dict(self.settings)
        bursts.prompt, name = options.pop("prompt"), options.pop("model")
        if name not in self.models:
            raise UnknownName("model", name, self.models)
        model, prompt = self.models[name], self.text.encode(bursts.prompt).tolist()
        self.send({"kind": "began", "prompt": bursts.prompt})  # the page starts its clock
        return generate(model, prompt, text=self.text, seed=self.seed, on_tokens=bursts, **options)

    def __repr__(self) -> str:
        return f"{PURPOSE} ({', '.join(self.names)}). {self._sentence or 'Nothing is written yet.'}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        fallback = f"<p>{html.escape(PURPOSE)} <i>(in JupyterLab)</i>.</p>"
        if self.last:
            fallback += (
                '<pre style="white-space:pre-wrap;overflow-wrap:anywhere">'
                f"{html.escape(self.last.text)}</pre><p>{html.escape(self._sentence)}</p>"
            )
        return shown_with(self, fallback, repr(self))


def in_words(written: Generation, reader: float) -> str:
    """One sentence: when the characters came, and how that compares with a reader's pace.

    `reader` is that pace, in characters per second.
    """
    sentence = f"The first character came after {words(written.ttft_s, 's')}"
    if written.tpot_s is not None:
        sentence += f", then one every {words(written.tpot_s, 's')}"
    pace = written.tokens_per_s
    return (
        f"{sentence}; {digits(written.tokens_per_pass)} per pass of the model. In all, "
        f"{digits(pace)} characters/s: {words(pace / reader, '×')} a reader's pace."
    )


def chat(
    models: Mapping[str, nn.Module],
    text: Text,
    *,
    prompt: str = "The ",
    max_new_tokens: int = 200,
    reader: float = 25.0,
    seed: int = 0,
) -> Chat:
    """A panel to type a prompt and watch a model write, at the measured pace.

    Parameters
    ----------
    models
        Name -> one of kit's GPT models, possibly converted; at least one.
    text
        The data whose vocabulary all the models share.
    prompt, max_new_tokens
        The settings at the start.
    reader
        Characters per second that a person reads: 25 are 250 words of six characters a minute.
    seed
        Seed of the sampling: the same settings write the same text.

    Raises
    ------
    BadValue
        No model was given, a model cannot generate text or has another vocabulary, or `reader`
        is not above 0.

    Explained in lesson 10.
    """
    if not isinstance(models, Mapping) or not models:
        raise BadValue(f"models={models!r}: needs at least one, as {{'its name': model}}.")
    for name, model in models.items():
        known: Any = getattr(getattr(model, "config", None), "vocab_size", None)
        if known is None or not callable(getattr(model, "cache", None)):
            raise BadValue(
                f"{name!r} ({type(model).__name__}) cannot generate text: needs .cache() and "
                f".config.vocab_size. Give a kit.models.GPT, or one that kit converted."
            )
        if known != len(text.classes):
            raise BadValue(
                f"{name!r} knows {known:,} tokens, but the vocabulary of {text.name!r} has "
                f"{len(text.classes):,}. Give the data that the model was trained on."
            )
    if not reader > 0:
        raise BadValue(f"reader={reader!r}: needs characters per second, a number above 0.")
    settings = {
        "prompt": prompt,
        "model": next(iter(models)),
        "max_new_tokens": max_new_tokens,
        "cache": True,
        "draft": None,
        "temperature": 0.7,
    }
    return Chat(models, text, settings, float(reader), seed)
