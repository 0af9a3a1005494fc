"""Traffic whose rate is turned up: what is counted, what the sliders do, how a run ends."""

import asyncio
import json
import queue
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import kit
from kit.core.errors import BadValue, CallFailed, UnknownName
from kit.core.results import RECORDING
from kit.core.statistics import samples_needed
from kit.course import traffic_panel
from kit.course.live_load import Counts
from kit.course.live_run import LiveRun, Moment
from kit.course.traffic_panel import CLIENT, READY, live_traffic
from kit.course.traffic_sliders import serve_options, values_with
from kit.loadgen.http_answers import CONNECTION_FAILED, TIMED_OUT
from kit.serving import Server

WIDGET = "application/vnd.jupyter.widget-view+json"
PATIENCE_S = 60
REPLICAS = hasattr(Server, "restart")  # without it, their number is fixed
SLOW_S = 0.01  # per request, one after the other: 100 requests/s at most


@pytest.fixture(scope="module")
def server():
    with kit.serve(kit.models.MLP()) as server:
        yield server


@pytest.fixture(scope="module")
def slow():
    """The address of a server that answers one request after the other, each in 10 ms."""
    told = queue.Queue()

    async def main():
        turn, stop = asyncio.Lock(), asyncio.Event()

        async def answer(reader, writer):
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    async with turn:
                        await asyncio.sleep(SLOW_S)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        told.put((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    port, loop, stop = told.get(timeout=PATIENCE_S)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(PATIENCE_S)


def watched(panel):
    """The panel; `.sent` has what it sends to the browser."""
    panel.sent = []
    panel.send = panel.sent.append
    return panel


def press(panel, do):
    """What the browser sends when the button is pressed."""
    data = {"method": "custom", "content": {"do": do}}
    panel._handle_msg({"content": {"data": data}, "buffers": []})


def until(true):
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def moments(*rates, good=1.0, waiting=0):
    """A quarter of a second at each rate, of whose requests this share is good."""
    return tuple(
        Moment(0.25 * i, rate, rate, good * rate, (1 - good) * rate, 0.0, 0.01, 0.02, waiting)
        for i, rate in enumerate(rates, start=1)
    )


# --- What is counted -----------------------------------------------------------------------------


def test_rates_are_those_of_the_last_second():
    counts = Counts(target_s=0.05)
    for i in range(40):  # 10 a second, for 4 s: in time, late, refused and failed in turn
        status = (200, 200, 503, CONNECTION_FAILED)[i % 4]
        counts.arrived(i / 10, i / 10)
        if i < 38:
            counts.ended(i / 10, i / 10 + (0.01, 0.06, 0.001, 0.001)[i % 4], status)
    now = counts.moment(3.95, rate=12)
    assert (now.at_s, now.rate, now.waiting) == (3.95, 12, 2)
    assert now.arriving == 10  # at 3.0, 3.1, … 3.9
    assert now.good == 2 and now.late == 3 and now.refused == 4  # 3.2, 3.6; 2.9, 3.3, 3.7; four
    assert counts.moment(20.0, rate=12).arriving == 0 and not counts.took_s


def test_before_the_first_second_rates_are_of_the_time_so_far():
    counts = Counts(target_s=0.05, began_s=7.0)
    for i in range(5):
        counts.arrived(7.0 + i / 10, 7.0 + i / 10)
        counts.ended(7.0 + i / 10, 7.0 + i / 10, 200)
    assert counts.moment(7.5, 10).arriving == counts.moment(7.5, 10).good == 10


def test_a_percentile_waits_for_its_samples_and_time_outs_count():
    needed = samples_needed(99)
    counts = Counts(target_s=0.05)
    for i in range(needed):
        # The slowest two of a hundred time out; refused ones are fast, and not counted.
        slow = i % 50 == 0
        counts.ended(i / 100, i / 100 + (2.0 if slow else 0.01), TIMED_OUT if slow else 200)
        counts.ended(i / 100, i / 100, 503)
        if i == needed - 2:
            early = counts.moment(i / 100, 100)
    now = counts.moment(needed / 100, 100)
    assert early.p50_s == pytest.approx(0.01) and early.p99_s is None
    assert now.p50_s == pytest.approx(0.01) and now.p99_s == pytest.approx(2.0)


def test_of_a_client_that_is_late_nothing_is_said():
    counts = Counts(target_s=0.05)
    for i in range(10):
        counts.arrived(i / 10, i / 10 + 0.02)  # the target allows 0.01
        counts.ended(i / 10, i / 10 + 0.03, 200)
    now = counts.moment(1.0, 10)
    assert now.good is now.p50_s is None and not now.broken
    assert now.client_late_s == pytest.approx(0.02) and now.arriving == 10


def test_a_run_in_one_sentence():
    calm = LiveRun(moments(100, 100, 200), 0.05)
    assert calm.broken_rate is None
    assert repr(calm) == (
        "The server kept up: 90 % or more were answered within 50.0 ms at every rate. The highest "
        "goodput was 200 requests/s. At the end, 200 requests/s arrived, and 200 "
        "answers/s came in time."
    )
    late = moments(100, 2000, 2000, 100, 100, good=0.5)[1:]
    broken = LiveRun((*moments(100), *late), 0.05)
    assert broken.broken_rate == 2000  # and not 100, at which it has not recovered yet
    assert repr(broken).startswith("The server broke at 2,000 requests/s: for most of")
    silent = Moment(1.0, 100.0, 100.0, 0.0, 0.0, 0.0, waiting=100)
    assert not silent.broken and replace(silent, waiting=101).broken  # more than in a second
    gap = LiveRun((*moments(100, 100), Moment(0.75, 900.0, 500.0, client_late_s=0.1)), 0.05)
    assert repr(gap).endswith("Where the picture is grey, the client sent late, so the server's "
                              "numbers are unknown.")  # fmt: skip
    unknown = LiveRun((Moment(0.25, 100.0, 100.0), Moment(1.0, 100.0, note="restarted")), 0.05)
    assert repr(unknown) == "Nothing was counted." and unknown.broken_rate is None


def test_the_picture_has_the_sentence_as_its_alt_text():
    run = LiveRun((*moments(100, 200), Moment(1.0, 200, note="restarted")), 0.05)
    picture = run.plot()
    page = run._repr_html_()
    assert f'alt="{run!r}"' in page and picture.caption == repr(run)
    assert not any(pane.patches for pane in picture.figure.axes)  # no moment is unknown
    first = picture.figure.axes[0].lines[0]
    assert list(first.get_xdata()) == [0.25, 0.5]  # a change does not interrupt a line
    labels = [pane.get_ylabel() for pane in picture.figure.axes]
    spans = ["mean of the last second", "of the last three seconds", "at the moment"]
    named = zip(["requests/s", "latency", "queue (requests)"], spans, strict=True)
    assert labels == [f"{name}\n{span}" for name, span in named]
    assert picture.figure.axes[-1].get_xlabel() == "time (s)"


def test_where_the_client_was_late_the_picture_is_grey():
    late = [Moment(at_s, 900.0, 500.0, client_late_s=0.1) for at_s in (0.75, 1.25)]
    changed = Moment(1.0, 900.0, note="restarted")
    run = LiveRun((*moments(100, 100), late[0], changed, late[1]), 0.05)
    for pane in run.plot().figure.axes:
        spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in pane.patches]
        assert spans == [(0.5, 0.75), (1.0, 1.25)]


# --- The sliders ---------------------------------------------------------------------------------


def test_a_slider_has_the_servers_own_value_in_its_place():
    assert values_with("max_batch", 24)[3:7] == [8, 16, 24, 32]
    assert values_with("max_waiting", "none")[-3:] == [256, "auto", "none"]
    assert values_with("rate", 33)[:8] == [10, 12, 15, 20, 25, 30, 33, 40]


def test_the_queues_bound_can_be_switched_off_and_on():
    everything = ("queue bound", "deadlines")
    assert serve_options({"max_waiting": "none"}, everything) == {"protect": ("deadlines",)}
    on = serve_options({"max_waiting": 8, "max_batch": 2}, ("deadlines",))
    assert on == {"max_waiting": 8, "max_batch": 2, "protect": everything}
    assert serve_options({"max_wait_s": 0.01}, ())["wait_if_idle"] is True
    assert serve_options({"workers": 2}, everything) == {"workers": 2}


def test_the_panel_starts_as_the_server_is(server):
    panel = kit.live_traffic(server, rate=150, target_s=0.02, seconds=30)
    assert panel.settings == {
        **{"rate": 150, "max_batch": 32, "max_wait_s": 0.002},
        **{"max_waiting": "auto", **({"workers": 1} if REPLICAS else {})},
    }
    state = panel.get_state()
    assert (state["target_s"], state["seconds"], state["status"]) == (0.02, 30.0, READY)
    spoken = [control["texts"][i] for control, i in zip(panel.controls, panel.chosen, strict=True)]
    assert spoken == [
        "150 requests/s",
        "32 requests",
        "2.00 ms",
        "auto",
        *(["1 process"] if REPLICAS else []),
    ]
    panel.set(max_batch=1, max_wait_s=0.0)
    assert panel.settings["max_batch"] == 1 and panel.stale()
    with pytest.raises(UnknownName, match="no setting is called 'speed'"):
        panel.set(speed=1)
    with pytest.raises(BadValue, match=r"max_batch=3: needs one of \[1, 2, 4"):
        panel.set(max_batch=3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rate": 0}, "rate=0: needs a whole number from 1 to 10,000"),
        ({"target_s": 0}, "target_s=0: needs"),
        ({"seconds": -1}, "seconds=-1: needs"),
        ({"server": "localhost:80"}, "needs http:// and an address"),
    ],
)
def test_a_panel_needs_an_address_and_numbers(given, told):
    server = given.pop("server", "http://127.0.0.1:9")
    with pytest.raises(BadValue, match=told):
        live_traffic(server, **given)


