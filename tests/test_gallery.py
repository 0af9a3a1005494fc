"""The gallery: each program runs as it stands, is short, and prints what its page shows."""

import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import record_outputs  # noqa: E402

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in record_outputs.GALLERY}
INDEX = (ROOT / "docs" / "gallery" / "index.md").read_text(encoding="utf-8")
page = pytest.mark.parametrize("name", PAGES)


def test_the_index_lists_the_twelve_by_their_titles():
    listed = dict(re.findall(r"\[([^]]+)\]\(([\w-]+)\.md\)", INDEX))
    titles = {text.splitlines()[0].removeprefix("# "): name for name, text in PAGES.items()}
    assert listed == titles and len(titles) == 12


@page
def test_a_page_has_one_short_program_its_output_and_the_machine(name):
    (code,), (shown,) = record_outputs.programs(PAGES[name]), record_outputs.shown(PAGES[name])
    lines = code.strip().splitlines()
    assert len(lines) <= 15 and max(map(len, lines)) <= 100
    assert shown is not None and re.search(r"Measured on .*, 20\d\d-\d\d-\d\d\.", PAGES[name])
    for verdict in ("faster", "slower", "cannot tell", "valid"):  # the kit says it, not the page
        assert not re.search(rf"\b{verdict}\b", code)
    for link in re.findall(r"\]\(([^)#]+)", PAGES[name]):
        assert (ROOT / "docs" / "gallery" / link).exists(), link


@page
def test_a_program_prints_what_its_page_shows(name, tmp_path, monkeypatch):
    """In this process, where PyTorch is loaded: importing it takes longer than most programs."""
    monkeypatch.chdir(tmp_path)
    (code,), (shown,) = record_outputs.programs(PAGES[name]), record_outputs.shown(PAGES[name])
    with redirect_stdout(StringIO()) as printed:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    found, wanted = map(record_outputs.shape, (printed.getvalue(), shown))
    assert len(found) == len(wanted)
    for line, old in zip(found, wanted, strict=True):
        assert words(line) == words(old) or name in VARYING, (line, old)
    assert not list(tmp_path.iterdir()), "a program of the gallery writes no file"


# Pages whose sentence depends on the machine by more than numbers: a device, a search, an alarm.
VARYING = {
    "is-my-gpu-any-good", "how-many-users-can-one-server-serve", "has-my-data-drifted",
    "what-will-it-cost-over-a-year", "will-it-meet-a-deadline", "serve-it",
}  # fmt: skip


def words(line):
    """A line without brackets, which an unknown interval fills with a word."""
    return re.sub(r"\[[^]]*\]", "", line).split()
