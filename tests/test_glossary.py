"""The glossary: in order, short, used by the lessons, and part of each page that links to it."""

import re

import nbformat
import pytest

from kit.cli.lab import copy_lessons
from kit.core.files import NOTEBOOKS
from kit.experiments import lessons
from kit.experiments.course_pages import glossary, write_page

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(glossary\.md(?:#([^)\s]*))?(?:\s+\"([^\"]*)\")?\)")

each_entry = pytest.mark.parametrize("anchor", glossary())
each_lesson = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.name[:2])


def sentences(anchor: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", glossary()[anchor][1])


def links_in(path) -> list[tuple[str, str]]:
    """Anchor and title of a lesson's links to the glossary."""
    cells = nbformat.read(path, as_version=4).cells
    return [link for c in cells if c.cell_type == "markdown" for link in LINK.findall(c.source)]


def test_the_terms_are_in_order():
    terms = [term for term, _ in glossary().values()]
    assert terms == sorted(terms, key=str.casefold)
    assert len(terms) == len(glossary()) == (NOTEBOOKS / "glossary.md").read_text().count("\n### ")


@each_entry
def test_a_term_is_explained_in_one_or_two_sentences(anchor):
    term, text = glossary()[anchor]
    assert re.fullmatch(r"[\w-]+", anchor) and text.endswith(".")
    assert len(sentences(anchor)) <= 2 and "\n" not in text
    assert '"' not in sentences(anchor)[0]  # it is the title of links
    named = re.split(r"\W", term.casefold())[0]
    assert named in sentences(anchor)[0].casefold()


@each_lesson
def test_a_link_shows_the_first_sentence_of_its_entry(path):
    for anchor, title in links_in(path):
        assert anchor in glossary(), f"{path.name}: glossary.md has no #{anchor}"
        assert title == sentences(anchor)[0], f"{path.name}: #{anchor}"
    anchors = [anchor for anchor, _ in links_in(path)]
    assert len(anchors) == len(set(anchors))  # at first use only


def test_each_term_is_used_by_some_lesson():
    used = {anchor for path in lessons() for anchor, _ in links_in(path)}
    assert set(glossary()) == used


def test_a_page_contains_the_entries_that_it_links_to(tmp_path):
    text = f'# A\n\nA [score](glossary.md#logit "{sentences("logit")[0]}") of a model.'
    cells = [nbformat.v4.new_markdown_cell(text)]
    made = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(made, tmp_path / "a.ipynb")
    page = write_page(tmp_path / "a.ipynb").read_text(encoding="utf-8")
    assert '<a href="#logit" title="A logit is' in page and 'id="logit"' in page
    assert sentences("logit")[1] in page and "glossary.md" not in page
    assert 'id="batch"' not in page


def test_a_page_without_links_has_no_glossary(tmp_path):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A")])
    made.metadata["language_info"] = {"name": "python"}
    nbformat.write(made, tmp_path / "a.ipynb")
    assert "Glossary" not in write_page(tmp_path / "a.ipynb").read_text(encoding="utf-8")


def test_glossary_and_pictures_travel_with_a_copy_of_the_lessons(tmp_path):
    copy_lessons(NOTEBOOKS, tmp_path)
    for name in ("glossary.md", *(f"pictures/{p.name}" for p in NOTEBOOKS.glob("pictures/*"))):
        assert (tmp_path / name).read_bytes() == (NOTEBOOKS / name).read_bytes()