# --- A run ---------------------------------------------------------------------------------------


def test_what_the_page_is_sent_is_what_is_kept(server):
    panel = watched(live_traffic(server))
    run = panel.run(seconds=1.0, rate=50)
    assert run is panel.last and len(run.moments) >= 2
    assert [message["point"] for message in panel.sent] == panel.points
    assert json.loads(json.dumps(panel.points))[-1]["at_s"] >= 1.0
    assert all(m.rate == 50 and m.arriving > 0 for m in run.moments)
    assert max(m.good or 0 for m in run.moments) > 0 or any(m.client_late_s for m in run.moments)
    assert all(m.refused in (None, 0) for m in run.moments)
    assert panel.status == repr(run) and not panel.running and not panel.failed


def test_the_buttons_start_and_stop_and_a_slider_moves_at_once(server):
    panel = watched(live_traffic(server, rate=20))
    press(panel, "start")
    until(lambda: panel.sent)
    assert panel.running
    with pytest.raises(BadValue, match="traffic is running already: wait until it ends, or press"):
        panel.run()
    press(panel, "start")  # does nothing
    panel.set_state({"chosen": [panel.values["rate"].index(400), *panel.chosen[1:]]})
    until(lambda: panel.sent[-1]["point"]["arriving"] > 100)
    assert panel.sent[-1]["point"]["rate"] == 400
    press(panel, "stop")
    until(lambda: not panel._running.locked())
    assert not panel.running and panel.last.moments[-1].at_s < panel.seconds
    assert [m.at_s for m in panel.last.moments] == sorted(m.at_s for m in panel.last.moments)


