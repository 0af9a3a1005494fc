"""Limits: the roofline from made-up peaks, and peaks of this machine that are plausible."""

import json
import math
from dataclasses import replace

import pytest
import torch

from kit import devices
from kit.core.errors import BadValue, UnknownName
from kit.core.files import cache_folder
from kit.core.units import words
from kit.measurement import Conditions, Observer, Peaks, measure, roofline
from kit.measurement import peaks as finding
from kit.measurement.peaks import layer_point, peaks

MADE_UP = Peaks({"float32": 1e11, "bfloat16": 4e11}, 4e10, {"float16": 1e9}, "cpu", 1)
CACHED = replace(MADE_UP, cache_bytes_per_s=2e11)


def test_the_ridge_is_where_both_limits_meet():
    assert MADE_UP.ridge() == 2.5
    assert MADE_UP.ridge("bfloat16") == 10


@pytest.mark.parametrize(
    ("flops", "moved", "limit"),
    [
        (1e6, 4e6, 1e10),  # a quarter of a FLOP per byte: the memory's rate times that
        (2.5e6, 1e6, 1e11),  # at the ridge
        (1e9, 1e6, 1e11),  # beyond it the processor is the limit
    ],
)
def test_the_limit_is_the_lower_of_memory_and_processor(flops, moved, limit):
    assert MADE_UP.limit(flops, moved) == pytest.approx(limit)


def test_the_share_of_the_peak():
    assert MADE_UP.share(5e10, 1.0) == 0.5
    assert MADE_UP.share(5e10, 1.0, "bfloat16") == 0.125
    assert MADE_UP.share(1e11, 1.0) == 1


def test_more_than_the_peak_is_an_error_that_names_the_likely_causes():
    told = r"would be 200 % of this machine's peak.*1 thread.* FLOPs are counted right.*clock"
    with pytest.raises(BadValue, match=told):
        MADE_UP.share(2e11, 1.0)
    assert not MADE_UP.renewals


# --- Where the bytes come from -------------------------------------------------------------------

NEAR, LAST, FAR = 16_000_000, 32_000_000, 192_000_000  # a core's own cache, the last one, memory


@pytest.mark.parametrize(
    ("known", "moved", "rate"),
    [
        (CACHED, 0, math.inf),
        (CACHED, NEAR, math.inf),
        (CACHED, LAST, 4e11),  # half of it may move in a core's own cache
        (replace(CACHED, near_bytes=0), LAST, 2e11),
        (CACHED, FAR - 1, 2e11 * FAR / (FAR - NEAR)),
        (CACHED, FAR, 4e10),
        (MADE_UP, LAST, math.inf),  # its last cache was not measured: no limit is known
        (MADE_UP, FAR, 4e10),
        (replace(CACHED, cache_bytes_per_s=1e10), LAST, 8e10),  # no cache is slower than memory
    ],
)
def test_few_bytes_come_from_a_cache(known, moved, rate):
    assert known.bandwidth_for(moved) == pytest.approx(rate)
    assert known.bound_s(0, moved) == pytest.approx(moved / rate)


@pytest.mark.parametrize(
    ("flops", "moved", "dtype", "bound_s"),
    [
        (1e11, NEAR, "float32", 1.0),  # the processor is the limit
        (1e11, NEAR, "bfloat16", 0.25),
        (1e7, 4e8, "float32", 0.01),  # the memory
        (1e7, 56e6, "float32", 2e-4),  # the last cache
        (0, 0, "float32", 0.0),
    ],
)
def test_the_least_time_is_the_greater_of_processor_and_memory(flops, moved, dtype, bound_s):
    assert CACHED.bound_s(flops, moved, dtype) == pytest.approx(bound_s)


def test_the_share_of_the_memorys_bandwidth():
    assert MADE_UP.memory_share(2e9, 0.1) == 0.5
    assert CACHED.memory_share(36e6, 2e-4) == 0.5  # without the 16 MB of a core's own cache
    assert MADE_UP.memory_share(NEAR, 1.0) is None
    assert MADE_UP.memory_share(LAST, 1.0) is None


