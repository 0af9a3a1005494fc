"""Diagrams: drawn so that everyone can read them, shown with alt text, and part of each page."""

import re
from xml.etree import ElementTree

import nbformat
import pytest

from kit.core.files import NOTEBOOKS
from kit.experiments import lessons
from kit.experiments.course_pages import write_page

SVG = "{http://www.w3.org/2000/svg}"
DIAGRAMS = sorted((NOTEBOOKS / "pictures").glob("*.svg"))
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
SMALLEST = 13  # pixels of text

each_diagram = pytest.mark.parametrize("path", DIAGRAMS, ids=lambda path: path.stem)
each_lesson = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.name[:2])


def shown_in(path) -> list[tuple[str, str]]:
    """Alt text and file of the pictures in a lesson's text."""
    cells = nbformat.read(path, as_version=4).cells
    return [pair for c in cells if c.cell_type == "markdown" for pair in SHOWN.findall(c.source)]


@each_diagram
def test_a_diagram_has_its_own_light_background(path):
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    drawn = [
        each
        for each in root
        if each.tag.removeprefix(SVG) not in ("defs", "style", "title", "desc")
    ]
    back = drawn[0]
    assert back.tag == f"{SVG}rect"
    place = {"x": "0", "y": "0", **back.attrib}
    assert [float(place[name]) for name in ("x", "y", "width", "height")] == [
        *(left, top, width, height)
    ]
    shade = back.attrib["fill"].removeprefix("#")
    digits = [shade[i : i + len(shade) // 3] for i in range(0, len(shade), len(shade) // 3)]
    if shade != "white":
        assert all(int((digit * 2)[:2], 16) >= 0xE0 for digit in digits), shade


@each_diagram
def test_a_diagram_can_be_read_and_loads_nothing(path):
    text = path.read_text(encoding="utf-8")
    sizes = re.findall(r'font-size(?:="|:\s*)([\d.]+)', text)
    assert sizes and all(float(size) >= SMALLEST for size in sizes)
    assert "sans-serif" in text
    loads = r'<script|<foreignObject|<image|\son\w+="|href="(?!#)|url\((?!#)'
    assert not re.search(loads, text)


@each_diagram
def test_a_diagram_belongs_to_a_lesson(path):
    (lesson,) = [each for each in lessons() if each.name[:2] == path.name[:2]]
    assert f"pictures/{path.name}" in [file for _, file in shown_in(lesson)]


@pytest.mark.slow
@each_lesson
def test_a_lesson_shows_diagrams_with_alt_text_and_its_page_contains_them(path, tmp_path):
    shown = shown_in(path)
    assert shown and all(len(alt) >= 20 and (path.parent / file).is_file() for alt, file in shown)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    page = write_page(copy).read_text(encoding="utf-8")
    assert 'src="pictures/' not in page
    for alt, file in shown:
        assert file.endswith(".svg") and re.search(rf'alt="{re.escape(alt)}"', page)
    assert page.count("data:image/svg+xml;base64,") >= len(shown)


def test_a_page_takes_pictures_from_the_lessons_folder_only(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "77-a.svg").write_text("<svg/>")
    (tmp_path / "secret.svg").write_text("<svg/>")
    names = ("pictures/77-a.svg", "pictures/../secret.svg", "secret.svg", "pictures/none.svg")
    cell = nbformat.v4.new_markdown_cell("\n\n".join(f"![{name}]({name})" for name in names))
    made = nbformat.v4.new_notebook(cells=[cell], metadata={"language_info": {"name": "python"}})
    nbformat.write(made, tmp_path / "77-b.ipynb")
    page = write_page(tmp_path / "77-b.ipynb", pictures=tmp_path / "mine").read_text()
    assert page.count("data:image/svg+xml;base64,PHN2Zy8+") == 1
    assert page.count("src=") == 1 and "pictures/none.svg" in page  # the others: their alt text
