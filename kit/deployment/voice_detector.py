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

from kit.core.checks import check_positive
from kit.core.errors import BadValue, NotInstalled
from kit.deployment.sessions import OPENERS
from kit.inference import Runtime

RATE_HZ = 16_000  # samples per second that the model was trained with
WINDOW, CONTEXT = 512, 64  # samples: 32 ms to decide about, and what came before them
WINDOW_S = WINDOW / RATE_HZ
# The packaged file without branches for other rates; ONNX Runtime and OpenVINO both read it.
FILE = "data/silero_vad_openvino_16k.onnx"
VOWELS_HZ = ((730, 1090, 2440), (300, 870, 2240), (530, 1840, 2480), (270, 2290, 3010))
SYLLABLE_S, WIDTH_HZ = 0.2, 90.0  # five syllables a second; the width of a resonance


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


def babble(seconds: float) -> Tensor:
    """Syllables without words, (S,) at 16 kHz: a buzz through the resonances of four vowels.

    No person has spoken it, but the detector takes most of it for a voice.

    Notes
    -----
    The resonances are the means of men in Peterson and Barney, "Control Methods Used in a Study of
    the Vowels", 1952.
    """
    n = int(SYLLABLE_S * RATE_HZ)
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(n))  # of each frequency, per sample
    time, syllables = np.arange(n) / n, []  # 0 to 1 within a syllable
    for i in range(max(1, round(check_positive("seconds", seconds) / SYLLABLE_S))):
        pitch_hz = 140 - 20 * (i % 4) + 15 * (1 - time)  # it falls within a syllable
        sound = np.diff(np.floor(np.cumsum(pitch_hz) / RATE_HZ), prepend=0.0)  # pulses
        for resonance_hz in VOWELS_HZ[i % 4]:
            r = np.exp(-np.pi * WIDTH_HZ / RATE_HZ)
            back = 1 - 2 * r * np.cos(2 * np.pi * resonance_hz / RATE_HZ) * turn + (r * turn) ** 2
            sound = np.fft.irfft(np.fft.rfft(sound) / back, n)  # a resonator of two poles
        swell = np.minimum(1, np.minimum(time / 0.15, (1 - time) / 0.3))
        syllables.append(0.3 * swell * sound / np.abs(sound).max())
    return torch.from_numpy(np.concatenate(syllables).astype(np.float32))


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