def test_more_than_the_bandwidth_is_an_error_that_says_what_to_check():
    with pytest.raises(BadValue, match=r"4.00 GB in 50.0 ms would be 200 % .* bytes are"):
        MADE_UP.memory_share(4e9, 0.05)


@pytest.mark.parametrize(
    "asking", [lambda: MADE_UP.share(1, 1, "int8"), lambda: MADE_UP.bound_s(1, 1, "int8")]
)
def test_a_dtype_without_a_peak_has_no_share_and_no_bound(asking):
    with pytest.raises(UnknownName, match="no measured dtype is called 'int8'"):
        asking()


def test_the_table_shows_the_last_cache_if_it_was_measured():
    assert "200 GB/s" in str(CACHED.table()) and "last cache" in str(CACHED.table())
    assert "last cache" not in str(MADE_UP.table())


def test_the_table_says_when_and_with_what_doubts():
    caption = replace(MADE_UP, measured="2026-01-31", doubts=("it was hot",)).table().caption
    assert "on cpu with 1 thread, 2026-01-31." in caption
    assert caption.endswith("Doubts: it was hot.")
    assert "Doubts" not in MADE_UP.table().caption


# --- Names, tables, pictures ---------------------------------------------------------------------


@pytest.mark.parametrize("asking", [MADE_UP.ridge, lambda d: MADE_UP.limit(1, 1, d)])
def test_a_dtype_that_was_not_measured_is_unknown(asking):
    with pytest.raises(UnknownName, match="no measured dtype is called 'float16'"):
        asking("float16")


def test_the_table_says_what_to_avoid():
    shown = str(MADE_UP.table())
    assert "matmul, float16: avoid it here" in shown and "2.50 FLOP/byte" in shown


@pytest.mark.parametrize("moved", [NEAR, FAR])
def test_a_point_above_a_roof_is_refused(moved):
    allowed_s = MADE_UP.bound_s(1e9, moved)
    assert MADE_UP.plot({"work": (1e9, moved, 1.01 * allowed_s)})
    with pytest.raises(BadValue, match="of this machine's peak"):
        MADE_UP.plot({"work": (1e9, moved, 0.5 * allowed_s)})
    assert MADE_UP.plot({"work": (3e11, NEAR, 1.0)}, dtype="bfloat16")


def test_points_are_placed_by_their_work_and_time():
    picture = MADE_UP.plot({"layer": (2e9, 1e9, 0.1)})
    assert "layer at 2 FLOP/byte does 20.0 GFLOP/s" in picture.details.replace("2.00", "2")
    (line,) = [each for each in picture.figure.axes[0].get_lines() if each.get_label() == "layer"]
    assert (line.get_xdata()[0], line.get_ydata()[0]) == pytest.approx((2, 2e10))


def test_cached_work_has_a_roof_of_its_own():
    """Twenty megabytes stay in the last cache: over the memory's roof, under the cache's."""
    known = replace(CACHED, near_bytes=1_000_000)
    points = {"cached": (5e6, 2e7, 2e7 / 1.5e11), "tiny": (1e4, 1e4, 1e-6), "far": (1e7, 1e9, 0.05)}
    picture = known.plot(points)
    lines = {each.get_label(): each for each in picture.figure.axes[0].get_lines()}
    (roof,) = [line for label, line in lines.items() if label.startswith("last cache: 200 GB/s")]
    xs, ys = roof.get_data()
    assert ys[0] / xs[0] == pytest.approx(2e11) and ys[-1] == pytest.approx(4e11)
    x, y = (float(v[0]) for v in lines["cached"].get_data())
    assert 4e10 * x < y < 2e11 * x
    assert lines["tiny"].get_markerfacecolor() == "none" != lines["cached"].get_markerfacecolor()
    assert "Hollow: at most 1.00 MB" in picture.caption
    shares = [
        "71.2 % of what the last cache",
        "10.0 % of what the processor",
        "50.0 % of what the m",
    ]
    assert all(told in picture.caption for told in shares)
    assert not any(
        "cache" in line.get_label() for line in MADE_UP.plot().figure.axes[0].get_lines()
    )


# --- Measured, and kept --------------------------------------------------------------------------


