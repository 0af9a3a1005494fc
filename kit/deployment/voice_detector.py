"""silero-vad: a model that is shipped in products. Does somebody speak in these 32 ms of sound?

The file comes from the Python package `silero-vad` (MIT licence, the Silero Team), and is read
without importing that package, which would import PyTorch.

Shapes: S samples, N windows.
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kit.core.errors import BadValue, NotInstalled
from kit.deployment.sessions import OPENERS
from kit.inference import Runtime

RATE_HZ = 16_000  # samples per second that the model was trained with
WINDOW, CONTEXT = 512, 64  # samples: 32 ms to decide about, and what came before them
WINDOW_S = WINDOW / RATE_HZ
# The packaged file without branches for other rates; ONNX Runtime and OpenVINO both read it.
FILE = "data/silero_vad_openvino_16k.onnx"


class VoiceDetector(Runtime):
    """The probability that somebody speaks, window after window; it remembers earlier windows.

    `kit.predict(detector, windows)` takes (N, 576) and returns (N, 1). Each call of it begins with
    an empty memory. `kit.edge(detector, windows)` runs the same file in a small process.
    """

    def __init__(self, data: bytes, version: str):
        super().__init__()
        self.data, self.runtime, self.home = data, "onnxruntime", torch.device("cpu")
        self.version = version
        self.session = OPENERS["onnxruntime"](data, 1)
        self.answer = self._probabilities  # for `kit.predict`
        self.eval()

    def _probabilities(self, windows: Tensor) -> Tensor:
        if windows.ndim != 2 or windows.shape[1] != CONTEXT + WINDOW:
            raise BadValue(
                f"windows of shape {tuple(windows.shape)}: needs (N, {CONTEXT + WINDOW}). Make "
                f"them from a sound with detector.windows(sound, rate_hz)."
            )
        states, found = self.session.states(), []
        for window in windows.numpy().astype(np.float32):
            probability, *states = self.session.run(window[None], *states)
            found.append(probability)
        return torch.from_numpy(np.concatenate(found)) if found else torch.zeros(0, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """(N, 576) windows -> (N, 1) probabilities."""
        return self._probabilities(windows)

    def windows(self, sound: Tensor, rate_hz: int = RATE_HZ) -> Tensor:
        """The windows (N, 576) of a sound (S,): 512 samples each, after 64 that came before.

        A sound of another rate is resampled to 16 kHz. A rest that fills no window is left out.
        """
        if rate_hz != RATE_HZ:
            from scipy.signal import resample_poly

            sound = torch.from_numpy(resample_poly(sound.numpy(), RATE_HZ, rate_hz))
        if sound.ndim != 1 or len(sound) < WINDOW:
            raise BadValue(
                f"a sound of shape {tuple(sound.shape)} at {rate_hz} Hz: needs (S,) samples, at "
                f"least {WINDOW_S * 1000:.0f} ms of them."
            )
        before = torch.cat([sound.new_zeros(CONTEXT), sound]).float()
        return before.unfold(0, CONTEXT + WINDOW, WINDOW).contiguous()

    def __repr__(self) -> str:
        return f"silero-vad {self.version}: {len(self.data):,} bytes for ONNX Runtime"


def load_voice_detector() -> VoiceDetector:
    """silero-vad from its installed package, with one thread.

    Raises
    ------
    NotInstalled
        The package, in the extra `edge`, is not installed.

    Explained in lesson 12.
    """
    there = find_spec("silero_vad"), find_spec("onnxruntime")
    if not all(there):
        names = ("silero_vad", "onnxruntime")
        missing = [name for name, spec in zip(names, there, strict=True) if spec is None]
        raise NotInstalled("the voice detector", missing, "edge")
    assert there[0] is not None and there[0].submodule_search_locations
    path = Path(there[0].submodule_search_locations[0]) / FILE
    if not path.is_file():
        raise NotInstalled(f"the voice detector, in this version of silero-vad, {FILE}", [], "edge")
    return VoiceDetector(path.read_bytes(), metadata.version("silero-vad"))