def test_a_run_ends_with_its_seconds_and_with_its_page(server, monkeypatch):
    panel = watched(live_traffic(server, seconds=0.6))
    press(panel, "start")
    until(lambda: panel.last)
    assert 0.6 <= panel.last.moments[-1].at_s < 0.6 + PATIENCE_S
    monkeypatch.setattr(traffic_panel, "PATIENCE_S", 0.3)
    panel = watched(live_traffic(server))
    press(panel, "start")
    until(lambda: panel.last)  # the page said nothing more
    assert panel.last.moments[-1].at_s < panel.seconds


def test_the_rate_is_turned_up_until_a_server_breaks(slow):
    panel = watched(live_traffic(slow, b"", rate=25, target_s=0.2))
    assert list(panel.settings) == ["rate"] and "keeps its settings" in panel.hint
    run = panel.turn_up(step_s=0.5)
    assert panel.rate == 25 == run.moments[0].rate == run.moments[-1].rate
    assert max(moment.good or 0 for moment in run.moments) < 150  # it cannot do more than 100


def test_the_steps_double_and_end_where_it_broke(slow):
    panel, rates = live_traffic(slow, b"", rate=25), []
    panel._go = lambda plan: plan
    plan = panel.turn_up(step_s=1.0)
    calm, broken = moments(100)[0], moments(100, good=0.5)[0]
    for at_s, moment in ((0.5, calm), (1.1, calm), (1.9, broken), (2.2, calm), (3.3, broken)):
        assert plan(replace(moment, at_s=at_s))
        rates.append(panel.rate)
    assert rates == [25, 50, 50, 100, 25]
    assert plan(replace(broken, at_s=6.2)) and not plan(replace(broken, at_s=6.4))