def test_this_machine_has_peaks(monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))  # the best of earlier sessions would stay
    here = peaks(budget_s=0.05, again=True)
    assert 1e8 < here.matmul_flops_per_s["float32"] < 1e15
    assert 1e8 < here.bandwidth_bytes_per_s < 1e14
    assert {*here.matmul_flops_per_s, *here.emulated} == {"float32", "bfloat16", "float16"}
    assert (here.device, here.threads) == ("cpu", 1)
    assert here.processor == devices.backend_of("cpu").name
    assert here.torch == torch.__version__ and here.budget_s == 0.05
    assert set(here.shapes) == set(here.matmul_flops_per_s)
    assert all(shape in finding.CPU_SHAPES for shape in here.shapes.values())


def test_the_peak_is_that_of_the_faster_library(monkeypatch):
    """A processor on which the library that PyTorch takes by itself is half as fast."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch was built without oneDNN")
    layouts = []

    def best_s(call, watch, budget_s):
        layouts.append(call().layout)
        return 0.5 if layouts[-1] == torch._mkldnn else 1.0

    monkeypatch.setattr(finding, "_best_s", best_s)
    rate = finding._matmul_rate((8, 4, 2), torch.float32, finding.Stopwatch("cpu"), 1.0)
    assert rate == 2 * 8 * 4 * 2 / 0.5
    assert layouts == [torch.strided, torch._mkldnn]


@pytest.fixture
def timed(monkeypatch, tmp_path, quiet):
    """What was timed, without timing it: everything takes 1 ms; the cache is empty."""
    found = []

    def best_s(call, watch, budget_s):
        found.append(budget_s)
        return 1e-3

    monkeypatch.setattr(finding, "_best_s", best_s)
    # As many matrices and arrays as in earnest, but small: to fill the large ones takes seconds.
    small = [tuple(n // 16 for n in shape) for shape in finding.CPU_SHAPES]
    monkeypatch.setattr(finding, "CPU_SHAPES", small)
    two_arrays = finding._two_arrays
    monkeypatch.setattr(finding, "_two_arrays", lambda n, device: two_arrays(n // 100, device))
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(finding, "_asked", set())
    monkeypatch.setattr(finding, "_again", {})
    roofline.RENEWED.clear()
    return found


def test_what_was_measured_is_kept_and_read_the_next_time(timed):
    first = peaks()
    often = len(timed)
    libraries = 3 + torch.backends.mkldnn.is_available()  # float32 is multiplied by two
    # A probe; in each pass all shapes, and adding and reading of two sizes.
    assert often == libraries + finding.PASSES * (libraries * 5 + 2 * 2)
    assert peaks() == first
    assert peaks(budget_s=1.0) == first  # what took longer is good enough
    assert len(timed) == often
    assert len(list((cache_folder() / "peaks").iterdir())) == 1


def new_process():
    """Forget that this process has measured already."""
    finding._asked.clear()


def test_the_best_of_the_first_sessions_is_kept(timed, monkeypatch):
    """One session on a slow moment must not decide what the machine can do."""
    rates = [1e9, 4e9, 2e9, 3e9, 1e9]
    measured = []

    def measure_once(watch, name, budget_s):
        measured.append(rates[len(measured)])
        return replace(
            MADE_UP,
            bandwidth_bytes_per_s=measured[-1],
            processor=name,
            torch=torch.__version__,
            shapes={"float32": (1, 1, 1), "bfloat16": (1, 1, 1)},
            budget_s=budget_s,
        )

    monkeypatch.setattr(finding, "_measured", measure_once)
    best = []
    for _ in range(8):
        new_process()
        found = peaks()
        assert peaks() == found  # one process measures once
        best.append(found.bandwidth_bytes_per_s)
    assert best == [1e9, 4e9, 4e9, 4e9, 4e9, 4e9, 4e9, 4e9]
    assert len(measured) == finding.SESSIONS and found.sessions == finding.SESSIONS


def test_asked_again_it_rises_and_never_falls(timed, monkeypatch):
    first = peaks()
    monkeypatch.setattr(finding, "_best_s", lambda call, watch, budget_s: 2e-3)
    slower = peaks(again=True)
    assert slower.matmul_flops_per_s == first.matmul_flops_per_s
    assert slower.bandwidth_bytes_per_s == first.bandwidth_bytes_per_s
    assert "measurement was lower for float32" in slower.table().caption
    assert f"memory {words(first.bandwidth_bytes_per_s / 2, 'B/s')}" in slower.table().caption
    monkeypatch.setattr(finding, "_best_s", lambda call, watch, budget_s: 5e-4)
    faster = peaks(again=True)
    assert faster.bandwidth_bytes_per_s == 2 * first.bandwidth_bytes_per_s
    assert "was lower" not in faster.table().caption
    assert peaks() == faster


def test_a_busy_moment_can_raise_what_is_kept_but_is_no_calm_session(timed, monkeypatch):
    first = peaks()
    monkeypatch.setattr(finding, "_best_s", lambda call, watch, budget_s: 5e-4)
    throttled = devices.Surroundings(1, 1, 0, 0, 0, 0.5, 0, None, None)
    doubted = Conditions("cpu", 1, "2", 0.0, throttled)
    monkeypatch.setattr(Observer, "conditions", lambda self: doubted)
    raised = peaks(again=True)
    assert raised.bandwidth_bytes_per_s == 2 * first.bandwidth_bytes_per_s
    assert raised.sessions == first.sessions and not raised.doubts
    assert peaks() == raised


# --- Work that is faster than the peak -----------------------------------------------------------


def test_a_peak_that_work_beats_is_measured_again_and_renewed(timed, monkeypatch):
    """A peak from a slow moment of the machine: what it can do now counts, and is said."""
    here = peaks()
    best = here.matmul_flops_per_s["float32"]
    monkeypatch.setattr(finding, "_best_s", lambda call, watch, budget_s: 5e-4)
    assert here.share(1.5 * best, 1.0) == pytest.approx(0.75)
    assert here.bound_s(2 * best, 0) == pytest.approx(1.0)
    told = f"float32 from {words(best, 'FLOP/s')} to {words(2 * best, 'FLOP/s')}"
    assert told in here.renewals
    assert here.renewals in here.table().caption and here.renewals in here.plot().caption
    later = peaks()  # reads what was saved
    assert later.matmul_flops_per_s["float32"] == pytest.approx(2 * best) and not later.renewals


def test_what_is_impossible_stays_an_error_after_one_new_measurement(timed):
    here = peaks()
    best, often = here.matmul_flops_per_s["float32"], len(timed)
    for _ in range(3):
        with pytest.raises(BadValue, match=r"180 % of this machine's peak.*measured again"):
            here.share(1.8 * best, 1.0)
    assert len(timed) == 2 * often  # an error may be asked for often, such as for each row
    assert here.newest.matmul_flops_per_s["float32"] == best and not here.renewals


def test_work_that_is_a_little_faster_than_the_probe_renews_the_peak(timed):
    """The kit's own matmul may not be the fastest one; small steps do not add up to a lie."""
    here = peaks()
    best, memory = here.matmul_flops_per_s["float32"], here.bandwidth_bytes_per_s
    assert here.share(1.2 * best, 1.0) == 1
    assert here.newest.matmul_flops_per_s["float32"] == pytest.approx(1.2 * best)
    assert here.share(0.6 * best, 1.0) == pytest.approx(0.5)
    with pytest.raises(BadValue, match="of this machine's peak"):
        here.share(1.4 * best, 1.0)
    far = here.far_bytes
    assert here.memory_share(far, far / memory / 1.1) == 1
    assert here.newest.bandwidth_bytes_per_s == pytest.approx(1.1 * memory)
    assert "float32 from" in here.renewals and "memory from" in here.renewals
    assert peaks().matmul_flops_per_s["float32"] == best  # only the kit's own rates are kept


