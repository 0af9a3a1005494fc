"""The README and the pages that it leads to tell the truth: commands, code, tree, tables, links."""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from kit.cli.main import main
from kit.course.claims import ledger
from kit.experiments import lessons

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import print_tables  # noqa: E402

NAMES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
README, RESULTS = PAGES["README.md"], PAGES["docs/results.md"]


def blocks(language, page=None):
    texts = "\n".join(PAGES.values()) if page is None else PAGES[page]
    found = re.findall(r"^```(\w*)\n(.*?)^```", texts, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands():
    long = [block.replace("\\\n", "") for block in blocks("sh")]  # a line may go on in the next one
    lines = [line.split("#")[0].strip() for block in long for line in block.splitlines()]
    inline = re.findall(r"`((?:make|kit|python3) [^`]+)`", "\n".join(PAGES.values()))
    return list(dict.fromkeys([*filter(None, lines), *inline]))


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("make")])
def test_make_knows_the_target(line):
    run([*shlex.split(line), "--dry-run"])


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("kit")])
def test_the_command_line_knows_the_words(line, tmp_path, monkeypatch):
    words = shlex.split(line)[1:]
    if (
        words[0] == "run" and len(words) > 1
    ):  # everything but the run itself: parameters are checked before it
        from kit.experiments import check_parameters, find_notebook

        words = words[: words.index("--out")] if "--out" in words else words
        given = dict(zip(words[3::3], words[4::3], strict=True))
        (own,) = (code for code in blocks("python", "docs/experimenter.md") if "from_data" in code)
        (tmp_path / "mine.py").write_text(own.split("model = work")[0], encoding="utf-8")
        (tmp_path / "my_model.py").write_text(OWN[0], encoding="utf-8")
        monkeypatch.setenv("KIT_FOLDER", str(tmp_path))
        check_parameters(find_notebook(words[1]), given, here=False)
    answer = CliRunner().invoke(main, [words[0], "--help"])
    assert answer.exit_code == 0, answer.output


def words_of(line):
    return set(re.findall(r"\w+", line))


PIP = [line for line in commands() if " pip install " in line]  # some ask for a part of another


