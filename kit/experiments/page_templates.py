"""The kit's web pages are made from templates, so that all text is escaped in one place.

A page loads nothing and runs no script: its Content-Security-Policy allows only its own pictures
and styles. Every page extends `templates/page.html.j2`.
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
    """A page as text: the template of that name with these values, all text escaped."""
    common = {"policy": POLICY, "version": __version__}
    return _environment().get_template(f"{template}.html.j2").render(**common, **values)


def picture_markup(picture: Picture) -> Markup:
    """A picture as HTML. It is the only value with its own markup; its text is already escaped."""
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
