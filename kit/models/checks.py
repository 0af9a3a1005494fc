"""Checks and the one-line description that all model families share."""

from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from kit.core.checks import check_whole, is_whole
from kit.core.errors import BadValue, ShapeMismatch

OTHER_DATA = "The model was made for other data; work.model() makes one that fits."


def check_sizes(config: Any) -> None:
    """Refuse a config in which a size is not a whole number of at least 1."""
    for field in (each for each in fields(config) if not isinstance(each.default, str)):
        check_whole(f"{type(config).__name__}.{field.name}", getattr(config, field.name))


def check_images(images: Tensor, config: Any) -> None:
    """Refuse images of another shape than the model was made for."""
    needed = (config.channels, config.height, config.width)
    if images.ndim != 4 or tuple(images.shape[1:]) != needed:
        sizes = ", ".join(str(size) for size in needed)
        single = images.ndim == 3
        hint = "Use images.unsqueeze(0) for a single image." if single else OTHER_DATA
        raise ShapeMismatch(
            f"given images of shape {tuple(images.shape)}; needed (B, {sizes}). {hint}"
        )


def check_generates(model: Any) -> None:
    """Refuse a model that cannot generate text, neither a GPT of the kit nor a form of one."""
    config = getattr(model, "config", None)
    sizes = (getattr(config, "vocab_size", None), getattr(config, "context", None))
    if not (all(map(is_whole, sizes)) and callable(getattr(model, "cache", None))):
        raise BadValue(
            f"{type(model).__name__} cannot generate text here. Use a GPT of the kit or a form of "
            f"one: it needs config.vocab_size, config.context and cache(), as in kit/models/gpt.py."
        )


def check_context(prompt: int, new: int, context: int) -> None:
    """Refuse a prompt and new tokens that together are longer than the model's context."""
    if prompt + new > context:
        todo = f"ask for at most {context - prompt:,}" if prompt < context else "shorten the prompt"
        raise BadValue(
            f"a prompt of {prompt:,} tokens and {new:,} new ones make {prompt + new:,}; the model "
            f"has a context of {context:,}: {todo}."
        )


def describe(model: nn.Module, *options: str) -> str:
    """One line: family, the options that matter, number of parameters."""
    sizes = ", ".join(f"{name}={getattr(model.config, name)}" for name in options)
    count = sum(p.numel() for p in model.parameters())
    return f"{type(model).__name__}({sizes}): {count:,} parameters"
