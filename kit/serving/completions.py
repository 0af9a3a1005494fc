"""OpenAI's completions protocol (stub: the signatures stand)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.serving.admission import Admission
from kit.serving.continuous_batching import GenerationEngine
from kit.serving.refusals import RequestRefused
from kit.serving.vocabulary import Vocabulary

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.routing import Route


def completion_routes(
    engine: GenerationEngine,
    vocabulary: Vocabulary | None,
    name: str,
    admission: Admission,
) -> list[Route]:
    """Routes of `/v1/models`, `/v1/models/{model}` and `/v1/completions`.

    Without a vocabulary, prompts are lists of tokens, and texts are the tokens' numbers.
    """
    raise NotImplementedError


def openai_error(refused: RequestRefused) -> JSONResponse:
    """The reply `{"error": {"message", "type", "param", "code"}}`, for everything under /v1."""
    raise NotImplementedError
