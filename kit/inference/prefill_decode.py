"""How a model continues a text: prefill reads the prompt, decode adds one token after another.

Uncached    computes the complete text again for each token
Cached      computes each position once; its keys and values stay in a cache
Captured    the same, with the decode step compiled or captured as a CUDA graph

All three give the same logits, within rounding. Prefill is bound by arithmetic, since it computes
many positions at once. Decode is bound by memory: for a single token it reads all weights.

Shapes: B texts, P positions of the prompt, k new tokens, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kit.core.errors import NotSupported, UnknownName
from kit.devices import backend_of, compiling, lacks_compiler
from kit.inference.prediction import device_of
from kit.models.kv_cache import StaticCache

STEPS = ("auto", "plain", "graph", "compiled")
CAPACITY_STEP = 128  # positions; a static cache has a multiple of this, so few sizes are compiled


class Uncached:
    """Computes the complete text again for each token: the slow and obvious way.

    Token n costs n positions of work, so a text costs the square of its length.
    """

    def __init__(self, model: Any, left_padding: Tensor | None):
        self.model, self.left_padding = model, left_padding

    def prefill(self, prompts: Tensor) -> Tensor:
        """Logits (B, 1, V) of the token that follows the prompts (B, P)."""
        self.text = prompts
        return self._logits(last=1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Logits (B, k, V) of the tokens that follow each of these (B, k)."""
        # (B, P + n). The copy of the text is cheap; to compute all of it again is not.
        self.text = torch.cat([self.text, tokens], 1)
        return self._logits(last=tokens.shape[1])

    def _logits(self, last: int) -> Tensor:
        if self.left_padding is None:
            return self.model(self.text, last=last)
        # A cache for this one call: its mask hides the padding before shorter texts.
        cache = self.model.cache(*self.text.shape, self.left_padding)
        return self.model(self.text, cache, last=last)

    def roll_back(self, n: int) -> None:
        """Forget the last n ≥ 1 tokens, which were rejected."""
        # n = 0 would forget everything, since [:, :-0] is [:, :0].
        self.text = self.text[:, :-n]


class Cached:
    """Computes each position once; its keys and values stay in a cache.

    Attention needs the keys and values of all earlier positions, and these never change. So a
    further token costs one position of work, and the cache costs memory that grows with the text
    (Pope et al., "Efficiently Scaling Transformer Inference", 2022).
    """

    def __init__(
        self, model: Any, texts: int, capacity: int, left_padding: Tensor | None, chunk: int
    ):
        self.model, self.chunk = model, chunk
        # Memory for the longest text at once: a cache that grows would be copied for each token.
        self.cache = model.cache(texts, capacity, left_padding)

    def prefill(self, prompts: Tensor) -> Tensor:
        """Logits (B, 1, V) of the token that follows the prompts (B, P).

        A long prompt is computed in chunks, so that the activations of a layer stay small.
        """
        # Only the last position's logits are needed: the head is the largest matmul of the model.
        for part in prompts.split(self.chunk, 1):
            # In order: each chunk attends to the earlier ones through the cache.
            logits = self.model(part, self.cache, last=1)
        return logits

    def decode(self, tokens: Tensor) -> Tensor:
        """Logits (B, k, V) of the tokens that follow each of these (B, k)."""
        return self.model(tokens, self.cache, last=tokens.shape[1])

    def roll_back(self, n: int) -> None:
        """Forget the last n ≥ 1 tokens, which were rejected."""
        # Nothing is erased: the next tokens overwrite what lies behind the new length.
        self.cache.truncate(self.cache.length - n)


