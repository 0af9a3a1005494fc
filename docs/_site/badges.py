"""Binder badges of the lessons in the README: `python docs/_site/badges.py` writes them.

They need the repository's public address, `Repository` under `[project.urls]` in pyproject.toml.
Without one, the README has no badges, because each would lead nowhere.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from places import ROOT, repository  # noqa: E402

from kit.classroom.releasing import binder_link  # noqa: E402

BADGE = "docs/_site/static/binder.svg"
HEAD = re.compile(r"^\| \| question \|.*\|$", re.MULTILINE)
LINE = re.compile(r"^\| --- \| --- \| --- \| --- \|.*$", re.MULTILINE)
ROW = re.compile(r"^(\| \[(\d\d)\]\((notebooks/[^)]+)\)(?: \|[^|\n]*){3} \|).*$", re.MULTILINE)


def with_badges(readme: str, address: str, branch: str = "main") -> str:
    """The README with a badge for each lesson, or without badges if no address is set."""

    def badge(row: re.Match[str]) -> str:
        link = binder_link(address, branch, row[3]) if address else ""
        return f"{row[1]} [![Run lesson {row[2]} on Binder]({BADGE})]({link}) |" if link else row[1]

    last = " run it |" if address else ""
    readme = HEAD.sub(f"| | question | minutes (with the code) | claims decided |{last}", readme)
    readme = LINE.sub(f"| --- | --- | --- | --- |{' --- |' if address else ''}", readme)
    return ROW.sub(badge, readme)


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(with_badges(page.read_text(encoding="utf-8"), repository()), encoding="utf-8")
