"""Run the programs of the README, the gallery and "Your own model"; store what they print there.

    python docs/record_outputs.py [PAGE.md …]

The Python blocks of a page are one program. A block that begins with a comment that is a file's
name, such as `# my_model.py`, is saved under that name first. A `text` block shows what the Python
block before it printed; only these blocks, and the line below the last of them, are replaced.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

DOCS = Path(__file__).parent
GALLERY = sorted(path for path in (DOCS / "gallery").glob("*.md") if path.stem != "index")
PAGES = [DOCS.parent / "README.md", *GALLERY, DOCS / "your-own-model.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.(?:py|yaml))\n")
END = "\x00"  # printed after each block
MEASURED = re.compile(r"^Measured on .*\.$", re.MULTILINE)
# What differs from run to run: verdicts, and the numbers with their units.
VERDICT = r"faster|slower|same within|same|cannot tell|not valid|valid|may be valid or not|never"
NUMBER = r"[−-]?\d[\d,.]*(e[+-]?\d+)?"
UNIT = r"(?:[kMGTµmn]?(?:s|B|FLOP|/s)|B/s|FLOP/s|%|×|h|min)(?:\b|(?<=[%×]))"


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each block."""
    return BLOCK.findall(page)


def files(page: str) -> dict[str, str]:
    """Name -> content of the blocks that a reader saves."""
    named = ((FILE.match(text), text) for _, text in blocks(page))
    return {match[1]: text for match, text in named if match}


def programs(page: str) -> list[str]:
    """The Python blocks that a reader runs, in order."""
    return [text for kind, text in blocks(page) if is_program(kind, text)]


def is_program(kind: str, text: str) -> bool:
    """Whether a block is run here: not a file, and nothing that needs a package of others."""
    return kind == "python" and not FILE.match(text) and not text.startswith("from transformers")


def run(page: str, folder: Path) -> list[str]:
    """What each program block prints, run in one process as a reader would, in an empty folder."""
    for name, text in files(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    code = f"print({END!r})\n".join([*programs(page), ""])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])[1:]},
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return [part.lstrip("\n") for part in done.stdout.split(END)[:-1]]


def shown(page: str) -> list[str | None]:
    """For each program block, the text block that comes next; None if none does."""
    found = blocks(page)
    pairs = zip(found, [*found[1:], ("", "")], strict=True)
    return [text if kind == "text" else None for first, (kind, text) in pairs if is_program(*first)]


def with_outputs(page: str, printed: list[str]) -> str:
    """The page with these outputs in its text blocks."""
    new = iter([text for text, old in zip(printed, shown(page), strict=True) if old is not None])
    return BLOCK.sub(lambda m: f"```text\n{next(new)}```\n" if m[1] == "text" else m[0], page)


def shape(text: str) -> list[str]:
    """A text without what differs between machines: numbers, units, verdicts, what matters most."""
    lines = []
    for line in text.strip().splitlines():
        line = re.sub(r"\[[^]]*\]", "[]", line)
        line = re.sub(rf"{NUMBER}(?:\s?{UNIT})?", "#", line)
        line = re.sub(r"(which depends most on ).*", r"\1…", line)
        lines.append(" ".join(re.sub(rf"\b(?:{VERDICT})\b( #)?", "VERDICT", line).split()))
    return lines


def record(path: Path) -> None:
    """Run the page and store its outputs, with machine and date."""
    from kit.devices import machine

    page = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        page = with_outputs(page, run(page, Path(folder)))
    line = f"Measured on {machine()!r}, {date.today().isoformat()}."
    path.write_text(MEASURED.sub(line, page), encoding="utf-8")


if __name__ == "__main__":
    for each in [Path(name) for name in sys.argv[1:]] or PAGES:
        print(each)
        record(each)