def test_peaks_of_other_conditions_are_not_renewed(timed):
    here = peaks()
    best, often = here.matmul_flops_per_s["float32"], len(timed)
    torch.set_num_threads(2)
    with pytest.raises(BadValue, match="1 thread, and this thread uses 2"):
        here.share(1.1 * best, 1.0)
    elsewhere = replace(here, device="made-up")
    with pytest.raises(BadValue):
        elsewhere.share(1.1 * best, 1.0)
    assert len(timed) == often


def test_the_share_of_what_both_limits_allow():
    assert MADE_UP.limit_share(5e10, 2e9, 1.0) == 0.5
    assert MADE_UP.limit_share(1e10, 2e10, 1.0) == 0.5
    assert MADE_UP.limit_share(1e10, NEAR, 1.0) == 0.1


def test_a_measurement_that_knows_its_work_refuses_an_impossible_share(stopwatch, clock):
    """Lesson 03's device: 2.15 GFLOP in 6 ms where the peak allows 107 GFLOP/s."""
    known = Peaks({"float32": 107e9}, 4e10, {}, "cpu", 1)
    work = (2 * 1024**3, 3 * 4 * 1024**2)
    taken = measure(clock.taking(0.04), stopwatch=stopwatch, work=work, peaks=known)
    assert taken.share == pytest.approx(work[0] / 0.04 / 107e9)
    assert "50.2 % of what this machine's peaks allow" in taken.table().caption
    with pytest.raises(BadValue, match=r"334 % of this machine's peak"):
        measure(clock.taking(0.006), stopwatch=stopwatch, work=work, peaks=known)
    with pytest.raises(BadValue, match="work is given without peaks"):
        measure(clock.taking(0.04), stopwatch=stopwatch, work=work)


