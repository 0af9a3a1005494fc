"""Speech: a real engine speaks, its sound becomes spectra, which are kept; a model understands.

Shapes: S samples, W samples in a window, T time steps, F bands, B batch, D filters.
"""

import hashlib
import inspect
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
import torch

from kit.core.errors import BadValue, NotInstalled, ShapeMismatch, UnknownName
from kit.costs.counting import count
from kit.data import load_spoken_digits, spoken_digits
from kit.data.cache import cached, is_cached
from kit.data.speech_synthesis import RATE_HZ, accents, say, speakers
from kit.data.spoken_digits import (
    ACCENTS,
    BANDS,
    CACHE_NAME,
    HELD_OUT,
    HOP,
    RANGE_DB,
    SIMILAR_SPEAKERS,
    STEPS,
    TAKES,
    WINDOW,
    WORDS,
    hertz,
    log_mel,
    mel,
    mel_filters,
    split_speakers,
    to_spectrogram,
)
from kit.inference import evaluate
from kit.models import CNN1d, CNN1dConfig
from kit.training import train
from kit.workloads import Workload, is_right, speech

pytest.importorskip("espeakng_loader", reason="needs the extra `speech`")


def seconds(waveform: torch.Tensor) -> float:
    return len(waveform) / RATE_HZ


def python(code: str) -> subprocess.CompletedProcess:
    """A program in a process of its own: the engine can be started only once in each."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


# --- The engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_it_speaks(word):
    waveform = say(word)
    assert waveform.dtype == torch.float32 and waveform.ndim == 1
    assert 0.2 < seconds(waveform) < 0.8
    assert 0.1 < waveform.abs().max() <= 1


def test_slow_speech_takes_longer():
    slow, usual, fast = (seconds(say("seven", words_per_minute=pace)) for pace in (80, 175, 350))
    assert slow > 1.5 * usual > 2.25 * fast


def test_more_words_take_longer():
    assert seconds(say("three hundred and thirty-three")) > 2 * seconds(say("three"))


def fundamental_hz(waveform: torch.Tensor) -> float:
    """How often the loudest tenth of a second repeats itself: where it is most like itself."""
    for _ in range(2):  # the voice itself, without most of what throat and mouth make of it
        waveform = torch.nn.functional.avg_pool1d(waveform[None], 45, stride=1)[0]
    n = RATE_HZ // 10
    loudest = waveform.unfold(0, n, n // 4)[waveform.unfold(0, n, n // 4).norm(dim=1).argmax()]
    lags = range(1, RATE_HZ // 50)  # down to 50 Hz
    alike = [float(torch.cosine_similarity(loudest[:-n], loudest[n:], dim=0)) for n in lags]
    unlike = next(i for i, value in enumerate(alike) if value < 0)  # no longer the same wave
    return RATE_HZ / lags[max(range(unlike, len(alike)), key=alike.__getitem__)]


def test_the_repeats_of_a_tone_are_counted():
    t = torch.arange(RATE_HZ) / RATE_HZ
    assert fundamental_hz(torch.sin(2 * math.pi * 120 * t)) == pytest.approx(120, rel=0.01)


def test_pitch_makes_a_voice_high_or_low():
    """Said is a word of few overtones: those make it easy to mistake one period for four."""
    low, high = (fundamental_hz(say("moon", pitch=pitch)) for pitch in (0, 100))
    assert high > 2 * low


@pytest.mark.parametrize("voice", ["de", "en-gb-scotland", "en-us+f1", "en-us+whisper"])
def test_other_accents_and_speakers_sound_different(voice):
    american, again, other = (to_spectrogram(say("nine", v)) for v in ("en-us", "en-us", voice))
    assert (american - other).norm() > 3 * (american - again).norm()


def test_all_accents_and_speakers_that_are_used_are_there():
    assert set(ACCENTS) <= set(accents())
    assert len(speakers()) == len(set(speakers())) > 100
    assert set(chain(*SIMILAR_SPEAKERS)) <= set(speakers())


@pytest.mark.parametrize(
    ("voice", "told"),
    [
        ("en-gb", r"no accent is called 'en-gb'; did you mean .*'en-gb-x-rp'"),
        ("english", r"no accent is called 'english'.* There are: .*\ben-us\b"),
        ("", r"no accent is called ''"),
        ("en-us+robosofd", r"no speaker is called 'robosofd'; did you mean 'robosoft'"),
        ("en-us+F1", r"no speaker is called 'F1'.* There are: .*\bf1\b"),
    ],
)
def test_an_unknown_voice_lists_the_near_ones(voice, told):
    with pytest.raises(UnknownName, match=told):
        say("seven", voice)


@pytest.mark.parametrize("value", [-1, 451, 175.0, True, "175", None])
def test_a_wrong_pace_or_pitch_says_what_is_needed(value):
    with pytest.raises(BadValue, match=rf"words_per_minute={value!r}: needs .* from 80 to 450"):
        say("seven", words_per_minute=value)
    with pytest.raises(BadValue, match=rf"pitch={value!r}: needs .* from 0 to 100"):
        say("seven", pitch=value)


@pytest.mark.parametrize("text", ["", "  ", "...", "\0"])
def test_a_text_without_a_sound_is_refused(text):
    with pytest.raises(BadValue, match="nothing in it to say"):
        say(text)


def test_threads_do_not_talk_into_each_other():
    texts = ["two", "seventy-seven", "nine hundred and ninety-nine", "no"] * 5
    alone = [seconds(say(text)) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        together = [seconds(waveform) for waveform in threads.map(say, texts)]
    assert together == pytest.approx(alone, rel=0.05)  # a voice wavers


PRINT_DIGEST = """
import hashlib
from kit.data.speech_synthesis import say
for voice in ("en-us", "en-029+whisper", "en-gb-scotland+f1"):
    print(hashlib.sha256(say("seven", voice).numpy().tobytes()).hexdigest())
