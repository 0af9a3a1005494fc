"""Why a small process failed, as an error that says what to do."""

from __future__ import annotations

import re
from typing import Any

from kit.core.errors import BadValue, CallFailed, KitError, NotSupported, ShapeMismatch
from kit.core.units import words

PHASES = {
    "start": "while Python started",
    "import": "while it imported the runtime",
    "load": "while it opened the model",
    "first": "in the first answer",
    "answers": "while it answered the inputs",
    "calls": "during the timed calls",
    "end": "after the timed calls",
}
OUT_OF_MEMORY = re.compile(
    r"MemoryError|bad_alloc|failed to map|[Cc]annot allocate|can't allocate|out of memory"
    r"|ENOMEM|can't start new thread|allocate"
)
NO_OPERATOR = re.compile(
    r"not a registered|NOT_IMPLEMENTED|[Nn]ot implemented|[Cc]ould not find an implementation"
    r"|unsupported op|[Nn]o [Oo]p(?:Set|erator)? |cannot create .* layer|OpConversionFailure"
    r"|not supported|[Nn]o conversion rule|unsupported|[Mm]issing operator"
)


def failure(found: dict[str, Any], runtime: str, memory_bytes: int | None) -> KitError | None:
    """The error that the reports of a process call for; None if it came to its end."""
    reports = found["at"]
    if "done" in reports and "error" not in reports:
        return None
    phase = next((name for name in reversed(PHASES) if name in reports), "start")
    report = reports.get("error", {})
    kind, message = report.get("kind", ""), report.get("message", "")
    said = f"{kind}: {message}" if kind else _last_line(found.get("stderr", ""))
    if not found.get("in_time", True):
        return CallFailed(
            f"{runtime} was stopped {PHASES[phase]}: it took too long. Give fewer calls, a longer "
            f"every_s, or a larger share of a core."
        )
    if kind == "inputs":
        return ShapeMismatch(
            f"the model's file does not take these inputs: {message}. Give inputs of the model "
            f"that was exported, or export the model that takes these."
        )
    died = not report and found.get("code", 0) != 0
    if memory_bytes is not None and (died or OUT_OF_MEMORY.search(said) or phase == "start"):
        return BadValue(
            f"memory_bytes={memory_bytes:,}: {runtime} ended {PHASES[phase]}, because "
            f"{words(memory_bytes, 'B')} of private memory are not enough. Raise the limit; a run "
            f"without one shows the need in `.private_bytes`."
        )
    if phase == "load" and NO_OPERATOR.search(said):
        message = f"{runtime} cannot run this model: {said[:300]}. Use another runtime, or export "
        return NotSupported(f"{message}a model without this operator.", said[:300])
    advice = "Export the model again, or try another runtime."
    return CallFailed(f"{runtime} failed {PHASES[phase]}: {said[:300]}. {advice}")


def _last_line(text: str) -> str:
    """The last line that a process wrote to stderr, or that it said nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the process ended without a word"
