"""A request for a completion: from JSON to checked values.

Names and defaults are OpenAI's, and `top_k` is vLLM's. What would change the text and is not
supported is refused. A server that ignores it would answer another question.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, NoReturn

from kit.core.checks import check_whole, is_number, is_whole
from kit.core.errors import BadValue, UnknownName
from kit.serving.refusals import RequestRefused
from kit.serving.vocabulary import Vocabulary

MAX_TOKENS = 16  # OpenAI's default
MOST_STOPS = 4
# Name -> the values that change nothing: the rest is not supported.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
}
IGNORED = {"user"}
TAKEN = {
    *("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "seed"),
    *("stop", "echo", "stream", "stream_options"),
}


@dataclass(frozen=True)
class CompletionRequest:
    """A request that was checked, but for what only the model knows: its tokens and its context."""

    model: str
    prompt: list[int]
    max_tokens: int
    stop: tuple[str, ...]
    echo: bool
    stream: bool
    include_usage: bool
    sampling: dict[str, Any]  # options of `kit.generate`


def parse(body: bytes, vocabulary: Vocabulary) -> CompletionRequest:
    """The request in a body.

    Raises
    ------
    RequestRefused
        400: it is not JSON, or a field is missing, wrong or not supported; the message names it.
    """
    given = {name: value for name, value in _json_object(body).items() if value is not None}
    _refuse_unsupported(given)
    if not isinstance(given.get("model"), str):
        raise RequestRefused(400, f"model={given.get('model')!r}: needs the model's name.")
    try:
        return CompletionRequest(
            model=given["model"],
            prompt=_prompt(given.get("prompt"), vocabulary),
            max_tokens=check_whole("max_tokens", given.get("max_tokens", MAX_TOKENS)),
            stop=_stop(given.get("stop", [])),
            echo=_flag(given, "echo"),
            stream=_flag(given, "stream"),
            include_usage=_include_usage(given),
            sampling=_sampling(given),
        )
    except BadValue as error:
        raise RequestRefused(400, str(error)) from None


def _json_object(body: bytes) -> dict[str, Any]:
    """The body as JSON, without NaN, which JSON does not have."""
    try:
        found = json.loads(body, parse_constant=_not_a_number)
    except (ValueError, RecursionError):  # malformed, not UTF-8, or nested too deep
        raise RequestRefused(400, "the body is not JSON. Send an object with a prompt.") from None
    if not isinstance(found, dict):
        raise RequestRefused(400, f"the body is a {type(found).__name__}; needs a JSON object.")
    return found


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(text)


def _refuse_unsupported(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if name in NEUTRAL:
            if value not in NEUTRAL[name] or isinstance(value, bool):
                raise RequestRefused(400, f"{name}={value!r} is not supported. Leave it out.")
        elif name not in TAKEN and name not in IGNORED:
            known = sorted({*TAKEN, *NEUTRAL, *IGNORED})
            raise RequestRefused(400, str(UnknownName("argument", name[:100], known)))


def _prompt(prompt: Any, vocabulary: Vocabulary) -> list[int]:
    """The tokens of a text, or of a list of tokens; also as the only one in a list."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        if len(prompt) > 1:
            raise BadValue(
                f"given {len(prompt)} prompts: needs one. Send a request for each, at the same "
                f"time: the server computes them together."
            )
        prompt = prompt[0]
    if isinstance(prompt, str):
        prompt = vocabulary.encode(prompt)
    if not isinstance(prompt, list) or not all(map(is_whole, prompt)):
        raise BadValue("prompt: needs a text, or a list of tokens.")
    if not prompt:
        raise BadValue("given an empty prompt: needs at least one token.")
    return prompt


def _stop(stop: Any) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop
    good = isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)
    if not good or len(texts) > MOST_STOPS:
        raise BadValue(f"stop: needs a text, or a list of at most {MOST_STOPS} texts.")
    return tuple(texts)


def _flag(given: dict[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise BadValue(f"{name}={value!r}: needs true or false.")
    return value


def _include_usage(given: dict[str, Any]) -> bool:
    options = given.get("stream_options", {})
    if not isinstance(options, dict) or (options and not given.get("stream")):
        raise BadValue("stream_options: needs an object, together with stream=true.")
    return _flag(options, "include_usage")


def _sampling(given: dict[str, Any]) -> dict[str, Any]:
    """The options of `kit.generate`, which checks them; OpenAI's default temperature is 1."""
    temperature, top_p = given.get("temperature", 1.0), given.get("top_p", 1.0)
    if not is_number(top_p) or not 0 < top_p <= 1:
        raise BadValue(f"top_p={top_p!r}: needs a probability above 0 and at most 1.")
    seed = given.get("seed")
    if seed is None:  # another text each time, as clients expect
        seed = secrets.randbits(63)
    elif not is_whole(seed) or not -(2**63) <= seed < 2**64:
        raise BadValue(f"seed={seed!r}: needs a whole number of 64 bits.")
    return {
        "temperature": temperature,
        "top_p": None if top_p == 1 else top_p,
        "top_k": given.get("top_k"),
        "seed": seed % 2**64,
    }
