"""Plain English: phrases and names that a reader meets twice before understanding them stay out."""

import ast
import io
import re
import token
import tokenize
from bisect import bisect
from itertools import accumulate
from pathlib import Path

import pytest

import kit

PACKAGE = Path(kit.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Pages, templates and claims are prose from the first character to the last.
TEXTS = sorted(
    [path for kind in ("*.toml", "*.j2", "*.html", "*.md") for path in PACKAGE.rglob(kind)]
    + [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)

# Verbs after "one" that show that it means a person.
DOES = "can|cannot|may|must|should|would|wants|needs|likes|reads|types|sees|asks|knows|takes|gets"
# A phrase, within or across lines -> what to write instead.
PHRASES = {
    r"whoever|whosoever": "'who' in a sentence with a subject, or 'you'",
    r"anew": "'again'",
    r"so many": "the number, or 'this many'",
    r"a great many": "'many'",
    r"as one likes": "'as you like'",
    rf"(as|what|when|where|which|if|that|than|,) one ({DOES})": "'you', or the thing's name",
    r"of one's own|over one's own|one's (self|way)": "'your own'",
    r"(?<!there )(is|are|was|were) no(?! (longer|more|less|fewer|better|worse|faster|larger))":
        "'is not a …', or what it is",
    r"without more ado": "what is left out",
    r"told (apart )?from": "'distinguished from'",
    r"ere|thereof|therein|whence|thence|henceforth|thereby|wherein|whereof": "a plain word",
    r"at one sitting|in one sitting|a sitting": "a number of lines or minutes",
    r"bids|bade|bidden|hither|thither": "a plain word",
    r"gather(s|ed)? from": "'read from', 'learn from'",
    r"be had": "'be obtained', or the subject that has it",
}  # fmt: skip
# A name -> what to call it.
NAMES = {
    "told": "caption, text, message or sentence",
    "kept": "cached, saved or stored",
    "strangers": "untrusted",
    "anew": "without_cache",
}


def prose(source: str) -> str:
    """The comments and strings of a program where they stand; each character of code is a bar."""
    lines = source.splitlines(keepends=True)
    shown = [re.sub(r"\S", "|", line) for line in lines]
    wanted = (token.STRING, token.COMMENT, getattr(token, "FSTRING_MIDDLE", -1))
    for each in tokenize.generate_tokens(io.StringIO(source).readline):
        if each.type not in wanted:
            continue
        (first, start), (last, end) = each.start, each.end
        for number in range(first - 1, last):
            a = start if number == first - 1 else 0
            b = end if number == last - 1 else len(lines[number])
            shown[number] = shown[number][:a] + lines[number][a:b] + shown[number][b:]
    # Sentences go on over the marks of comments and of strings that follow each other.
    text = "".join(shown)
    return re.sub(r"""^(\s*)#|["\\#]""", lambda m: (m[1] or "") + " ", text, flags=re.MULTILINE)


def found(text: str) -> list[tuple[int, str, str]]:
    """(line, phrase, what to write instead) of each phrase in a text that should not be there."""
    words = list(re.finditer(r"\S+", text))
    starts = [0, *accumulate(len(word[0]) + 1 for word in words)]
    line, hits = " ".join(word[0] for word in words), []
    for phrase, instead in PHRASES.items():
        for hit in re.finditer(rf"(?<![\w'-])(?:{phrase})(?![\w-])", line, re.IGNORECASE):
            at = words[bisect(starts, hit.start()) - 1].start()
            hits.append((text.count("\n", 0, at) + 1, hit[0], instead))
    return sorted(hits)


def report(path: Path, hits: list[tuple[int, str, str]]) -> str:
    where = path.relative_to(ROOT)
    return "\n".join(f"{where}:{line}: '{what}': write {instead}" for line, what, instead in hits)


def names(source: str) -> list[tuple[int, str, str]]:
    """(line, name, what to call it) of each thing in a program that is called so."""
    hits = set()
    for node in ast.walk(ast.parse(source)):
        kinds = {ast.Name: "id", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name"}
        name = getattr(node, kinds.get(type(node), ""), None)
        if name in NAMES:
            hits.add((node.lineno, name, NAMES[name]))
    return sorted(hits)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_program_speaks_plainly(path):
    source = path.read_text(encoding="utf-8")
    hits = found(prose(source)) + names(source)
    assert not hits, f"\n{report(path, hits)}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_speaks_plainly(path):
    hits = found(path.read_text(encoding="utf-8"))
    assert not hits, f"\n{report(path, hits)}"


# --- The check itself ----------------------------------------------------------------------------

WRONG = '''
def f(told):  # there are so
    # many of them
    """Whoever comes."""
    raise ValueError("this is "
                     "no number")
'''


def test_phrases_are_found_in_comments_and_strings_where_they_begin():
    lines = {what: line for line, what, _ in found(prose(WRONG))}
    assert lines == {"so many": 2, "Whoever": 4, "is no": 5}
    assert names(WRONG) == [(2, "told", NAMES["told"])]


def test_code_and_harmless_sentences_are_let_through():
    assert not found(prose("anew = is_no = whoever(1)"))
    assert not found("It is no longer needed. It is no faster. It is renewed, not 'newer'.")
    assert not found("the first one can fail; each one may be missing; one example")
    assert found("as one likes")
