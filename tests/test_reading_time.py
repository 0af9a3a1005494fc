"""The minutes that a lesson names are those that it takes, for readers with English as a second
language: by counting words, pictures, tables, guesses and lines of code.
"""

import re
from html import unescape

import nbformat
import pytest

from kit.experiments.execution import lessons

STATED = r"Reading (\d+) min \((\d+) with the code\)"

WORDS_A_MINUTE = 150
PICTURE_S, TABLE_S, CODE_LINE_S, GUESS_S = 20, 20, 10, 30


def minutes(notebook) -> tuple[float, float]:
    """Minutes for the text and the outputs, and for these and the code."""
    words = seconds = lines = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            seconds += PICTURE_S * cell.source.count("![")
            text = re.sub(r"<!--.*?-->|!\[.*?\]\(.*?\)", "", cell.source, flags=re.DOTALL)
            words += count(re.sub(r"\]\(.*?\)", "", text))
        else:
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
            seconds += GUESS_S * ("kit.guess" in cell.source)
            for output in cell.outputs:
                html = "".join(output.get("data", {}).get("text/html", ""))
                seen = re.sub(r"<(details|style|script|svg).*?</\1>", "", html, flags=re.DOTALL)
                seconds += TABLE_S * seen.count("<table") + PICTURE_S * len(
                    re.findall(r"<(?:img|svg)", html)
                )
                if "<table" not in seen:  # a sentence
                    words += count(unescape(re.sub(r"<[^>]*>", " ", seen)))
    reading = words / WORDS_A_MINUTE + seconds / 60
    return reading, reading + lines * CODE_LINE_S / 60


def count(text: str) -> int:
    """How many words it has."""
    return len(re.findall(r"[^\W_][\w’'-]*", text))


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_the_stated_minutes_are_true(path):
    notebook = nbformat.read(path, as_version=4)
    stated = [int(found) for found in re.search(STATED, notebook.cells[0].source).groups()]
    assert stated == pytest.approx(minutes(notebook), rel=0.25)


def test_each_kind_of_content_takes_its_time():
    new = nbformat.v4
    text = new.new_markdown_cell("word " * 150 + "<!-- construction -->")
    code = new.new_code_cell("\n".join("x = 1" for _ in range(6)))
    table = {"text/html": "<table></table><details>" + "word " * 150 + "</details>"}
    code.outputs = [new.new_output("display_data", table)]
    assert minutes(new.new_notebook(cells=[text])) == (1, 1)
    assert minutes(new.new_notebook(cells=[code])) == pytest.approx((1 / 3, 4 / 3))
