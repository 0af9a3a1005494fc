"""Speech synthesis: any text as a waveform, by espeak-ng, without a sound card.

The package `espeakng_loader` (the extra `speech`) contains the C library and its voices. Python
calls it through ctypes.

Shapes: S samples.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import BadValue, NotInstalled, UnknownName

RATE_HZ = 22_050  # samples per second, the same for every voice
PACE = (80, 450)  # words per minute that the engine supports
PITCH = (0, 100)
LONGEST_PATH = 159  # bytes: the engine's buffer for the path of its voices

# Constants from espeak-ng's header `speak_lib.h`, and the type of its callback.
SYNCHRONOUS, DO_NOT_EXIT = 2, 0x8000
AS_CHARACTERS, UTF_8 = 1, 1
SET_PACE, SET_PITCH = 1, 3
Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p
)

_one_at_a_time = Lock()  # the C library keeps its state in global variables


def say(text: str, voice: str = "en-us", *, words_per_minute: int = 175, pitch: int = 50) -> Tensor:
    """The text, spoken: (S,) float32 from −1 to 1 at `RATE_HZ` samples per second.

    The same text twice gives slightly different sounds, because the engine varies a voice over
    time and continues from its last state. A fresh process repeats the same sequence.

    Parameters
    ----------
    voice
        An accent of `accents()`, or an accent and a speaker of `speakers()`: "en-gb-scotland+f1".
    words_per_minute
        From 80 to 450; 175 is the engine's default.
    pitch
        From 0 (low) to 100 (high); 50 is the speaker's own.

    Raises
    ------
    NotInstalled
        The engine is in the extra `speech`.
    UnknownName
        The voice does not exist. The message lists similar names.
    BadValue
        A pace or pitch is out of range, or the text has nothing to say.
    """
    check_whole("words_per_minute", words_per_minute, *PACE)
    check_whole("pitch", pitch, *PITCH)
    accent, _, speaker = voice.partition("+")
    if accent not in accents():
        raise UnknownName("accent", accent, accents())
    if speaker and speaker not in speakers():  # the engine would silently use its default
        raise UnknownName("speaker", speaker, speakers())
    # In a thread of its own: Ctrl-C interrupts only the main thread. If it arrived during the C
    # library's callback, it would be lost.
    with ThreadPoolExecutor(1) as aside:
        samples = aside.submit(_speak, text, voice, words_per_minute, pitch).result()
    if not samples.any():
        raise BadValue(
            f"text={text!r}: there is nothing in it to say. Give a text with words or digits."
        )
    return samples


@cache
def accents() -> tuple[str, ...]:
    """The languages and accents of the engine: "en-us", "en-gb-scotland", "de" …"""
    files = (path for path in (_voices() / "lang").rglob("*") if path.is_file())
    return tuple(sorted(path.name.lower() for path in files))


@cache
def speakers() -> tuple[str, ...]:
    """The speakers: variants of the voice with their own pitch, throat and breath."""
    return tuple(sorted(path.name for path in (_voices() / "voices" / "!v").iterdir()))


def _voices() -> Path:
    """The folder of the engine's data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise NotInstalled("the speech synthesiser", ["espeakng_loader"], "speech") from error
    return Path(espeakng_loader.get_data_path())


class _Engine:
    """The C library, initialised. This can happen only once in a process: see `_engine`."""

    def __init__(self) -> None:
        path = os.fsencode(_voices())
        from espeakng_loader import get_library_path

        self.library = ctypes.CDLL(get_library_path())
        self.library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        )
        self.spoken: list[bytes] = []
        self.callback = Callback(self._receive)  # a reference for as long as C may call it
        # Without DO_NOT_EXIT, a failure here would end the process.
        if self.library.espeak_Initialize(SYNCHRONOUS, 0, path, DO_NOT_EXIT) != RATE_HZ:
            raise BadValue(
                f"espeak-ng cannot read its voices in {os.fsdecode(path)!r}, a path of "
                f"{len(path)} bytes; it needs a path of at most {LONGEST_PATH}. Install the kit in "
                "a folder with a shorter path."
            )
        self.library.espeak_SetSynthCallback(self.callback)
        # Breath is noise: make it reproducible.
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(0))

    def _receive(self, samples: ctypes._Pointer[ctypes.c_int16], n: int, _events: int) -> int:
        """Take the next n samples from the engine."""
        if samples:
            self.spoken.append(ctypes.string_at(samples, n * ctypes.sizeof(ctypes.c_int16)))
        return 0  # go on

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> Tensor:
        """The text as a waveform (S,)."""
        self.spoken.clear()
        self.library.espeak_SetVoiceByName(voice.encode())
        self.library.espeak_SetParameter(SET_PACE, words_per_minute, 0)
        self.library.espeak_SetParameter(SET_PITCH, pitch, 0)
        written = text.encode() + b"\0"
        self.library.espeak_Synth(written, len(written), 0, AS_CHARACTERS, 0, UTF_8, None, None)
        self.library.espeak_Synchronize()
        samples = torch.frombuffer(bytearray(b"".join(self.spoken)), dtype=torch.int16)
        return samples.float().div(1 << 15)


def _speak(text: str, voice: str, words_per_minute: int, pitch: int) -> Tensor:
    with _one_at_a_time:  # not in `say`: after Ctrl-C, the engine may still be speaking
        return _engine().speak(text, voice, words_per_minute, pitch)


@cache
def _engine() -> _Engine:
    return _Engine()
