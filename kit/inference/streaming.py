"""What a model writes after a prompt, as it comes.

Shapes: B texts, P places of the longest prompt, k tokens that come together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.checks import check_whole, is_whole
from kit.core.errors import BadValue, UnknownName
from kit.inference.decoding import reader_for, step_for
from kit.inference.prediction import device_of, evaluating, explain
from kit.inference.sampling import Sampler
from kit.inference.speculative import Draft, NGrams
from kit.models.checks import check_context, check_generates

NOTHING = -1  # in place of a token: this text has ended
DRAFTS = {"n-grams": NGrams}
Tokens = Sequence[int] | Tensor


def stream(
    model: nn.Module,
    prompts: Sequence[Tokens] | Tensor,
    *,
    max_new_tokens: int,
    cache: bool = True,
    chunk: int = 512,
    step: str = "auto",
    draft: str | Draft | None = None,
    drafted: int = 8,
    stop: Tokens | None = None,
    **sampling: Any,
) -> Generator[Tensor, None, None]:
    """The tokens that follow the prompts, as they come: (B, k) int64 on the CPU each time.

    k is 1, or with a draft how many were confirmed at once, and one more. A text that has ended
    gets -1. Everything is checked before the first token is asked for.

    Parameters
    ----------
    model
        A GPT of the kit, or another form of one that can be called like it.
    prompts
        B texts as tokens; they may differ in length.
    max_new_tokens
        How many to write at most.
    cache
        Whether keys and values are kept. Without, each token costs reading all of the text again.
    chunk
        Tokens of a long prompt that are read at once.
    step
        How one further token is read. "plain": one operation after another. "graph": the same,
        replayed as a CUDA graph. "compiled": made into few operations first, which takes many
        seconds once and pays for a large model on a GPU (there it is replayed as well). "auto":
        a graph on CUDA, plain elsewhere.
    draft
        "n-grams", or a function of the text so far and a number to at most so many guesses. The
        model reads all guesses at once and confirms those that it would have written: the tokens
        are the same as without, and where the guesses are good they come sooner (Leviathan,
        Kalman & Matias, "Fast Inference from Transformers via Speculative Decoding", 2023). For a
        single text.
    drafted
        How many guesses to ask for.
    stop
        Tokens in a row after which a text ends.
    sampling
        Of `Sampler`: `temperature` (0: the likeliest), `top_k`, `top_p`, `seed`.

    Raises
    ------
    NotSupported
        A step that the device does not allow.
    BadValue
        A prompt that is empty or has a token that the model does not know; prompt and new tokens
        longer than the context (all three numbers); weights that give NaN.

    Explained in lesson 10.
    """
    check_generates(model)
    rows = [_row(prompt, model) for prompt in prompts]
    if not rows:
        raise BadValue("given no prompt: needs at least one.")
    sizes = {"max_new_tokens": max_new_tokens, "chunk": chunk, "drafted": drafted}
    for name, value in sizes.items():
        check_whole(name, value)
    config: Any = model.config
    check_context(max(map(len, rows)), max_new_tokens, config.context)
    if draft is not None and len(rows) > 1:
        raise BadValue(f"draft with {len(rows)} texts: guesses are confirmed for a single text.")
    if isinstance(draft, str):
        if draft not in DRAFTS:
            raise UnknownName("draft", draft, DRAFTS)
        draft = DRAFTS[draft]()
    ending = None if stop is None else _row(stop, model, "stop")
    limits = (max_new_tokens, drafted, ending)
    reading = {"cache": cache, "chunk": chunk, "step": step_for(step, device_of(model))}
    return _written(model, rows, limits, reading, draft, Sampler(**sampling))


def _written(
    model: nn.Module,
    rows: list[list[int]],
    limits: tuple[int, int, list[int] | None],
    reading: dict[str, Any],
    draft: Draft | None,
    sampler: Sampler,
) -> Generator[Tensor, None, None]:
    """Read what is new, draw what comes next, and so on: the loop itself."""
    most, drafted, ending = limits
    fresh, padding = _flush_right(rows, device_of(model))  # (B, P)
    reader = reader_for(model, len(rows), fresh.shape[1] + most, padding, **reading)
    guesses: list[int] = []
    written, going = 0, [True] * len(rows)
    with evaluating(model):
        while written < most and any(going):
            unsure = torch.tensor([guesses], dtype=torch.long, device=fresh.device)  # (1, k - 1)
            asked = torch.cat([fresh, unsure], 1) if guesses else fresh
            with torch.no_grad():  # see `predict`: what the model keeps can be trained with
                try:
                    logits = reader.read(asked, last=1 + len(guesses))  # (B, k, V)
                except RuntimeError as error:
                    explain(error, model, asked)
                    raise
                if not written and logits.isnan().any():
                    raise BadValue(f"the model answers with NaN: {_spoilt(model)}. Train it anew.")
                drawn = sampler(logits, written)  # (B, k)
                told = drawn.cpu()  # here a GPU is waited for: somebody reads what it writes
                right = _agreeing(guesses, told)
                reader.forget(len(guesses) - right)
            told = told[:, : right + 1].clone()
            fresh = drawn[:, right : right + 1]
            told = _ended(told, rows, going, ending)
            written += told.shape[1]
            yield told
            room = min(drafted, most - written - 1)  # the model itself adds one
            guesses = list(draft(rows[0], room))[:room] if draft and room > 0 else []


def _agreeing(guesses: list[int], told: Tensor) -> int:
    """How many of the guesses, from the first on, are what the model itself would have written."""
    pairs = zip(guesses, told[0].tolist(), strict=False)
    return next((i for i, (guess, own) in enumerate(pairs) if guess != own), len(guesses))


def _ended(
    told: Tensor, rows: list[list[int]], going: list[bool], ending: list[int] | None
) -> Tensor:
    """Add the new tokens to their texts, up to where each ends; those of ended ones are nothing."""
    for i, row in enumerate(rows):
        for k, token in enumerate(told[i].tolist()):
            if not going[i]:
                told[i, k] = NOTHING
                continue
            row.append(token)
            going[i] = ending is None or row[-len(ending) :] != ending
    used = (told != NOTHING).any(0).sum()
    return told[:, : max(1, int(used))]


def _flush_right(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The prompts as one tensor (B, P) that ends with each prompt's end, and the padding (B,)."""
    longest = max(map(len, rows))
    missing = [longest - len(row) for row in rows]
    tokens = [[0] * gap + row for gap, row in zip(missing, rows, strict=True)]
    padding = torch.tensor(missing, device=device) if any(missing) else None
    return torch.tensor(tokens, device=device), padding


def _row(tokens: Tokens, model: nn.Module, what: str = "prompt") -> list[int]:
    """The tokens as a list of numbers that the model knows."""
    row = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
    if not row:
        raise BadValue(f"given an empty {what}: needs at least one token.")
    config: Any = model.config
    words = config.vocab_size
    strange = [token for token in row if not is_whole(token) or not 0 <= token < words]
    if strange:
        raise BadValue(f"token {strange[0]!r} in a {what}: the model knows 0 to {words - 1:,}.")
    return row


def _spoilt(model: nn.Module) -> str:
    """Which weights are no numbers."""
    names = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    return f"{names[0]!r} holds NaN or ∞" if names else "its weights are numbers, its answers not"
