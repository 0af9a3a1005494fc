"""What a model writes after a prompt, token by token: prefill, then one decode step after another.

Shapes: B texts, P positions of the longest prompt, k tokens that come together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.checks import check_whole, is_whole
from kit.core.errors import BadValue, UnknownName
from kit.inference.prediction import device_of, evaluating, explain
from kit.inference.prefill_decode import decoder_for, step_for
from kit.inference.sampling import Sampler
from kit.inference.speculative import Draft, NGrams, accepted_tokens
from kit.models.checks import check_context, check_generates

NOTHING = -1  # in place of a token: this text has ended, others go on
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

    k is 1; with a draft it is the number of accepted tokens, plus one of the model's own. A text
    that has ended gets -1. All arguments are checked before you ask for the first token.

    Parameters
    ----------
    model
        A GPT of the kit, or another form of one that can be called like it.
    prompts
        B texts as tokens; their lengths may differ.
    max_new_tokens
        The greatest number of tokens to write.
    cache
        Cache keys and values. Without the cache, each token computes the complete text again.
    chunk
        The number of positions of a long prompt that prefill computes at once.
    step
        How a single token is decoded. "plain": one operation after another. "graph": replayed as
        a CUDA graph. "compiled": compiled first, which takes many seconds once and is worth it for
        a large model on a GPU (where it is replayed as a graph, too). "auto": a graph on CUDA,
        plain on other devices.
    draft
        "n-grams", or a function that takes the text so far and a number, and returns at most this
        number of guesses. The model checks all of them in one pass and accepts those that it would
        have written. The text is the same as without; with good guesses it comes sooner (see
        `kit.inference.speculative`). For a single text.
    drafted
        The number of guesses to ask for.
    stop
        Tokens in a row after which a text ends.
    sampling
        Options of `Sampler`: `temperature` (0: the likeliest), `top_k`, `top_p`, `seed`.

    Raises
    ------
    NotSupported
        The device does not support this kind of step.
    BadValue
        A prompt is empty, or has a token that the model does not know; prompt and new tokens are
        longer than the context (all three numbers); the logits are NaN.

    Examples
    --------
    >>> import kit
    >>> model = kit.workloads.language().model()
    >>> [tuple(tokens.shape) for tokens in kit.stream(model, [[1, 2], [3]], max_new_tokens=3)]
    [(2, 1), (2, 1), (2, 1)]

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
        raise BadValue(
            f"draft with {len(rows)} texts: drafts work for a single text, since each text would "
            f"accept another number of tokens. Give one prompt, or no draft."
        )
    if isinstance(draft, str):
        if draft not in DRAFTS:
            raise UnknownName("draft", draft, DRAFTS)
        # A new object for each call, since it remembers the text that it has read.
        draft = DRAFTS[draft]()
    ending = None if stop is None else _row(stop, model, "stop")
    limits = (max_new_tokens, drafted, ending)
    decoding = {"cache": cache, "chunk": chunk, "step": step_for(step, device_of(model))}
    return _written(model, rows, limits, decoding, draft, Sampler(**sampling))


def _written(
    model: nn.Module,
    rows: list[list[int]],
    limits: tuple[int, int, list[int] | None],
    decoding: dict[str, Any],
    draft: Draft | None,
    sampler: Sampler,
) -> Generator[Tensor, None, None]:
    """The loop: compute logits, draw tokens, hand them out, go on from the last one."""
    most, at_once, ending = limits
    tokens, left_padding = _pad_left(rows, device_of(model))  # (B, P)
    # Enough for drafts, too: `room` below never asks for tokens beyond `most`.
    capacity = tokens.shape[1] + most
    decoder = decoder_for(model, len(rows), capacity, left_padding, **decoding)
    drafted: list[int] = []
    written, going = 0, [True] * len(rows)
    # Around the `yield`: between two tokens, the caller finds the model in evaluation mode.
    with evaluating(model):
        while written < most and any(going):
            # Not around the `yield`: the caller's own code must keep its gradients. And not
            # inference mode: tensors that a model keeps then could not be trained with.
            with torch.no_grad():
                if written == 0:
                    logits = _explained(decoder.prefill, tokens, model)  # (B, 1, V)
                    # Once, not at each token: the question makes Python wait for the device.
                    _check_not_nan(logits, model)
                else:
                    logits = _explained(decoder.decode, tokens, model)  # (B, k, V)
                drawn = sampler(logits, written)  # (B, k)
                own = drawn.tolist()  # waits for a GPU: from here on somebody can read the tokens
                accepted = accepted_tokens(drafted, own[0])
                if accepted < len(drafted):
                    # Else later tokens would attend to keys and values of a text that nobody wrote.
                    decoder.roll_back(len(drafted) - accepted)
                # The token after the last accepted one is the model's own: at least one per pass.
                # `drawn` is still on the device: the next pass needs no copy from the CPU.
                tokens = drawn[:, accepted : accepted + 1]
            new = _ended([each[: accepted + 1] for each in own], rows, going, ending)
            written += len(new[0])
            yield torch.tensor(new)
            room = min(at_once, most - written - 1)  # the model adds one of its own
            # Cut, since a caller's own draft may return more guesses than it was asked for.
            drafted = list(draft(rows[0], room))[:room] if draft and room > 0 else []
            if drafted:
                guesses = torch.tensor(
                    [drafted], dtype=torch.long, device=tokens.device
                )  # (1, k - 1)
                tokens = torch.cat([tokens, guesses], 1)


def _explained(compute: Callable[[Tensor], Tensor], tokens: Tensor, model: nn.Module) -> Tensor:
    """What it computes; an error of the device says what to do."""
    try:
        return compute(tokens)
    except RuntimeError as error:
        explain(error, model, tokens)
        raise


def _check_not_nan(logits: Tensor, model: nn.Module) -> None:
    """Refuse logits of NaN, with the weights to blame."""
    if logits.isnan().any():
        names = [name for name, p in model.named_parameters() if not p.isfinite().all()]
        cause = "its weights are finite, but numbers overflowed on the way. Use float32."
        if names:
            cause = f"{names[0]!r} holds NaN or ∞. Load an earlier checkpoint or train it again."
        raise BadValue(f"the model's logits are NaN: {cause}")


def _ended(
    new: list[list[int]], rows: list[list[int]], going: list[bool], ending: list[int] | None
) -> list[list[int]]:
    """Add the new tokens (B, k) to their texts, up to where each text ends; -1 after that."""
    added = [0] * len(rows)
    for i, row in enumerate(rows):
        for token in new[i]:
            if going[i]:
                row.append(token)
                added[i] += 1
                going[i] = ending is None or row[-len(ending) :] != ending
    # Columns in which no text got a token are cut off; one stays, so that (B, 0) never occurs.
    width = max(1, *added)
    return [each[:n] + [NOTHING] * (width - n) for each, n in zip(new, added, strict=True)]


def _pad_left(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The prompts as one tensor (B, P), shorter ones padded on the left; the padding (B,).

    On the left, because the next token of all texts is then at the same position.
    """
    longest = max(map(len, rows))
    missing = [longest - len(row) for row in rows]
    # 0 is an ordinary token as well: the mask of the cache hides the padding, not its number.
    tokens = [[0] * gap + row for gap, row in zip(missing, rows, strict=True)]
    left_padding = torch.tensor(missing, device=device) if any(missing) else None
    return torch.tensor(tokens, device=device), left_padding


def _row(tokens: Tokens, model: nn.Module, what: str = "prompt") -> list[int]:
    """The tokens as a list of numbers that the model knows."""
    row = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
    if not row:
        raise BadValue(f"given an empty {what}: needs at least one token.")
    config: Any = model.config
    words = config.vocab_size
    # Checked here, because on a GPU an index outside the embedding breaks the device for the
    # complete process.
    unknown = [token for token in row if not is_whole(token) or not 0 <= token < words]
    if unknown:
        raise BadValue(f"token {unknown[0]!r} in a {what}: the model knows 0 to {words - 1:,}.")
    return row
