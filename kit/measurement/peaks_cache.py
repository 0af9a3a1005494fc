"""Peaks that were measured on this machine before: one small file each, in the user's cache."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import torch

from kit.core.files import atomic_write, cache_folder, contents
from kit.measurement.roofline import Peaks

METHOD = 3  # how they are found; what was found in another way is not read


def kept(processor: str, device: torch.device) -> Peaks | None:
    """The peaks kept for this processor, device, threads and PyTorch; None if there are none."""
    path = _path(processor, str(device), torch.get_num_threads(), torch.__version__)
    # Not there, damaged, or by another version of the kit:
    with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        raw = json.loads(contents(path))
        raw["shapes"] = {name: tuple(shape) for name, shape in raw["shapes"].items()}
        raw["budget_s"] = float(raw["budget_s"])
        return Peaks(**{**raw, "doubts": tuple(raw["doubts"])})
    return None


def keep(peaks: Peaks) -> None:
    """Write the peaks down, whole or not at all; where nothing can be written, nothing is kept."""
    path = _path(peaks.processor, peaks.device, peaks.threads, peaks.torch)
    with suppress(OSError), atomic_write(path) as draft:
        draft.write_text(json.dumps(peaks.to_dict()), encoding="utf-8")


def _path(processor: str, device: str, threads: int, version: str) -> Path:
    name = re.sub(
        r"[^A-Za-z0-9.]+", "-", f"{processor} {device} {threads} torch {version} {METHOD}"
    )
    return cache_folder() / "peaks" / f"{name}.json"
