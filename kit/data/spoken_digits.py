"""Spoken digits: a synthesiser says them, and a spectrogram turns them into inputs.

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
from kit.data.cache import cached
from kit.data.dataset import Dataset, Split
from kit.data.speech_synthesis import RATE_HZ, say, speakers

CACHE_NAME = "spoken-digits-2"  # raise the number when anything below changes what is made
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us")
# Speakers who sound nearly the same: they must be in the same split.
SIMILAR_SPEAKERS = (
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
SEED = 0  # of the split of speakers, and of how each clip is spoken
HELD_OUT = 20  # speakers in each of validation and test
TAKES = 3  # of each digit by each speaker: 3,120 clips by 104 speakers
PACE, PITCH = (140, 220), (30, 70)  # slow to fast in words per minute; low to high as in `say`

# Speech stays intelligible with time steps of 12 ms and frequencies up to 8 kHz.
WINDOW, HOP = 512, 256  # W: 23 ms, in which a mouth hardly moves; one window every 12 ms
BANDS, LOWEST_HZ, HIGHEST_HZ = 32, 60.0, 8_000.0  # F, and the part of the spectrum
RANGE_DB = 60.0  # below the loudest moment; anything softer counts as silence
TRIM_DB = 40.0  # the same limit for trimming the silence around a word
SILENCE_DB = -20.0  # a clip that is nowhere louder than this has no word
STEPS = 64  # T of an example: 0.75 s; one clip in several hundred is longer and is cut


def load_spoken_digits() -> Dataset:
    """3,120 clips of "zero" to "nine" in English accents, as spectrograms, labels 0 to 9.

    Inputs are (N, 64, 32) float32: loudness from 0 (silence) to 1 (the clip's loudest point) over
    time and frequency, see `log_mel`. The word starts at a random time. Targets are (N,) int64.
    No speaker is in two splits, so a score on `test` is about voices that training never heard.

    The first use synthesises the clips, which takes some seconds, and saves them in the user's
    cache. Later uses read the same bits and do not need the synthesiser. On another computer, the
    clips differ a little: see `say`.

    Raises
    ------
    NotInstalled
        The cache is empty, and the synthesiser, in the extra `speech`, is not installed.

    Notes
    -----
    espeak-ng 1.52 combines formants and recorded consonants by rules. It speaks more clearly than
    people do, and without noise.
    """
    tensors = cached(CACHE_NAME, _speak)
    return Dataset(
        name="spoken_digits",
        splits={
            name: Split(tensors[f"{name}.inputs"], tensors[f"{name}.targets"])
            for name in ("train", "validation", "test")
        },
        classes=WORDS,
        origin="spoken on this computer by espeak-ng, in 104 voices and six English accents",
        licence="none: synthesised; the synthesiser itself is GPL-3.0-or-later",
    )


def split_speakers() -> dict[str, list[str]]:
    """Split -> its speakers. Speakers who sound alike are in the same split."""
    families = list(SIMILAR_SPEAKERS) + [
        (name,) for name in speakers() if name not in chain(*SIMILAR_SPEAKERS)
    ]
    Random(SEED).shuffle(families)
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for family in families:
        fits = (s for s in ("test", "validation") if len(splits[s]) + len(family) <= HELD_OUT)
        splits[next(fits, "train")] += family
    return splits


def _speak() -> dict[str, Tensor]:
    """Every clip of every split, with the same random choices each time."""
    draw, tensors = Random(SEED), {}
    for split, names in split_speakers().items():
        plan = [(digit, name) for name in names for digit in range(len(WORDS))] * TAKES
        draw.shuffle(plan)
        clips = [_clip(WORDS[digit], name, draw) for digit, name in plan]
        tensors[f"{split}.inputs"] = torch.stack(clips)
        tensors[f"{split}.targets"] = torch.tensor([digit for digit, _ in plan])
    return tensors


def _clip(word: str, speaker: str, draw: Random) -> Tensor:
    """The word as an input, with random accent, pace, pitch and starting time.

    If words always started at the same time, memorising clips would be nearly as good as learning.
    """
    voice = f"{draw.choice(ACCENTS)}+{speaker}"
    waveform = say(word, voice, words_per_minute=draw.randint(*PACE), pitch=draw.randint(*PITCH))
    return to_spectrogram(waveform, before=draw.random())


# --- From sound to input -------------------------------------------------------------------------


def to_spectrogram(waveform: Tensor, before: float = 0.5) -> Tensor:
    """One word as an input: (S,) -> (64, 32), padded with silence.

    Parameters
    ----------
    waveform
        One word, at `RATE_HZ` samples per second; the silence around it is trimmed.
    before
        The share of the padding that comes before the word, 0 to 1.
    """
    check_share("before", before, "a share")
    frames = log_mel(waveform)  # (T, F)
    heard = (frames.amax(1) > 1 - TRIM_DB / RANGE_DB).nonzero().flatten()
    word = frames[heard[0] : heard[-1] + 1][:STEPS] if len(heard) else frames[:0]
    front = round(before * (STEPS - len(word)))
    return pad(word, (0, 0, front, STEPS - len(word) - front))


def log_mel(waveform: Tensor) -> Tensor:
    """The log-mel spectrogram, the loudness of each frequency band over time: (S,) -> (T, F).

    Overlapping windows of the sound are transformed into frequencies. These are summed in bands
    of equal width to the ear (mel), and loudness is in decibels. Values are from 0 to 1: 1 is the
    loudest point of the clip, 0 is 60 dB below it or softer.

    Raises
    ------
    ShapeMismatch
        The waveform has several channels, or is shorter than one window.

    Examples
    --------
    >>> log_mel(torch.zeros(RATE_HZ)).shape  # a second of silence
    torch.Size([85, 32])
    """
    if waveform.ndim != 1 or len(waveform) < WINDOW:
        raise ShapeMismatch(
            f"given a waveform of shape {tuple(waveform.shape)}; needed (S,), one channel at "
            f"{RATE_HZ:,} samples per second, with S of at least {WINDOW}. Average several "
            f"channels, and pad what is too short with zeros."
        )
    fade = torch.hann_window(WINDOW)  # hard edges would add frequencies, like a click
    waves = torch.stft(waveform, WINDOW, HOP, window=fade, center=False, return_complex=True)
    power = waves.abs().square().T  # (T, W/2 + 1)
    level_db = 10 * (power @ mel_filters()).clamp_min(1e-10).log10()  # (T, F)
    loudest_db = level_db.max().clamp_min(SILENCE_DB)
    return ((level_db - loudest_db) / RANGE_DB + 1).clamp_min(0)


@cache
def mel_filters() -> Tensor:
    """The weight of each frequency in each band, 0 to 1: (W/2 + 1, F).

    Triangles of equal width in mel. Each rises from the middle of the band below to 1 in its own
    middle, and falls to 0 in the middle of the band above.
    """
    ends = mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ]))
    corners = hertz(torch.linspace(float(ends[0]), float(ends[1]), BANDS + 2))
    below, middle, above = corners[:-2], corners[1:-1], corners[2:]  # (F,) each
    frequency = torch.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1).unsqueeze(1)
    rising = (frequency - below) / (middle - below)
    falling = (above - frequency) / (above - middle)
    return torch.minimum(rising, falling).clamp_min(0)


def mel(frequency_hz: Tensor) -> Tensor:
    """The perceived pitch of a tone, in mel; 1,000 Hz are 1,000 mel.

    O'Shaughnessy, "Speech Communication: Human and Machine", 1987.
    """
    return 2595 * torch.log10(1 + frequency_hz / 700)


def hertz(mels: Tensor) -> Tensor:
    """The frequency of a pitch in mel: the inverse of `mel`."""
    return 700 * (10 ** (mels / 2595) - 1)
