"""Where each file of the repository stands in the site, and links between them.

The site's sources are copies: a page has a short address there, and a link that works in the
repository is rewritten to the page that it means.
"""

import os
import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

# A file of the repository -> its place in the site; the first pattern that fits counts. Later
# guides and examples need no line here.
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "guides/contributing.md",
    "SECURITY.md": "guides/security.md",
    "CHANGELOG.md": "changelog.md",
    "notebooks/glossary.md": "glossary.md",
    "notebooks/pictures/*": "pictures/{name}",
    "notebooks/experiments/*.ipynb": "experiments/{name}",
    "notebooks/[0-9][0-9]-*.ipynb": "lessons/{name}",
    "docs/results.md": "benchmarks.md",
    "docs/gallery/*.md": "gallery/{name}",
    "docs/*.md": "guides/{name}",
}
LINK = re.compile(r"(!?\[(?:[^][]|\[[^][]*\])*\])\(([^()\s]+)((?:\s+\"[^\"]*\")?)\)")
FENCE = re.compile(r"(^(`{3,}|~{3,}).*?^\2[`~]*[ \t]*$)", re.MULTILINE | re.DOTALL)
REMARK = re.compile(r"[ \t]*<!--.*?-->", re.DOTALL)


def repository() -> str:
    """The public address of this repository, as pyproject.toml says; "" while there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", ""))


def place(path: str) -> str | None:
    """The place in the site of a file of the repository; None if the site does not show it."""
    for pattern, where in PLACES.items():
        if fnmatch(path, pattern) and pattern.count("/") == path.count("/"):
            return where.format(name=PurePosixPath(path).name)
    return None


def shown(*patterns: str) -> list[str]:
    """The files of the repository that fit, by name: those that make pages."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [name for name in names if place(name)]


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The Markdown with all changed but its blocks of code."""
    parts = FENCE.split(text)  # text, block, its fence, text, block, its fence, … text
    return "".join(
        change(part) if i % 3 == 0 else part for i, part in enumerate(parts) if i % 3 != 2
    )


class Links:
    """Rewrites the links of pages, and remembers which files they need beside them."""

    def __init__(self) -> None:
        self.files: set[str] = set()  # of the repository: the site offers them for download

    def rewrite(self, text: str, path: str) -> str:
        """The Markdown of a file of the repository with links that fit the site."""
        return outside_code(text, lambda part: LINK.sub(lambda m: self._link(m, path), part))

    def _link(self, match: re.Match[str], path: str) -> str:
        words, target, title = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        file, _, part = target.partition("#")
        there = os.path.normpath(os.path.join(os.path.dirname(path), file)).replace(os.sep, "/")
        if (where := place(there)) is None:
            if not (ROOT / there).is_file():
                return words.strip("![]")  # a folder, say
            self.files.add(there)
            where = f"files/{there}"
        here = os.path.dirname(place(path) or "index.md")
        link = os.path.relpath(where, here or ".").replace(os.sep, "/")
        return f"{words}({link}{'#' * bool(part)}{part}{title})"


def without_remarks(text: str) -> str:
    """The Markdown without comments, such as the marks of sentences, which readers do not see."""
    return outside_code(text, lambda part: REMARK.sub("", part))


def write_if_new(path: Path, content: str | bytes) -> None:
    """Write a source; one that is as it was stays untouched, so that Sphinx need not read it."""
    data = content.encode() if isinstance(content, str) else content
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