class Captured(Cached):
    """Decodes single tokens by a step that never changes: the same shapes and addresses each time.

    A decode step consists of about a hundred small operations, which Python starts one by one. A
    GPU computes each in less time than it takes to start. So the step is compiled, which makes few
    operations of many, or captured as a CUDA graph, which starts all of them at once, or both.
    """

    def __init__(
        self,
        model: Any,
        texts: int,
        capacity: int,
        left_padding: Tensor | None,
        chunk: int,
        compile: bool,
    ):
        # Rounded up, so that texts of similar length share one compiled step. The context is the
        # limit, since the model has no embeddings for later positions.
        rounded = -(-capacity // CAPACITY_STEP) * CAPACITY_STEP
        super().__init__(model, texts, min(rounded, model.config.context), left_padding, chunk)
        self.step = _compiled_for(model) if compile else _decode_step
        self.static: StaticCache | None = None  # made before the first decode step
        self.graph: Any = None  # on devices that can capture one

    def decode(self, tokens: Tensor) -> Tensor:
        """As in `Cached`; the next call may overwrite the logits that it returns."""
        if tokens.shape[1] > 1:  # drafted tokens: another shape, so not the captured step
            logits = super().decode(tokens)
            self._update_position()
            return logits
        if self.static is None:
            # Only now, after prefill, does the cache know the position at which decode begins. The
            # static cache shares its memory. `clone` gives the input an address that nobody else
            # reuses.
            self.token, self.static = tokens.clone(), self.cache.static()
            backend, static = backend_of(tokens.device), self.static
            if backend.captures_graphs:
                self.graph, self.logits = backend.capture(
                    lambda: self.step(self.model, self.token, static),
                    self._update_position,  # back: the capacity may allow one more token only
                )
        self.token.copy_(tokens)  # a graph reads its input where it lay at the capture
        if self.graph is None:
            self.logits = self.step(self.model, self.token, self.static)
        else:
            # One launch for the complete step: Python starts none of its operations.
            self.graph.replay()
        self.cache.advance(1)  # the static cache counts its own position, on the device
        return self.logits

    def roll_back(self, n: int) -> None:
        """Forget the last n ≥ 1 tokens, which were rejected."""
        super().roll_back(n)
        self._update_position()

    def _update_position(self) -> None:
        """Tell the static cache where the next token goes, after something else has moved it."""
        if self.static is not None:
            self.static.position.fill_(self.cache.length)


def one_pass(model: Any, tokens: int, before: int = 0, texts: int = 1) -> Callable[[], Tensor]:
    """A call, to be timed, that reads some tokens of each text after `before` tokens in a cache.

    Each call does the same work. Prefill is `one_pass(model, n)`, a decode step is
    `one_pass(model, 1, n)`.

    >>> from kit.models import GPT
    >>> one_pass(GPT(), tokens=1, before=100, texts=3)().shape
    torch.Size([3, 1, 103])
    """
    cache = model.cache(texts, before + tokens)
    ids = torch.zeros(texts, tokens, dtype=torch.int64, device=device_of(model))

    @torch.inference_mode()
    def call() -> Tensor:
        cache.length = before  # as if these had been read: their values change no time
        return model(ids, cache, last=1)

    return call


Decoder = Uncached | Cached


def decoder_for(
    model: nn.Module,
    texts: int,
    capacity: int,
    left_padding: Tensor | None,
    *,
    cache: bool,
    chunk: int,
    step: str,
) -> Decoder:
    """The decoder without a cache, or the one with this kind of decode step."""
    if not cache:
        return Uncached(model, left_padding)
    if step == "plain":
        return Cached(model, texts, capacity, left_padding, chunk)
    return Captured(model, texts, capacity, left_padding, chunk, compile=step == "compiled")


def _decode_step(model: Any, token: Tensor, cache: StaticCache) -> Tensor:
    return model(token, cache, last=1)


def _compiled_for(model: nn.Module) -> Any:
    """The decode step, compiled once for each model."""
    if model not in _COMPILED:
        # One program per shape is the fastest; `CAPACITY_STEP` keeps the shapes few.
        _COMPILED[model] = torch.compile(_decode_step, dynamic=False, **compiling())
    return _COMPILED[model]


# Weak keys: a model that nobody uses any more takes its compiled step with it.
_COMPILED: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def step_for(step: str, device: torch.device) -> str:
    """The kind of decode step on that device: one of `STEPS`, but not "auto".

    Raises
    ------
    UnknownName
        The kind is unknown.
    NotSupported
        The device does not support it: why, and what it supports.
    """
    if step not in STEPS:
        raise UnknownName("step", step, STEPS)
    # "auto" never compiles: a short text would wait longer for the compiler than for its tokens.
    if step == "auto":
        return "graph" if backend_of(device).captures_graphs else "plain"
    reason = lacks_compiler(device) if step == "compiled" else ""
    if step == "graph" and not backend_of(device).captures_graphs:
        reason = "CUDA graphs are for CUDA"
    if reason:
        raise NotSupported(f"step={step!r} on {device}: {reason}. Use step='auto'.", reason)
    return step
