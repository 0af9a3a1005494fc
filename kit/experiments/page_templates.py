"""The kit's web pages: templates through which all text goes, so that it is escaped in one place.

A page asks for nothing, not even a script: its Content-Security-Policy forbids all but the
pictures and styles that it brings. `templates/page.html.j2` is the frame of every page.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import __version__

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from kit.plots import Picture

TEMPLATES = Path(__file__).with_name("templates")
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


def document(template: str, **values: Any) -> str:
    """A page as one text: the template of that name with these values, all text escaped."""
    told = {"policy": POLICY, "version": __version__}
    return _environment().get_template(f"{template}.html.j2").render(**told, **values)


def shown(picture: Picture) -> Markup:
    """A picture as HTML: the one thing that comes with markup of its own, its text escaped."""
    from markupsafe import Markup

    return Markup(picture._repr_html_())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