def test_arrays_fit_the_caches_of_this_machine(monkeypatch):
    """A server's last caches can hold 300 MB: an array of 192 MB would be read from there."""
    monkeypatch.setattr(devices, "memory_left", lambda: 10**11)
    for caches, arrays in [
        (None, (16_000_000, 22_627_416, 192_000_000)),  # the system does not say
        ((1_000_000, 36_000_000), (2_000_000, 6_000_000, 192_000_000)),
        ((3_000_000, 300_000_000), (6_000_000, 30_000_000, 900_000_000)),
    ]:
        monkeypatch.setattr(devices, "cache_bytes", lambda threads, caches=caches: caches)
        assert finding._array_bytes(torch.device("cpu")) == arrays
    monkeypatch.setattr(devices, "memory_left", lambda: 2_000_000_000)
    assert finding._array_bytes(torch.device("cpu"))[2] == 500_000_000  # a quarter of what is left
    big = replace(CACHED, near_bytes=0, far_bytes=900_000_000)
    assert big.bandwidth_for(899_999_999) == 2e11 and big.bandwidth_for(900_000_000) == 4e10


def test_the_bandwidth_is_that_of_the_faster_stream(monkeypatch):
    """Reading overlaps with writing, so work that reads alone need not reach the limit."""
    for reading_s, rate in [(1.0, 12 * 2048), (0.25, 8 * 2048 / 0.25)]:
        asked = []

        def best_s(call, watch, budget_s, asked=asked, reading_s=reading_s):
            asked.append(call())
            return reading_s if asked[-1].ndim == 0 else 1.0

        monkeypatch.setattr(finding, "_best_s", best_s)
        arrays = finding._two_arrays(16_000, "cpu")
        assert finding._bandwidth(*arrays, finding.Stopwatch("cpu"), 1.0) == rate
        assert [each.numel() for each in asked] == [2048, 1]  # in place: no third array


