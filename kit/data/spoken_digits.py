"""Spoken digits: a synthesiser says them, as a model hears them.

Shapes: S samples, W samples in a window, T time steps, F bands of frequencies, N examples.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import pad

from kit.core.checks import check_share
from kit.core.errors import ShapeMismatch
from kit.data.cache import kept
from kit.data.dataset import Dataset, Split
from kit.data.speech_synthesis import RATE_HZ, say, speakers

KEPT_AS = "spoken-digits-2"  # raise the number when anything below changes what is made
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us")
ALIKE = (  # speakers who sound nearly the same: one of them in training would give the others away
    ("Diogo", "michel", "miguel"),
    ("Gene", "Gene2"),
    ("Henrique", "Hugo"),
    (
        *("Reed", "adam", "benjamin", "edward", "edward2", "mike2"),
        *("klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6"),
    ),
    ("fast", "m6"),
    ("iven3", "iven4"),
    ("robosoft2", "robosoft3"),
    ("robosoft4", "robosoft5", "robosoft7"),
    ("steph", "steph2", "steph3"),
)
SEED = 0  # of who is in which split, and of how each clip is spoken
HELD_BACK = 20  # speakers of the validation split, and as many of the test split
TAKES = 3  # of each digit by each speaker: 3,120 clips by 104 speakers
PACE, PITCH = (140, 220), (30, 70)  # unhurried to hurried; words per minute, and as in `say`

# What hears nothing faster than 12 ms and little above 8 kHz understands speech all the same.
WINDOW, HOP = 512, 256  # W: 23 ms, in which a mouth hardly moves; a new one each 12 ms
BANDS, LOWEST_HZ, HIGHEST_HZ = 32, 60.0, 8_000.0  # F, and what of the spectrum they cover
RANGE_DB = 60.0  # what is softer than the loudest moment by this much counts as silence
TRIM_DB = 40.0  # and around the word even this much
SILENCE_DB = -20.0  # a clip with no moment louder than this holds no word at all
STEPS = 64  # T of an example: 0.75 s; one clip in some hundreds is longer and loses its end


def load_spoken_digits() -> Dataset:
    """3,120 clips of "zero" to "nine" in English accents, as spectra over time, labels 0 to 9.

    Inputs are (N, 64, 32) float32: loudness from 0 (silence) to 1 (the clip's loudest) over time
    and frequency, see `log_mel`, with the word at any moment of the clip. Targets are (N,) int64.
    No speaker is in two splits, so a score on `test` is about voices never heard before.

    Spoken at the first use, in some seconds, and kept in the user's cache; from then on they are
    the same bit for bit, and the engine is not needed. Spoken again, on another computer, they
    differ a little: see `say`.

    Raises
    ------
    NotInstalled
        They were never spoken here, and the engine, in the extra `speech`, is not installed.

    Notes
    -----
    espeak-ng 1.52: formants and recorded consonants, put together by rules. Clearer than people
    are, in a room without noise.
    """
    tensors = kept(KEPT_AS, _speak)
    return Dataset(
        name="spoken_digits",
        splits={
            name: Split(tensors[f"{name}.inputs"], tensors[f"{name}.targets"])
            for name in ("train", "validation", "test")
        },
        classes=WORDS,
        origin="spoken on this computer by espeak-ng, in 104 voices and six English accents",
        licence="none: nobody recorded them; the synthesiser itself is GPL-3.0-or-later",
    )


def who_speaks() -> dict[str, list[str]]:
    """Split -> its speakers; each is in one split alone, and with those who sound alike."""
    families = list(ALIKE) + [(name,) for name in speakers() if name not in chain(*ALIKE)]
    Random(SEED).shuffle(families)
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for family in families:
        room = (s for s in ("test", "validation") if len(splits[s]) + len(family) <= HELD_BACK)
        splits[next(room, "train")] += family
    return splits


def _speak() -> dict[str, Tensor]:
    """Every clip of every split; the same plan each time."""
    draw, tensors = Random(SEED), {}
    for split, names in who_speaks().items():
        plan = [(digit, name) for name in names for digit in range(len(WORDS))] * TAKES
        draw.shuffle(plan)
        clips = [_take(WORDS[digit], name, draw) for digit, name in plan]
        tensors[f"{split}.inputs"] = torch.stack(clips)
        tensors[f"{split}.targets"] = torch.tensor([digit for digit, _ in plan])
    return tensors


def _take(word: str, speaker: str, draw: Random) -> Tensor:
    """The word as an input, in an accent, at a pace, with a pitch and at a moment that are drawn.

    Were it always at the same moment, to remember the clips would be nearly as good as to learn.
    """
    voice = f"{draw.choice(ACCENTS)}+{speaker}"
    waveform = say(word, voice, words_per_minute=draw.randint(*PACE), pitch=draw.randint(*PITCH))
    return as_input(waveform, before=draw.random())


# --- From a sound to what a model reads ----------------------------------------------------------


def as_input(waveform: Tensor, before: float = 0.5) -> Tensor:
    """One word as the models read it: (S,) -> (64, 32), in silence that fills it up.

    Parameters
    ----------
    waveform
        Of one word, at `RATE_HZ`; silence around it is cut off.
    before
        Which share of the new silence comes before the word, 0 to 1; a half: as much as after it.
    """
    check_share("before", before, "a share")
    frames = log_mel(waveform)  # (T, F)
    heard = (frames.amax(1) > 1 - TRIM_DB / RANGE_DB).nonzero().flatten()
    word = frames[heard[0] : heard[-1] + 1][:STEPS] if len(heard) else frames[:0]
    front = round(before * (STEPS - len(word)))
    return pad(word, (0, 0, front, STEPS - len(word) - front))


def log_mel(waveform: Tensor) -> Tensor:
    """How loud each band of frequencies is over time: (S,) -> (T, F), from 0 to 1.

    The sound is cut into overlapping windows, each is taken apart into its frequencies, these are
    gathered in bands as wide as an ear tells tones apart, and loudness is counted in decibels, as
    ears do too: 1 is the loudest point of the clip, 0 is 60 dB below it, or softer.

    Raises
    ------
    ShapeMismatch
        No clip of one channel, or a clip shorter than one window.

    Examples
    --------
    >>> log_mel(torch.zeros(RATE_HZ)).shape  # a second of silence
    torch.Size([85, 32])
    """
    if waveform.ndim != 1 or len(waveform) < WINDOW:
        raise ShapeMismatch(
            f"given a waveform of shape {tuple(waveform.shape)}; needed is (S,), one channel at "
            f"{RATE_HZ:,} samples per second, with S of at least {WINDOW}."
        )
    fade = torch.hann_window(WINDOW)  # a window's hard edges would sound like a click
    waves = torch.stft(waveform, WINDOW, HOP, window=fade, center=False, return_complex=True)
    power = waves.abs().square().T  # (T, W/2 + 1)
    level_db = 10 * (power @ mel_filters()).clamp_min(1e-10).log10()  # (T, F)
    loudest_db = level_db.max().clamp_min(SILENCE_DB)
    return ((level_db - loudest_db) / RANGE_DB + 1).clamp_min(0)


@cache
def mel_filters() -> Tensor:
    """How much each frequency counts in each band, 0 to 1: (W/2 + 1, F).

    Triangles, equally wide to an ear: each rises from the middle of the band below to 1 in its
    own middle, and falls to the middle of the band above.
    """
    ends = mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ]))
    corners = hertz(torch.linspace(float(ends[0]), float(ends[1]), BANDS + 2))
    below, middle, above = corners[:-2], corners[1:-1], corners[2:]  # (F,) each
    frequency = torch.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1).unsqueeze(1)
    rising = (frequency - below) / (middle - below)
    falling = (above - frequency) / (above - middle)
    return torch.minimum(rising, falling).clamp_min(0)


def mel(frequency_hz: Tensor) -> Tensor:
    """How high a tone sounds to people, in mel; 1,000 Hz are 1,000 mel.

    O'Shaughnessy, "Speech Communication: Human and Machine", 1987.
    """
    return 2595 * torch.log10(1 + frequency_hz / 700)


def hertz(mels: Tensor) -> Tensor:
    """The frequency that sounds so high: the inverse of `mel`."""
    return 700 * (10 ** (mels / 2595) - 1)
