"""JupyterLab in a real browser: start it, run a notebook, draw on a canvas, watch for errors."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from strokes import Stroke

from kit.cli.lab import lab_command, lab_environment

ROOT = Path(__file__).resolve().parent.parent
expect.set_options(timeout=30_000)  # ms, at most: other tests run beside these
THEMES = "JupyterLab Dark", "JupyterLab Light"  # the last is the one that pages begin with
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """The system's Chromium or Chrome, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def need_chromium() -> str:
    """Its path; without one the test is skipped, or fails if KIT_REQUIRE_BROWSER is 1."""
    if (path := find_chromium()) is None:
        reason = "no Chromium found; on Debian: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("KIT_REQUIRE_BROWSER") == "1" else pytest.skip(reason)
    return path


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Chromium, where there is one."""
    start = {"executable_path": need_chromium(), "args": CHROMIUM_OPTIONS}
    with sync_playwright() as p, p.chromium.launch(**start) as chromium:
        yield chromium  # it ends, with its pages, also if a test failed


class Lab:
    """A running JupyterLab: where it is, and the folder that it serves."""

    def __init__(self, folder: Path):
        self.folder, self.token = folder, secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def url(self, path: str = "") -> str:
        """The address of a page: "" is the one that `make lab` opens."""
        joint = "&" if "?" in path else "?"
        return f"http://127.0.0.1:{self.port}/{path}{joint}token={self.token}"

    def notebook(self, pattern: str) -> Path:
        """The one notebook with such a name."""
        (found,) = (self.folder / "notebooks").glob(pattern)
        return found

    def end_kernels(self) -> None:
        """Shut down the kernel of each notebook."""
        with urllib.request.urlopen(self.url("api/sessions")) as answer:
            sessions = json.load(answer)
        for session in sessions:
            address = self.url(f"api/sessions/{session['id']}")
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()

    def set(self, plugin: str, **settings: object) -> None:
        """Choose settings of JupyterLab for the pages that are opened from now on."""
        file = self.folder / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab as `make lab` starts it, on a copy of the lessons, without a user's settings."""
    lab = Lab(folder)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    # Off the screen, too, outputs are made; else a test would have to scroll to each.
    lab.set("notebook-extension/tracker", windowingMode="none")
    options = [
        f"--ServerApp.port={lab.port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={lab.token}",
        "--no-browser",
    ]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            lab_command(folder, folder / "notebooks", options),
            env={**lab_environment(), **_own_folders(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(lab, server)
            yield lab
        finally:
            server.terminate()  # it ends its kernels first
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _own_folders(folder: Path) -> dict[str, str]:
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return {name: str(folder / place) for name, place in places.items()}


def _wait_until_ready(lab: Lab, server: subprocess.Popen, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(lab.url("api/status"), timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{(lab.folder / 'lab.log').read_text()}")


class Watch:
    """What went wrong in a page, and where its requests went."""

    def __init__(self, page: Page):
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("request", lambda request: self._place(request.url))
        page.on("websocket", lambda channel: self._place(channel.url))

    def _place(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.strangers.append(url)

    def check(self) -> None:
        """Fail if anything went wrong or left this computer."""
        assert not self.errors
        assert not self.strangers


def open_notebook(page: Page, lab: Lab, notebook: Path) -> None:
    """Open it, and wait until its kernel is ready; a dialog that asks for one is an error."""
    page.goto(lab.url(f"lab/tree/notebooks/{notebook.name}?reset"))
    # Not the notebook's own indicator: that one is idle before there is a kernel, too, and cells
    # that are run without one only lose their outputs.
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
    expect(page.locator(".jp-Dialog")).to_have_count(0)


def run_all(page: Page, notebook: Path, patience_s: float = 180) -> list[dict]:
    """Run all cells, save, and return the code cells as saved."""
    page.get_by_role("menubar").get_by_text("Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-Notebook .jp-InputPrompt")
    expect(prompts.filter(has_text=re.compile(r"\[\d+\]")).first).to_be_visible(timeout=60_000)
    waiting = prompts.filter(has_text="[*]")
    expect(waiting).to_have_count(0, timeout=patience_s * 1_000)
    before = notebook.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    while notebook.stat().st_mtime_ns == before or not notebook.read_text().endswith("}\n"):
        page.wait_for_timeout(100)
    cells = json.loads(notebook.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def choose_theme(page: Page, theme: str) -> None:
    """Choose JupyterLab's colours in its menu, where they are others."""
    chosen = page.locator(f"body[data-jp-theme-name='{theme}']")
    if chosen.count():
        return
    page.get_by_role("menubar").get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text(theme, exact=True).click()
    expect(chosen).to_have_count(1)


def draw(page: Page, canvas: Locator, strokes: list[Stroke]) -> None:
    """Draw with the mouse; x and y of the strokes go from 0 to 1."""
    for stroke in strokes:
        (x, y), *rest = _on_page(canvas, stroke)
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in rest:
            page.mouse.move(x, y, steps=3)
        page.mouse.up()


def draw_by_touch(page: Page, canvas: Locator, strokes: list[Stroke]) -> None:
    """Draw with a finger: real touches, so a page that scrolls instead would show."""
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        touch_points = [{"x": x, "y": y} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touch_points})

    for stroke in strokes:
        first, *rest = _on_page(canvas, stroke)
        send("touchStart", first)
        for point in rest:
            send("touchMove", point)
        send("touchEnd")


def _on_page(canvas: Locator, stroke: Stroke) -> list[tuple[float, float]]:
    box = canvas.bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
