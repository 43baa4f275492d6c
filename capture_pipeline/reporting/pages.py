"""HTML pages and SVG pictures in which external text cannot act as markup.

Every value in a template is made printable and escaped, except a `Markup` from `picture`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from importlib.resources import files

import jinja2
from markupsafe import Markup

from capture_pipeline.printable import printable

REPORTS = "/reports"
"""URL path under which the webserver serves the pages of reports."""


def render_page(package: str, template: str, **values: object) -> str:
    """Render a template of a package.

    Args:
        package: Name of the package with the template.
        template: Name of the template file.
        values: Values by their names in the template; a missing one is an error.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown)
    return environment.from_string(files(package).joinpath(template).read_text(encoding="utf-8")).render(
        **values
    )


def svg_text(value: object) -> str:
    """Escape a value for an element or an attribute of SVG."""
    return html.escape(printable(value))


def picture(parts: Iterable[str]) -> Markup:
    """Join the parts of an SVG whose texts were escaped by `svg_text`; templates do not escape the result."""
    return Markup("".join(parts))  # noqa: S704 - the caller has escaped the texts


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
