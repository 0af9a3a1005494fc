"""What axe-core finds that is not accessible in a page or in a part of it."""

from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SCHEMES = ("light", "dark")


def violations(page: Page, part: str | None = None, without: tuple[str, ...] = ()) -> list[str]:
    """What is wrong, a line each: the rule, why it matters, where; nothing if all is well.

    Parameters
    ----------
    part
        A CSS selector: only what is inside it, as for a panel in a page of somebody else's.
    without
        Rules to leave out, as those for whole pages where only a part is looked at.
    """
    # What passes is not described: on a page with many tables that takes most of the time.
    options = {"rules": {rule: {"enabled": False} for rule in without}}
    options["resultTypes"] = ["violations"]
    # A page that was looked at before, in other colours or of another width, has axe already.
    there = page.evaluate("typeof axe !== 'undefined'")
    found = Axe("0" if there else AXE_SCRIPT).run(page, context=part, options=options).response
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
