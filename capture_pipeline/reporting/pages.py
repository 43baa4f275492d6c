"""HTML pages and SVG pictures in which text from outside stays text.

Every value that a template shows is made printable and escaped, but a `Markup` of `picture`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from importlib.resources import files

import jinja2
from markupsafe import Markup

from capture_pipeline.printable import printable

REPORTS = "/reports"
"""Path below which the webserver answers with the pages of reports."""


def render_page(package: str, template: str, **values: object) -> str:
    """Fill a template of a package.

    Args:
        package: Name of the package that has the template.
        template: File name.
        values: By the names that the template uses; a missing one is an error.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown)
    return environment.from_string(files(package).joinpath(template).read_text(encoding="utf-8")).render(
        **values
    )


def svg_text(value: object) -> str:
    """Escape a value for an element or an attribute of SVG."""
    return html.escape(printable(value))


def picture(parts: Iterable[str]) -> Markup:
    """Join the parts of an SVG whose texts went through `svg_text`; a template shows the result as it is."""
    return Markup("".join(parts))  # noqa: S704 - the promise of the caller


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