@pytest.mark.parametrize(
    "line", [a for a in PIP if not any(words_of(a) < words_of(b) for b in PIP)]
)
def test_the_pip_lines_resolve_under_the_lock(line):
    words = shlex.split(line)
    assert words[0] == ".venv/bin/python"
    if "uv" in words and "--torch-backend" in words:
        words[words.index("--torch-backend") : words.index("--torch-backend") + 2] = []
        words[words.index("--python") + 1] = sys.executable
    # 0 is pip's way to say: no isolated environment for the build. `make test` has made one before.
    environment = {**os.environ, "UV_OFFLINE": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    run([sys.executable, *words[1:], "--dry-run"], env=environment)


def test_windows_and_unix_lines_are_the_same():
    (windows,) = blocks("bat")
    unix = blocks("sh", "docs/install.md")[0]
    same = windows.replace("Scripts\\", "bin/").replace("\\", "/")
    assert same.replace("py -m", "python3 -m", 1) == unix


@cache
def printed(code):
    """What a program prints, run as a reader would, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The programs of one page follow each other: `test_own_model` runs them.
OWN = blocks("python", "docs/your-own-model.md")


@pytest.mark.parametrize("code", [code for code in blocks("python") if code not in OWN])
def test_the_code_runs(code):
    shown = r"right on \d+ test examples|100 tokens after 4|^http://127.0.0.1:\d+$"
    assert re.search(shown, printed(code))


def form(line):
    """A line of output without its numbers and units, which differ from machine to machine."""
    return re.sub(r"[\d.,]+|\b[mµn]s\b|\bs\b", "", re.sub(r"\[[^]]*\]", "[]", line)).split()


def test_the_first_program_prints_what_the_readme_shows():
    (code,), (shown,) = blocks("python", "README.md"), blocks("text", "README.md")
    assert list(map(form, printed(code).splitlines())) == list(map(form, shown.splitlines()))


def test_the_tree_is_the_tree():
    (tree,) = [b for b in blocks("", "CONTRIBUTING.md") if b.startswith("kit/")]
    rooms = re.findall(r"^  (\S+)", tree, flags=re.MULTILINE)
    there = {
        path.name + "/" * path.is_dir()
        for path in (ROOT / "kit").iterdir()
        if not path.name.startswith("__") and path.name != "py.typed"
    }
    assert set(rooms) == there
    tops = re.findall(r"^(\w+)/", tree, flags=re.MULTILINE)
    assert all((ROOT / top).is_dir() for top in tops)


def test_it_says_how_many_claims_have_an_experiment():
    measured = sum(bool(claim.lessons) for claim in ledger().values())
    some = f"{measured} of the {len(ledger())} claims have an experiment so far."
    sentence = f"All {measured} claims have an experiment." if measured == len(ledger()) else some
    assert sentence in README


def test_the_table_of_lessons_is_the_lessons():
    for path in lessons():
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()
        text, code = re.search(r"Reading (\d+) min \((\d+) with the code\)", title[2]).groups()
        claims = " ".join(id for id, c in ledger().items() if path.name[:2] in c.lessons) or "–"
        link = f"[{path.name[:2]}](notebooks/{path.name})"
        assert f"| {link} | {title[0][2:]} | {text} ({code}) | {claims} |" in README


@pytest.mark.parametrize(
    # The figures before need the whole history: `test_benchmark_scripts` compares them.
    "command",
    [each for each in print_tables.TABLES if each != "before_and_after.py"],
)
def test_the_tables_of_results_are_the_measured_ones(command, monkeypatch, capsys):
    """No number is typed by hand: the benchmark prints the table from what it has kept."""
    script, *words = command.split()
    path = ROOT / "benchmarks" / script
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.strip() in RESULTS
    assert print_tables.replaced(RESULTS, command, printed) == RESULTS  # where its command stands


def test_a_new_table_takes_the_place_of_the_old_one():
    named = "`python benchmarks/a.py table`. How it was measured."
    below = f"{print_tables.END}\n\nWhat it means.\n\n## B\n"
    page = f"# A\n\n{named}\n\n| old |\n| --- |\n| 1 |\n\nMeasured then.\n\n{below}"
    for new in ("| new |\n| --- |\n| 2 |", "| new |\n| --- |\n| 2 |\n\nOne.\n\nTwo.\n\nThree."):
        found = print_tables.replaced(page, "a.py table", f"{new}\n")
        assert found == f"# A\n\n{named}\n\n{new}\n\n{below}"
    for without in (page.replace(print_tables.END, ""), page.replace("a.py", "b.py")):
        with pytest.raises(SystemExit, match=r"needs `python benchmarks/a\.py table`"):
            print_tables.replaced(without, "a.py table", "")
    with pytest.raises(SystemExit, match="servng: prints no table"):
        print_tables.main(["servng"])


@pytest.mark.parametrize("page", NAMES)
def test_every_file_it_names_is_there(page):
    text, folder = PAGES[page], (ROOT / page).parent
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        file, _, part = link.partition("#")
        target = (folder / file) if file else ROOT / page
        assert target.exists(), link
        heads = re.findall(r"^#+ (.+)", target.read_text("utf-8"), re.MULTILINE) if part else []
        anchors = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
        assert not part or part in anchors, link
    for name in re.findall(r"`((?:kit|tests|notebooks|tools|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def test_tests_that_wait_for_a_newcomer_are_there():
    table = PAGES["CONTRIBUTING.md"].split("## Where to add what")[1].split("## The checks")[0]
    for name in set(re.findall(r"`(test_\w+)`", table)):
        assert (ROOT / "tests" / f"{name}.py").exists(), name
