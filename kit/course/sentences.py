"""Sentences of direction or cause in a lesson: each needs a mark that says why it is true.

A mark is an HTML comment after a sentence; readers do not see it. It covers the sentences of its
paragraph, list item or table since the mark before it.

<!-- construction -->           arithmetic, a definition, code that the reader sees, a sourced fact
<!-- asserted: first words -->  an `assert` of the lesson has a message that begins so
<!-- hypothesis -->             the next cells test it, and end in `kit.conclude`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

# The words that compare, or give a cause. A word is left out if it nearly always does neither.
ADJECTIVES = (
    "bigg|broad|busi|cheap|clos|deep|dear|easi|fast|few|fin|flatt|great|hard|heavi|high|larg|light"
    "|long|low|narrow|poor|quick|rar|rich|rough|safe|sharp|short|simpl|slow|small|smooth|soon"
    "|steep|strong|sur|thick|thinn|tight|weak|wid"
)
CHANGES = "climb|decreas|doubl|exceed|fall|grow|halv|increas|lower|outweigh|overtak|shrink|sink"
AMOUNTS = "accuracy|cost|loss|memory|result|score|speed|time"
NUMBER = r"\d[\d,.]*|\w+ty|three|four|five|six|seven|eight|nine|ten|(hundred|thousand)s?( of)?"
OF = "as|its|of|that|the|this|those|what"
WORDS = (
    # comparing
    rf"({ADJECTIVES})(er|est)|better|(is|are|was|works?|does|do) (the )?best|worse|worst|beats?",
    rf"than|more|most|less|least|mostly|mainly|by far|equally|the same ({AMOUNTS})s?",
    r"as (fast|good|large|many|much|often|slow) as(?! (it|there|this|that)\b)|takes? as long as",
    r"(far|well|much|just|lies?|stays?) (above|below)|dominates?|hurts?|not help|no difference",
    # changing
    rf"({CHANGES})(e?s|ed?|ing)?|(fell|grew|rise|rose|shrank)s?|speeds? up|slows? down",
    r"nothing changes|changes nothing|gains? (little|much)|saves? (bytes|energy|memory|steps|time)",
    # by how much
    rf"(twice|half|many times|several times) ({OF})|(about|by|takes?) (twice|half)|halves",
    rf"({NUMBER}) times(?! (a|an|each|in|over|per)\b)|(quarter|third|tenth|hundredth)s? of",
    rf"\d ×( ({OF})|(?! ?[\w`]))|tenfold|negligible|next to nothing",
    r"almost|barely|hardly|merely|nearly|only|scarcely",
    # why
    r"because|therefore|thus|hence|since|(due|owing|thanks) to|as a result|results in|leads? to",
    r"reasons? (for|is|that|why)|(for (this|that)|the) reason|causes|caused by|the cause of",
    r"(this|that|which) (is why|means|explains)|explained by|(is|are) what (costs|makes|takes)",
    r"follows? from|(bound|limited) by|(is|are) the (bottleneck|limit)|not depend on",
)
# "So" as a conclusion, not as in "so far".
SO = r"(?:^|[,;:–(] ?|\band )so\b(?! (?:are|called|do|does|far|few|is|long|many|much|on|that)\b)"
CLAIM = re.compile(rf"\b(?:{'|'.join(WORDS)})(?!\w)|{SO}", re.IGNORECASE)
FREE = re.compile(  # phrases of these words that compare nothing
    r"(?i)\b((any|no|once|one|read|some|two) more( time)?(?! than)|more than (one|once)|no longer"
    r"|at (best|least|most)|(other|rather)( \w+)? than|since (then|\d+))\b"
)
# A sentence that begins so asks the reader to do something, and claims nothing, unless it goes on
# after a colon or with a cause.
ASKING = re.compile(
    r"(?i)((and|but|now|so|then),? )?((add|choose|compare|compute|decide|drag|find|give|let"
    r"|look for|make|predict|put|raise|return|say|take|write)\b|(build|call|change|count|draw|guess"
    r"|measure|move|name|run|set|train|try|use) (`|(an?|all|each|how|it|one|the|which|your)\b))"
    r"(?!.*(: |\b(because|since|so|therefore)\b))"
)
MARK = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
# A call of the kit that can test a hypothesis: any that is not there to talk or to prepare.
TEST = re.compile(
    r"\bkit\.(?!(check|conclude|data|device|draw|explore|guess\w*|machine|models|plots|quiz|seed"
    r"|statistics|units|verdicts?|workloads)\b)\w"
)


def unmarked_sentences(notebook: Any) -> list[str]:
    """The sentences of direction or cause, in the markdown of a notebook, without a valid mark.

    Each line gives the number of the cell (from 0), the sentence, its words of direction or cause,
    and what to do.
    """
    messages, found = list(_messages(notebook.cells)), []
    for i, cell in enumerate(notebook.cells):
        blocks = _blocks(cell)
        for k, block in enumerate(blocks):
            *marked, last = MARK.split(block)  # prose, mark, prose, mark, …, prose
            ahead = _code_until_heading(blocks[k + 1 :], notebook.cells[i + 1 :])
            for prose, mark in zip(marked[::2], marked[1::2], strict=True):
                wrong = _wrong(mark, messages, ahead)
                found += [f"cell {i}: {_sentences(prose)[-1]} → {wrong}"] if wrong else []
            found += [f"cell {i}: {each}: needs a mark or kit.conclude" for each in _claims(last)]
    return found


def _blocks(cell: Any) -> list[str]:
    """The headings, paragraphs, list items and tables of a markdown cell, without code."""
    source = cell.source if cell.cell_type == "markdown" else ""
    text = re.sub(r"^\s*(```|~~~).*?^\s*\1", "", source, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^#.*$", r"\n\g<0>\n", text, flags=re.MULTILINE)
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.) )", text)
    return [part.strip() for part in parts if part.strip()]


def _sentences(prose: str) -> list[str]:
    """The sentences of a paragraph; without code, addresses, emphasis and what is quoted."""
    text = re.sub(r"`[^`]+`", "`…`", prose)
    text = re.sub(r'!?\[([^]]*)\]\((?:"[^"]*"|[^()])*\)', r"\1", text)
    text = re.sub(r'["“][^"”]*?([.!?]?)["”]', r"“…\1”", text)
    text = re.sub(r"^\s*([-*+>]|\d+\.) |\*+|\b_+|_+\b", "", text)
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)[”)]*\s+(?![a-z])", " ".join(text.split()))


def _claims(prose: str) -> Iterator[str]:
    """Each sentence of direction or cause, with the words that make it one."""
    # Not in a heading, and not in the line of times.
    for sentence in [] if prose.startswith(("#", "*Reading ")) else _sentences(prose):
        words = [m[0].strip(" ,;:–(") for m in CLAIM.finditer(FREE.sub("", sentence))]
        if words and not sentence.rstrip("”) ").endswith("?") and not ASKING.match(sentence):
            yield f"{sentence} → {', '.join(words)}"


def _messages(cells: list[Any]) -> Iterator[str]:
    """What the assertions of a notebook say; of an f-string, the text before its first value."""
    for cell in cells:
        with suppress(SyntaxError):  # the kernel will say so
            tree = ast.parse(cell.source if cell.cell_type == "code" else "")
            for message in [node.msg for node in ast.walk(tree) if isinstance(node, ast.Assert)]:
                text = message.values[0] if isinstance(message, ast.JoinedStr) else message
                if isinstance(text, ast.Constant):
                    yield str(text.value)


def _code_until_heading(blocks: list[str], cells: list[Any]) -> str:
    """The code that comes after these blocks and before the next heading."""
    code = ""
    while not any(block.startswith("#") for block in blocks) and cells:
        cell, *cells = cells
        blocks = _blocks(cell)
        code += cell.source + "\n" if cell.cell_type == "code" else ""
    return code


def _wrong(mark: str, messages: list[str], ahead: str) -> str:
    """What to do about a mark that is not valid; nothing if it is."""
    if mark == "construction":
        return ""
    if mark == "hypothesis":
        tested = TEST.search(ahead) and "kit.conclude(" in ahead
        return "" if tested else "hypothesis: test it, with kit.conclude, before the next heading"
    if mark.startswith("asserted:"):
        words = mark.removeprefix("asserted:").strip()
        n = sum(message.startswith(words) for message in messages)
        return "" if words and n == 1 else f"{mark}: begins {n} messages of asserts; needs just one"
    return f"unknown mark {mark!r}: needs construction, asserted: …, or hypothesis"
