"""Sphinx's settings for the site. `make site` builds it: docs/_site/build.py writes the sources."""

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent / "_site"), str(Path(__file__).parents[1])]

from accessible import finished  # noqa: E402
from reference import as_rst  # noqa: E402

from kit import __version__  # noqa: E402

project = "Training and inference, measured"
author, version, language = "The authors of train-infer-kit", __version__, "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["files/**"]

# The lessons come with recorded outputs: nothing runs here, so the site shows what was measured.
nb_execution_mode = "off"
nb_merge_streams = True
myst_heading_anchors = 4
suppress_warnings = ["ref.python"]  # a word in backquotes may be several names

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
# Not each method in the lists of contents: Sphinx would copy all of them for each page.
toc_object_entries = False
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "furo"
templates_path = ["_site/templates"]
html_title = project
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_favicon = "_site/static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
html_domain_indices = False


def setup(app: Any) -> None:
    """Connect what Sphinx calls with what the site adds."""
    app.connect("autodoc-process-docstring", lambda *given: as_rst(given[-1]))
    app.connect("html-page-context", _finish)


def _finish(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if "body" in context:
        context["body"] = finished(context["body"])
