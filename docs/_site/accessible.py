"""Pages that people can use by keyboard and by ear: what each box that scrolls is called.

`finished` takes the HTML of a page's body, as Sphinx made it, and gives it back with names for all
boxes that can be wider than a phone, with headings of tables that screen readers understand, and
with a link from each picture to a table.
"""

from collections import defaultdict

from bs4 import BeautifulSoup
from bs4.element import Tag

LONG_LINE = 38  # characters: longer lines scroll on a phone that is 390 px wide
CAPTION = 60  # characters of a table's name


def finished(body: str) -> str:
    """The body of a page, accessible."""
    soup = BeautifulSoup(body, "html.parser", store_line_numbers=False)
    tags = defaultdict(list)  # one walk for all: a search for each of them takes seconds
    for tag in soup.find_all(True):
        tags[tag.name].append(tag)
    for style in tags["style"]:
        style.decompose()  # for JupyterLab alone
    for head in tags["th"]:
        if not head.get_text(strip=True):
            head.name = "td"  # an empty header is not a header
            del head["scope"]
    for entry in filter(_is_signature, tags["dt"]):
        for part in entry.find_all(["dl", "dd"]):
            part.name = "div"  # the lines of a long signature are not a list of definitions
    _tables(tags["table"], soup)
    _pictures(tags["figure"], soup)
    _code(tags["pre"])
    return str(soup)


def _is_signature(tag: Tag) -> bool:
    return "sig" in tag.get("class", [])


def _tables(tables: list[Tag], soup: BeautifulSoup) -> None:
    for number, table in enumerate(tables, 1):
        box = table.find_parent(class_="kit-scroll")
        if box is None:
            box = soup.new_tag("div", attrs={"class": "kit-scroll"})
            table.wrap(box)
        for inner in box.find_all(tabindex=True):
            del inner["tabindex"]
        del box["style"]  # the site's own style says how it scrolls
        box.attrs |= {"tabindex": "0", "role": "region", "aria-label": _name(table, number)}
        box["id"] = f"table-{number}"


def _name(table: Tag, number: int) -> str:
    """A name that no other table of the page has: its number and its columns."""
    top = table.thead.find_all("th") if table.thead else []
    heads = [head.get_text(" ", strip=True) for head in top]
    columns = ", ".join(filter(None, heads))
    short = columns if len(columns) <= CAPTION else columns[:CAPTION].rpartition(", ")[0] + " …"
    return f"Table {number}: {short}" if short else f"Table {number}"


def _pictures(figures: list[Tag], soup: BeautifulSoup) -> None:
    """A link to the nearest table of its section for a picture that has no table of its own.

    Pictures that were recorded before they carried their numbers have none.
    """
    for figure in filter(_is_measured, figures):
        section = figure.find_parent("section")
        if section is None or any(part.find("table") for part in figure.find_all("details")):
            continue
        beside = [*figure.find_all_previous(_free_table), *figure.find_all_next(_free_table)]
        if box := next((box for box in beside if box.find_parent("section") is section), None):
            link = soup.new_tag("a", href=f"#{box['id']}", string=f"table {box['id'][6:]}")
            line = soup.new_tag("p", attrs={"class": "beside"})
            line.extend(["Numbers beside it: ", link])
            figure.append(line)


def _is_measured(figure: Tag) -> bool:
    """Whether it is a picture among the outputs of a cell."""
    shown = figure.find(["img", "svg"], recursive=False) is not None
    return shown and figure.find_parent(class_="cell_output") is not None


def _free_table(tag: Tag) -> bool:
    """Whether it is the box of a table that is not the numbers of a picture."""
    return "kit-scroll" in tag.get("class", []) and tag.find_parent("details") is None


def _code(boxes: list[Tag]) -> None:
    shown = [box for box in boxes if _is_code(box)]
    for number, box in enumerate(shown, 1):
        lines = box.get_text().splitlines()
        if max(map(len, lines), default=0) > LONG_LINE:
            kind = "Output" if box.find_parent(class_="cell_output") else "Code"
            box.attrs |= {"tabindex": "0", "role": "region", "aria-label": f"{kind} {number}"}


def _is_code(box: Tag) -> bool:
    highlighted = box.find_parent("div", class_="highlight") is not None
    return highlighted or "literal-block" in box.get("class", [])