# --- What goes wrong -----------------------------------------------------------------------------


def test_wrong_inputs_are_told_by_the_server(server):
    panel = watched(live_traffic(server, np.zeros((1, 3), dtype=np.float32)))
    with pytest.raises(CallFailed, match=r"refuses the requests \(status 400\).*\[1, 3\]"):
        panel.run(seconds=5)
    assert panel.failed and panel.status.startswith("✎ Ended: the server refuses the requests")
    panel.inputs = None
    assert panel.run(seconds=0.5).moments and not panel.failed  # it stays usable


def test_without_a_server_there_is_an_error():
    panel = watched(live_traffic("http://127.0.0.1:9"))  # the port for what is thrown away
    press(panel, "start")
    until(lambda: panel.last)
    assert "no answer" in panel.status and panel.failed and not panel.running


def test_the_page_is_told_that_the_client_is_the_limit(server):
    panel = watched(live_traffic(server))
    panel._seen_s = float("inf")
    panel.go_on(Moment(1.0, 100.0, 50.0, client_late_s=1.0))
    assert panel.status == CLIENT
    panel.go_on(*moments(100))
    assert panel.status != CLIENT


def test_another_setting_changes_the_running_server(server):
    process, panel = server.process.pid, watched(live_traffic(server))
    run = panel.run(seconds=1.0, max_batch=4, max_waiting="none")
    assert run.moments[0].note == "largest batch: 4 requests, queue bound: none"
    assert run.moments[0].at_s < 0.1  # the clock stood still meanwhile
    assert (server.process.pid, server.settings.max_batch) == (process, 4)
    assert "queue bound" not in server.settings.protect and not panel.stale()
    assert panel.set(max_waiting=64) is None and panel.stale()


@pytest.mark.skipif(not REPLICAS, reason="a server cannot restart with more replicas yet")
def test_replicas_restart_the_server_at_its_address(server):
    url, panel = server.url, watched(live_traffic(server))
    run = panel.run(seconds=0.6, workers=2)
    assert run.moments[0].note == "replicas: 2 processes" and len(run.moments) >= 2
    assert (server.url, server.settings.workers) == (url, 2)


# --- Without a browser ---------------------------------------------------------------------------


def test_without_a_kernel_there_is_the_picture_of_the_last_run(server):
    panel = live_traffic(server)
    bundle = panel._repr_mimebundle_()
    assert WIDGET in bundle and "<img" not in bundle["text/html"]
    assert bundle["text/plain"] == repr(panel) and repr(panel).endswith("Nothing was sent yet.")
    run = panel.run(seconds=0.6)
    page = panel._repr_mimebundle_()["text/html"]
    assert page.count("<img") == 1 and repr(run) in page and repr(panel).endswith(repr(run))


def test_a_recorded_panel_has_turned_the_rate_up(slow, monkeypatch):
    monkeypatch.setenv(RECORDING, "1")
    monkeypatch.setattr(traffic_panel, "STEP_S", 0.2)
    panel = live_traffic(slow, b"", rate=800)
    assert len(panel.last.moments) >= 2 and panel.rate == 800
    assert "<img" in panel._repr_mimebundle_()["text/html"]


def test_the_panel_brings_its_own_script_and_asks_nobody():
    script, style = str(traffic_panel.LiveTraffic._esm), str(traffic_panel.LiveTraffic._css)
    assert "ResizeObserver" in script and "@container (max-width: 680px)" in style
    assert "http" not in script + style