"""


def test_fresh_processes_say_the_same():
    one, other = python(PRINT_DIGEST), python(PRINT_DIGEST)
    assert one.stdout == other.stdout and len(set(one.stdout.split())) == 3


FORK = """
import os
from kit.data.speech_synthesis import say
say("one")
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(7 if say("two").any() else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_can_speak():
    assert python(FORK).returncode == 7


INTERRUPTED = """
import signal, threading, time
from kit.data.speech_synthesis import say
text = "seventy-seven thousand seven hundred and seventy-seven " * 20
main, caught = threading.main_thread().ident, 0
say("one")  # the engine has started
for i in range(1, 11):
    press = threading.Timer(0.002 * i, signal.pthread_kill, (main, signal.SIGINT))
    try:
        press.start()
        say(text)
        press.join()
        time.sleep(0.1)  # the engine was quicker than the press
    except KeyboardInterrupt:
        caught += 1
raise SystemExit(0 if caught == 10 and say("seven").any() else f"{caught} of 10 were not lost")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_an_interrupt_while_it_speaks_is_not_lost():
    """Ctrl-C would be lost if it came while the C library calls Python back."""
    done = python(INTERRUPTED)
    assert done.returncode == 0, done.stderr


LONG_PATH = """
import sys
from pathlib import Path
import espeakng_loader
from kit.data.speech_synthesis import say
from kit.core.errors import BadValue
espeakng_loader.get_data_path = lambda: sys.argv[1]
try:
    say("seven")
except BadValue as error:
    sys.exit(0 if "at most 159" in str(error) and sys.argv[1] in str(error) else str(error))
"""


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_path_that_is_too_long_for_the_engine_is_told(tmp_path):
    """Left to itself, the engine ends the process."""
    import espeakng_loader

    folder = tmp_path / ("x" * 80) / ("y" * 80)
    folder.mkdir(parents=True)
    (folder / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    command = [sys.executable, "-c", LONG_PATH, str(folder / "espeak-ng-data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# --- From a sound to a spectrum ------------------------------------------------------------------


def tone(frequency_hz: float, duration_s: float = 0.3, amplitude: float = 0.5) -> torch.Tensor:
    t = torch.arange(round(duration_s * RATE_HZ), dtype=torch.float64) / RATE_HZ
    return (amplitude * torch.sin(2 * math.pi * frequency_hz * t)).float()


def test_mel_is_what_its_formula_says():
    assert float(mel(torch.tensor(1_000.0))) == pytest.approx(1_000, abs=0.1)
    assert float(mel(torch.tensor(700.0))) == pytest.approx(2595 * math.log10(2), rel=1e-6)
    assert float(mel(torch.tensor(0.0))) == 0
    frequencies = torch.tensor([60.0, 440.0, 8_000.0])
    torch.testing.assert_close(hertz(mel(frequencies)), frequencies, rtol=1e-5, atol=0)


def test_filters_are_what_their_formula_says():
    """Once more, one number at a time."""

    def to_mel(f):
        return 2595 * math.log10(1 + f / 700)

    width = (to_mel(8_000) - to_mel(60)) / (BANDS + 1)
    corners = [700 * (10 ** ((to_mel(60) + i * width) / 2595) - 1) for i in range(BANDS + 2)]

    def weight(f, band):
        low, middle, high = corners[band : band + 3]
        if not low < f < high:
            return 0.0
        return (f - low) / (middle - low) if f <= middle else (high - f) / (high - middle)

    bins = [k * RATE_HZ / WINDOW for k in range(WINDOW // 2 + 1)]
    wanted = torch.tensor([[weight(f, band) for band in range(BANDS)] for f in bins])
    torch.testing.assert_close(mel_filters(), wanted, rtol=0, atol=1e-4)


def test_filters_share_each_frequency_between_two_neighbours():
    total = mel_filters().sum(1)
    frequency = torch.linspace(0, RATE_HZ / 2, len(total))
    inside = (frequency > 120) & (frequency < 7_400)  # between the first middle and the last
    torch.testing.assert_close(total[inside], torch.ones(int(inside.sum())))
    assert (total[frequency > 8_000] == 0).all() and total[0] == 0
    assert (mel_filters().amax(0) > 0.5).all()  # no band falls between two frequencies


@pytest.mark.parametrize("band", [0, 1, 5, 16, 31])
def test_a_pure_tone_lands_in_its_band(band):
    low, high = float(mel(torch.tensor(60.0))), float(mel(torch.tensor(8_000.0)))
    middle = low + (band + 1) * (high - low) / (BANDS + 1)
    frames = log_mel(tone(float(hertz(torch.tensor(middle)))))
    assert (frames.argmax(1) == band).all()
    assert frames.max() == 1
    far = [other for other in range(BANDS) if abs(other - band) > 3]
    assert frames[:, far].max() < 0.5  # at least 30 dB softer


def test_loudness_is_in_decibels_below_the_loudest():
    half_s = 0.25
    both = torch.cat([tone(1_000, half_s), tone(1_000, half_s, 0.5 / 10)])  # a tenth: −20 dB
    frames = log_mel(both)
    assert float(frames[2].max()) == pytest.approx(1, abs=0.01)
    assert float(frames[-3].max()) == pytest.approx(1 - 20 / RANGE_DB, abs=0.01)


def test_volume_does_not_matter():
    word = say("five")
    torch.testing.assert_close(log_mel(word), log_mel(word / 8), rtol=0, atol=1e-4)


def test_silence_is_nothing():
    assert not log_mel(torch.zeros(RATE_HZ)).any()
    assert not to_spectrogram(torch.zeros(RATE_HZ)).any()


@pytest.mark.parametrize("samples", [WINDOW, WINDOW + HOP - 1, WINDOW + HOP, 10_000])
def test_there_is_a_frame_for_each_hop(samples):
    assert log_mel(torch.ones(samples)).shape == (1 + (samples - WINDOW) // HOP, BANDS)


@pytest.mark.parametrize("shape", [(WINDOW - 1,), (0,), (2, RATE_HZ), ()])
def test_what_is_no_clip_is_refused_with_its_shape(shape):
    with pytest.raises(ShapeMismatch) as told:
        log_mel(torch.zeros(shape))
    assert str(shape) in str(told.value) and "at least 512" in str(told.value)


def steps_heard(frames: torch.Tensor) -> list[int]:
    return frames.amax(1).nonzero().flatten().tolist()


def test_silence_around_a_word_changes_nothing():
    word, quiet = tone(500, 0.3), torch.zeros(20 * HOP)
    alone, framed = to_spectrogram(word, 1.0), to_spectrogram(torch.cat([quiet, word, quiet]), 1.0)
    assert alone.shape == framed.shape == (STEPS, BANDS)
    more = len(steps_heard(framed)) - len(steps_heard(alone))
    assert 0 <= more <= 4  # windows that hold a part of the word
    torch.testing.assert_close(framed[-15:-5], alone[-15:-5], rtol=0, atol=0.01)


@pytest.mark.parametrize("before", [0.0, 0.25, 0.5, 1.0])
def test_a_word_stands_where_it_is_put(before):
    heard = steps_heard(to_spectrogram(tone(500, 0.3), before))
    assert heard == list(range(heard[0], heard[-1] + 1))
    assert heard[0] == round(before * (STEPS - len(heard)))


@pytest.mark.parametrize("before", [-0.1, 1.01, math.nan])
def test_a_word_cannot_stand_outside(before):
    with pytest.raises(BadValue, match=rf"before={before!r}: needs a share from 0 to 1"):
        to_spectrogram(tone(500), before)


def test_the_words_of_a_split_stand_anywhere(work):
    starts = torch.tensor([steps_heard(frames)[0] for frames in work.data["test"].inputs])
    assert starts.float().std() > 8 and starts.min() <= 2 and starts.max() > 40


def test_a_word_that_is_too_long_loses_its_end():
    frames = to_spectrogram(torch.cat([tone(300, 0.5), tone(3_000, 0.8)]))
    assert frames.shape == (STEPS, BANDS)
    assert frames[0].argmax() < frames[-1].argmax()


# --- What is kept --------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes two small tensors, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.times += 1
        return {"a": torch.arange(3.0), "b": torch.tensor([[1], [2]])}


def right(tensors) -> bool:
    wanted = Maker()()
    return set(tensors) == set(wanted) and all(
        torch.equal(tensors[name], wanted[name]) and tensors[name].dtype == wanted[name].dtype
        for name in wanted
    )


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_made_once(cache):
    make = Maker()
    assert not is_cached("few")
    assert right(cached("few", make)) and is_cached("few")
    assert right(cached("few", make)) and make.times == 1
    assert files(cache) == ["few.safetensors"]


def test_a_file_cut_short_is_made_anew(cache):
    make = Maker()
    cached("few", make)
    (file,) = cache.rglob("*.safetensors")
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert right(cached("few", make)) and make.times == length + 2
        assert file.read_bytes() == whole


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_file_with_any_byte_altered_is_made_anew(cache, flip):
    make = Maker()
    cached("few", make)
    (file,) = cache.rglob("*.safetensors")
    whole = file.read_bytes()
    altered = [bytes([*whole[:i], byte ^ flip, *whole[i + 1 :]]) for i, byte in enumerate(whole)]
    for content in altered:
        file.write_bytes(content)
        assert right(cached("few", make))
    assert make.times > 0.9 * len(whole)  # but for bytes that mean nothing: blanks in the header


def test_a_stranger_in_its_place_is_made_anew(cache):
    from safetensors.torch import save_file

    (cache / "data").mkdir(parents=True)
    save_file({"a": torch.ones(1)}, cache / "data" / "few.safetensors")
    assert right(cached("few", Maker()))


def test_work_that_was_interrupted_leaves_nothing(cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("few", interrupted)  # while it was made
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached("few", Maker())  # while it was written
    assert files(cache) == []


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "file"))
    make = Maker()
    assert right(cached("few", make)) and right(cached("few", make)) and make.times == 2


# --- The clips -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work() -> Workload:
    made = speech()
    assert made.data  # from here on, kept in the cache that the tests share
    return made


def digest(dataset) -> str:
    total = hashlib.sha256()
    for split in dataset.splits.values():
        for tensor in split:
            total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def test_every_speaker_is_in_one_split_and_with_those_who_sound_alike():
    splits = split_speakers()
    everybody = list(chain(*splits.values()))
    assert len(everybody) == len(set(everybody)) and set(everybody) == set(speakers())
    assert len(splits["test"]) == len(splits["validation"]) == HELD_OUT
    home = {name: split for split, names in splits.items() for name in names}
    assert all(len({home[name] for name in family}) == 1 for family in SIMILAR_SPEAKERS)


def test_nobody_has_a_twin_in_another_split():
    """Ten words by each: those listed as alike are, and in other splits nobody is so near."""
    names = speakers()
    home = {name: split for split, members in split_speakers().items() for name in members}
    said = [torch.cat([to_spectrogram(say(w, f"en-us+{name}")) for w in WORDS]) for name in names]
    said = torch.stack(said).flatten(1)
    apart = torch.cdist(said, said).fill_diagonal_(math.inf)
    elsewhere = torch.tensor([[home[a] != home[b] for b in names] for a in names])
    twins = [[names.index(name) for name in family] for family in SIMILAR_SPEAKERS]
    farthest_twin = max(float(apart[i, family].min()) for family in twins for i in family)
    assert 0 < farthest_twin < 12 and apart[elsewhere].min() > 6
    assert apart[elsewhere].median() > 20


def test_each_speaker_says_each_digit_equally_often(work):
    for name, members in split_speakers().items():
        inputs, targets = work.data[name]
        assert inputs.shape == (len(members) * len(WORDS) * TAKES, STEPS, BANDS)
        assert set(targets.bincount().tolist()) == {len(members) * TAKES}


def test_clips_go_from_silence_to_loudest(work):
    for inputs, _ in work.data.splits.values():
        assert inputs.min() == 0 and (inputs.amax((1, 2)) == 1).all()
        spoken_s = (inputs.amax(2) > 0).sum(1) * HOP / RATE_HZ
        assert 0.2 < float(spoken_s.median()) < 0.5


def test_clips_that_are_made_otherwise_are_kept_under_another_name(work):
    """If this fails, raise the number in CACHE_NAME, then write the new figures here. Otherwise
    people with the old clips in their cache would go on with them.
    """
    inputs, targets = work.data["train"]
    loud, step, band = inputs.sum(), torch.arange(STEPS), torch.arange(BANDS)
    middles = [(inputs.sum((0, 2)) * step).sum() / loud, (inputs.sum((0, 1)) * band).sum() / loud]
    wide = ((inputs.sum((0, 2)) * (step - middles[0]).square()).sum() / loud).sqrt()
    told = [len(inputs), float(inputs.mean()), *map(float, middles), float(wide)]
    assert CACHE_NAME == "spoken-digits-2"
    assert targets[:12].tolist() == [8, 0, 9, 4, 0, 9, 1, 1, 7, 0, 5, 7]
    assert told == pytest.approx([1_920, 0.186, 31.25, 12.21, 13.11], rel=0.01)


def test_the_second_time_nothing_is_said(work, monkeypatch):
    before = digest(work.data)
    monkeypatch.setattr(spoken_digits, "say", None)
    assert digest(load_spoken_digits()) == before


LOAD = f"""
import hashlib, sys
sys.modules["espeakng_loader"] = None  # as where the extra is not installed
from kit.core.errors import NotInstalled
from kit.workloads import speech
{inspect.getsource(digest)}
work = speech()
try:
    print(digest(work.data), work.needs)
except NotInstalled as error:
    print("NotInstalled:", error, work.needs)
"""


def test_without_the_engine_the_kept_clips_are_enough(work):
    assert python(LOAD).stdout == f"{digest(work.data)} ()\n"


def test_without_the_engine_and_without_clips_it_says_how_to_get_it(cache):
    told = python(LOAD).stdout
    assert told.startswith("NotInstalled: the workload 'speech' needs espeakng_loader, which is")
    assert '.[speech]"' in told and told.endswith("('espeakng_loader',)\n")
    (cache / "data").mkdir(parents=True)
    (cache / "data" / f"{CACHE_NAME}.safetensors").write_bytes(b"damaged")
    told = python(LOAD).stdout
    assert told.startswith("NotInstalled: the speech synthesiser needs espeakng_loader")
    assert '.[speech]"' in told


INTERRUPTED = """
from kit.data import spoken_digits
say = spoken_digits.say
def said(*args, **options):
    print("said", flush=True)
    return say(*args, **options)
spoken_digits.say = said
spoken_digits.load_spoken_digits()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_synthesis_leaves_no_half_file(cache, how):
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(100):
            assert process.stdout.readline() == b"said\n"
        process.send_signal(how)
        _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert (b"KeyboardInterrupt" in told) == (how == signal.SIGINT)
    assert files(cache) == []


def test_the_workload_asks_for_the_engine_only_where_nothing_is_kept(cache):
    assert speech().needs == ("espeakng_loader",) and speech().extra == "speech"
    cached(CACHE_NAME, Maker())
    assert speech().needs == ()


def test_an_engine_that_is_not_there_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    accents.cache_clear()
    with pytest.raises(NotInstalled, match="speech synthesiser needs espeakng_loader"):
        say("seven")


# --- The models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("b", "t", "f", "d", "h"), [(1, 64, 32, 48, 64), (5, 9, 3, 4, 7)])
def test_a_cnn_over_time_costs_what_it_costs_by_hand(b, t, f, d, h):
    model = CNN1d(CNN1dConfig(features=f, filters=d, hidden=h))
    counted = count(model, torch.rand(b, t, f))
    near, wide = t * 5 * f * d, (t // 4) * 5 * d * 2 * d  # 5 steps wide, at each step
    hidden, head = 2 * d * h, h * 10
    multiply_adds = near + wide + hidden + head
    weights = (5 * f * d + d) + (5 * d * 2 * d + 2 * d) + (hidden + h) + (head + 10)
    assert counted.params == weights
    assert counted.forward_flops == 2 * b * multiply_adds
    assert counted.backward_flops == 2 * b * (2 * multiply_adds - near)
    assert counted.uncounted == ()


def test_a_cnn_over_time_hears_a_sound_whenever_it_comes():
    torch.manual_seed(0)
    model = CNN1d()
    clip = torch.zeros(1, 80, 32)
    clip[:, 24:30] = torch.rand(1, 6, 32)
    torch.testing.assert_close(model(clip), model(clip.roll(24, dims=1)))


def test_a_clip_of_any_length_is_taken_from_four_steps_on():
    model = CNN1d()
    assert model(torch.zeros(3, 4, 32)).shape == model(torch.zeros(3, 500, 32)).shape == (3, 10)


@pytest.mark.parametrize("shape", [(3, 3, 32), (3, 64, 31), (64, 32), (3, 1, 64, 32)])
def test_sequences_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ShapeMismatch) as told:
        CNN1d()(torch.zeros(shape))
    assert str(shape) in str(told.value) and "(B, T, 32)" in str(told.value)


def test_to_remember_the_clips_is_not_enough(work):
    """The digit of the training clip that looks most alike: better than a guess, not enough."""
    (known, digits), (inputs, targets) = work.data["train"], work.data["test"]
    nearest = torch.cdist(inputs.flatten(1), known.flatten(1)).argmin(1)
    share = float((digits[nearest] == targets).float().mean())
    assert 0.7 < share < work.target - 0.03


def test_the_recurrent_model_learns_too(work):
    torch.manual_seed(0)
    model = work.model("rnn")
    train(model, work, epochs=8, lr=1e-2, live=False)
    assert evaluate(model, work).mean.value > 0.6


def test_a_trained_model_understands_what_is_said_now(work):
    """From a text to a sound to a digit, in a voice that it has not heard."""
    torch.manual_seed(0)
    model = work.model()
    train(model, work, **work.recipe, live=False)
    assert evaluate(model, work).mean.value >= work.target
    voice = f"en-us+{split_speakers()['test'][0]}"
    heard = model(torch.stack([to_spectrogram(say(word, voice)) for word in WORDS]))
    assert is_right(heard, torch.arange(10)).sum() >= 8
