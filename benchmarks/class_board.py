"""The board of a class with 60 laptops that send once a second, and what is left after kill -9.

Each laptop sends a measurement every second on a connection of its own. A page reads the board's
events: the delay of a message is the time until an event shows it. Half-way the board is killed
while they send, and started again in the same folder. Lost is what it had confirmed and not kept.

python benchmarks/class_board.py
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from keeping import keep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from class_board import RunningBoard, events

from kit.core.statistics import percentile

LAPTOPS, SECONDS = 60, 30  # before the kill, and again after it
MACHINE = {
    "processor": "Intel(R) Core(TM) i5-1235U", "accelerator": "", "system": "Linux x86_64",
    "cores": 8, "cores_allowed": 8, "memory_bytes": 16e9, "copy_bytes_per_s": 1.2e10,
    "threads": 8, "clock_hz": 2.4e9, "load": 0.4, "busy_elsewhere_cores": 0.1, "on_battery": 1,
}  # fmt: skip


async def post(stream, path, body, key):
    """One request on a connection that stays open; its status."""
    reader, writer = stream
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    reply = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line[15:]) for line in reply.lower().split(b"\r\n") if b"content-length" in line
    )
    await reader.readexactly(length)
    return int(reply.split()[1])


async def laptop(running, key, i, ends_s, sent, confirmed, rng):
    """Send once a second until the end, or until the board is gone."""
    await asyncio.sleep(i / LAPTOPS)
    stream = await asyncio.open_connection("127.0.0.1", running.port)
    while time.perf_counter() < ends_s:
        value = float(rng.lognormal(2, 0.3))
        body = {"question": "02-1", "guess": 4.0, "value": value, "low": value / 1.1}
        body |= {"high": value * 1.1, "machine": MACHINE}
        sent[value] = time.perf_counter()
        try:
            assert await post(stream, "/api/measured", body, key) == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        confirmed.add(value)
        await asyncio.sleep(max(0.0, sent[value] + 1 - time.perf_counter()))
    stream[1].close()


async def page(running, seen):
    """Note when each value stands on the page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=2**20)
    key = f"authorization: Bearer {running.secret}"
    writer.write(f"GET /api/board HTTP/1.1\r\nhost: x\r\n{key}\r\n\r\n".encode())
    while line := await reader.readline():
        if line.startswith(b"data: "):
            seen["events"] = seen.get("events", 0) + 1
            for group in json.loads(line[6:])["groups"]:
                for each in group["laptops"]:
                    seen.setdefault(each["value"], time.perf_counter())


async def lesson(running, keys, rng, seconds, killed):
    """A stretch of the class: when values were sent and seen, what was confirmed, the costs."""
    sent, seen, confirmed = {}, {}, set()
    reading = asyncio.create_task(page(running, seen))
    process = psutil.Process(running.process.pid)
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    ends_s = began + seconds + 1.5 * killed
    sending = [
        asyncio.create_task(laptop(running, key, i, ends_s, sent, confirmed, rng))
        for i, key in enumerate(keys)
    ]
    await asyncio.sleep(seconds)
    share = (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began)
    rss = process.memory_info().rss
    if killed:
        process.kill()
    await asyncio.gather(*sending)
    await asyncio.sleep(1)
    reading.cancel()
    return sent, seen, confirmed, share, rss


def main(seconds=SECONDS):
    rng, delays, shares, memory, confirmed = np.random.default_rng(0), [], [], [], set()
    unseen = updates = 0
    with tempfile.TemporaryDirectory() as name:
        folder, keys = Path(name) / "class", []
        for killed in (True, False):
            running = RunningBoard(folder, "02")
            keys = keys or [running.join() for _ in range(LAPTOPS)]
            running.teacher("show")
            found = asyncio.run(lesson(running, keys, rng, seconds, killed))
            sent, seen, now_confirmed, share, rss = found
            running.kill()
            confirmed |= now_confirmed
            delays += [seen[value] - sent[value] for value in now_confirmed if value in seen]
            unseen += sum(value not in seen for value in now_confirmed)
            updates += seen["events"]
            shares.append(share)
            memory.append(rss)
        recorded = {each["value"] for each in events(folder, "measured")}
    keep(
        "class_board",
        laptops=LAPTOPS,
        seconds_s=2 * seconds,
        confirmed=len(confirmed),
        lost=len(confirmed - recorded),
        not_on_the_page=unseen,  # the board was killed between its answer and the next event
        delay_p50=percentile(delays, 50, "s"),
        delay_p99=percentile(delays, 99, "s"),
        delay_longest_s=max(delays),
        page_updates_per_s=updates / (2 * seconds),
        core_share=shares,
        memory_bytes=memory,
    )


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
