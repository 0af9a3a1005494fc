"""Build the site: `make site`, or `python docs/_site/build.py --out build/site`.

It writes the sources beside the site, to build/site-sources, then runs Sphinx, for which a warning
is an error. What has not changed is not read again.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

# As in kit/cli/main.py: jsonschema need not build its grammar of web addresses, for 1.6 s.
sys.modules.setdefault("rfc3987_syntax", None)

import overviews  # noqa: E402
import reference  # noqa: E402
from places import ROOT, Links, place, repository, shown, without_remarks, write_if_new  # noqa: E402
from recorded_notebooks import Notebook, page  # noqa: E402

from kit.classroom.releasing import binder_link  # noqa: E402


def sources(address: str, branch: str) -> dict[str, str | bytes]:
    """Place -> content of every source of the site; without an address, no links to Binder."""
    links = Links()
    lessons = [Notebook.read(path) for path in shown("notebooks/*.ipynb")]
    experiments = [Notebook.read(path) for path in shown("notebooks/experiments/*.ipynb")]
    made: dict[str, str | bytes] = {
        "index.md": overviews.start_page(lessons, experiments, links),
        "experiments/index.md": overviews.experiments_page(experiments),
        "report-card.md": overviews.report_card_page(lessons),
        **dict(reference.pages()),
    }
    for notebook in [*lessons, *experiments]:
        binder = binder_link(address, branch, notebook.path) if address else ""
        made[f"{notebook.doc}.ipynb"] = page(notebook, links, binder)
    for path in shown("*.md", "docs/*.md", "docs/gallery/*.md", "notebooks/glossary.md"):
        if path != "README.md":
            text = without_remarks((ROOT / path).read_text(encoding="utf-8"))
            made[place(path) or ""] = links.rewrite(text, path)
    # In the repository, a term is a heading of the third level, which lessons link to.
    made["glossary.md"] = str(made["glossary.md"]).replace("\n### ", "\n## ")
    made["benchmarks.md"] = f"{made['benchmarks.md']}{overviews.results_table()}"
    for path in shown("notebooks/pictures/*"):
        made[place(path) or ""] = (ROOT / path).read_bytes()
    results = [p.relative_to(ROOT).as_posix() for p in (ROOT / overviews.RESULTS).glob("*.json")]
    return made | {f"files/{path}": (ROOT / path).read_bytes() for path in [*links.files, *results]}


def write(made: dict[str, str | bytes], folder: Path) -> None:
    """Write the sources, and remove those of pages that are no longer made."""
    for where, content in made.items():
        write_if_new(folder / where, content)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in made:
            path.unlink()


def build(out: Path, address: str = "", branch: str = "main") -> int:
    """Write the site to a folder; 0 if all is well, as Sphinx says it."""
    from sphinx.cmd.build import build_main

    made, read = (out.with_name(f"{out.name}-{name}") for name in ("sources", "read"))
    write(sources(address, branch), made)
    words = ["-W", "--keep-going", "-q", "-j", "auto", "-b", "html", "-c", str(HERE.parent)]
    code = build_main([*words, "-d", str(read), str(made), str(out)])
    for path in shown("notebooks/*.ipynb", "notebooks/experiments/*.ipynb"):
        write_if_new(out / path, (ROOT / path).read_bytes())  # for download, as it was recorded
    for path in shown("notebooks/pictures/*"):
        write_if_new(out / (place(path) or ""), (ROOT / path).read_bytes())  # of the start page
    return int(code)


def main() -> None:
    """Build what the command line asks for."""
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    words.add_argument("--repository", default=repository(), help="for links to Binder")
    words.add_argument("--branch", default=os.environ.get("GITHUB_REF_NAME", "main"))
    given = words.parse_args()
    code = build(given.out.resolve(), given.repository, given.branch)
    if code == 0:
        print(f"{given.out / 'index.html'}")
    sys.exit(code)


if __name__ == "__main__":
    main()