@pytest.mark.alone
def test_no_stream_of_memory_is_faster_than_the_limit():
    """Streams as lessons and models have them: a layer, an update, an addition to a new place."""
    here = peaks(budget_s=1.0)
    x, y, z = torch.ones(3, here.far_bytes // 8)
    matrix, vector = x[: x.numel() // 4096 * 4096].view(-1, 4096), torch.ones(4096, 1)
    streams = {
        "layer": (4 * matrix.numel(), lambda: matrix @ vector),
        "addition": (12 * x.numel(), lambda: torch.add(x, y, out=z)),
        "update": (12 * x.numel(), lambda: x.add_(y)),
        "copy": (8 * x.numel(), lambda: z.copy_(x)),
    }
    for name, (moved, call) in streams.items():
        taken = min(finding.Stopwatch("cpu").time(call) for _ in range(5))
        assert here.memory_share(moved, taken) <= 1, name


def test_what_a_busy_machine_can_do_is_not_kept(timed, monkeypatch):
    throttled = devices.Surroundings(1, 1, 0, 0, 0, 0.5, 0, None, None)
    doubted = Conditions("cpu", 1, "2", 0.0, throttled)
    monkeypatch.setattr(Observer, "conditions", lambda self: doubted)
    assert peaks().doubts and not (cache_folder() / "peaks").exists()


def a_thread_more(monkeypatch):
    torch.set_num_threads(2)


def another_processor(monkeypatch):
    backend = type(devices.backend_of(torch.device("cpu")))
    monkeypatch.setattr(backend, "name", property(lambda self: "Z80 (R) @ 4 MHz/.."))


def another_pytorch(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "9.9")


@pytest.mark.parametrize(
    "change", [a_thread_more, another_processor, another_pytorch], ids=lambda f: f.__name__
)
def test_under_other_conditions_it_is_measured_anew_and_both_are_kept(timed, monkeypatch, change):
    first = peaks()
    often, before = len(timed), list((cache_folder() / "peaks").iterdir())
    change(monkeypatch)
    assert peaks() != first
    assert len(timed) == 2 * often
    assert len(list((cache_folder() / "peaks").iterdir())) == len(before) + 1 == 2


@pytest.mark.parametrize("asked", [{"again": True}, {"budget_s": 3.1}])
def test_it_is_measured_anew_if_asked_or_given_more_time(timed, asked):
    peaks()
    often = len(timed)
    peaks(**asked)
    assert len(timed) == 2 * often
    peaks(budget_s=asked.get("budget_s", 3.0))
    assert len(timed) == 2 * often  # and that is kept instead


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"shapes": {}, "doubts": []}',
        '{"shapes": [1], "doubts": []}',
        '{"shapes": {"float32": 1}, "doubts": []}',
        "no peaks at all",
        "\udcff",
        lambda raw: raw | {"budget_s": "long"},
        lambda raw: raw | {"colour": "red"},  # of a later version
        lambda raw: {key: raw[key] for key in raw if key != "doubts"},  # of an earlier one
    ],
)
def test_a_damaged_record_is_measured_anew(timed, damage):
    first = peaks()
    often = len(timed)
    (file,) = (cache_folder() / "peaks").iterdir()
    if callable(damage):
        damage = json.dumps(damage(json.loads(file.read_text())))
    file.write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert peaks() == first
    assert len(timed) == 2 * often
    assert peaks() == first and len(timed) == 2 * often  # the record is whole again


def test_where_nothing_can_be_written_nothing_is_kept(timed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "file"))
    first = peaks()
    often = len(timed)
    assert peaks() == first
    assert len(timed) == 2 * often


@pytest.mark.parametrize("calls", [1, 2])  # 2: on a busy machine, the probe was wrong
def test_a_dtype_that_the_processor_lacks_is_left_after_a_probe(timed, monkeypatch, calls):
    def best_s(call, watch, budget_s):
        made = call()
        timed.append(made.dtype)
        return 1.0 if made.dtype == torch.float16 and timed.count(torch.float16) == calls else 1e-3

    monkeypatch.setattr(finding, "_best_s", best_s)
    here = peaks()
    assert set(here.emulated) == {"float16"} and "float16" not in here.matmul_flops_per_s
    assert timed.count(torch.float16) == calls


def test_the_user_says_where_things_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("KIT_CACHE")
    assert cache_folder().name == "train-infer-kit"


@pytest.mark.parametrize("budget_s", [0, -1, math.nan])
def test_no_budget_no_peaks(budget_s):
    with pytest.raises(BadValue, match="budget_s"):
        peaks(budget_s=budget_s)


def test_a_layer_is_a_point_counted_by_hand():
    flops, moved, seconds = layer_point(64, 8, budget_s=0.01)
    assert flops == 2 * 8 * 64 * 64
    assert moved == 4 * (64 * 64 + 2 * 8 * 64)
    assert 0 < seconds < 1
