"""What every family checks and says of itself."""

from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from kit.core.checks import check_whole, is_whole
from kit.core.errors import BadValue, ShapeMismatch


def check_sizes(config: Any) -> None:
    """Refuse a config with a size that is not a whole number of at least 1."""
    for field in fields(config):
        check_whole(f"{type(config).__name__}.{field.name}", getattr(config, field.name))


def check_images(images: Tensor, config: Any) -> None:
    """Refuse images that the model was not made for."""
    needed = (config.channels, config.height, config.width)
    if images.ndim != 4 or tuple(images.shape[1:]) != needed:
        sizes = ", ".join(str(size) for size in needed)
        hint = " Use images.unsqueeze(0) for a single image." if images.ndim == 3 else ""
        raise ShapeMismatch(
            f"given images of shape {tuple(images.shape)}; needed (B, {sizes}).{hint}"
        )


def check_generates(model: Any) -> None:
    """Refuse a model that cannot write text as a GPT of the kit does, or another form of one."""
    config = getattr(model, "config", None)
    sizes = (getattr(config, "vocab_size", None), getattr(config, "context", None))
    if not (all(map(is_whole, sizes)) and callable(getattr(model, "cache", None))):
        raise BadValue(
            f"{type(model).__name__} cannot write text here: needs a GPT of the kit, or another "
            f"form of one, with config.vocab_size, config.context and cache() as kit/models/gpt.py."
        )


def check_context(prompt: int, new: int, context: int) -> None:
    """Refuse so many tokens of a prompt, and new ones, that a model cannot look back on all."""
    if prompt + new > context:
        todo = f"ask for at most {context - prompt:,}" if prompt < context else "shorten the prompt"
        raise BadValue(
            f"a prompt of {prompt:,} tokens and {new:,} new ones are {prompt + new:,}; the model "
            f"looks back on {context:,}: {todo}."
        )


def describe(model: nn.Module, *options: str) -> str:
    """One line: family, the options that matter, number of parameters."""
    told = ", ".join(f"{name}={getattr(model.config, name)}" for name in options)
    count = sum(p.numel() for p in model.parameters())
    return f"{type(model).__name__}({told}): {count:,} parameters"
