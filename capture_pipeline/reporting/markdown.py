"""Markdown for reports and for Dagster, in which external text cannot act as Markdown.

Only this module creates `Markdown`: `text` escapes, and `table` and `document` combine parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from capture_pipeline.printable import LONGEST, printable

# A backslash makes punctuation literal (CommonMark 0.31, section 2.4); a `_` inside a word is always literal.
_ESCAPED = re.compile(r"\\([\\`*\[\]<|~&#>+_-])")
_SPECIAL = re.compile(r"[\\`*\[\]<|~&]|^[#>+-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


class Markdown(str):
    """Text in which special characters have their Markdown meaning."""

    __slots__ = ()


def text(value: object, limit: int = LONGEST) -> Markdown:
    """Escape a value as one line of literal text.

    Args:
        value: Any value; a `Markdown` is returned unchanged.
        limit: Limit of the characters before they are escaped.
    """
    if isinstance(value, Markdown):
        return value
    return Markdown(_SPECIAL.sub(lambda found: "\\" + found[0], printable(value, limit)))


def stored(document: str) -> Markdown:
    """Return a document that this module built and that a file of the lake contained."""
    return Markdown(document)


def plain(escaped: str) -> str:
    """Return the text that `text` escaped, for a reader that does not render Markdown."""
    return _ESCAPED.sub(r"\1", escaped)


def bold(value: object) -> Markdown:
    """Format a value in bold."""
    return Markdown(f"**{text(value)}**")


def code(value: object) -> Markdown:
    """Format a value as code."""
    shown = printable(value).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in shown else ""
    return Markdown(f"{fence}{pad}{shown}{pad}{fence}")


def bullets(items: Iterable[object]) -> Markdown:
    """Build a list; items that are not of the type `Markdown` are escaped."""
    return Markdown("\n".join(f"- {text(item)}" for item in items))


def heading(value: object) -> Markdown:
    """Build the heading of a document."""
    return Markdown(f"# {text(value)}")


def sentence(*parts: object) -> Markdown:
    """Concatenate parts; those that are not of the type `Markdown` are escaped."""
    return Markdown("".join(text(part) for part in parts))


def image(title: str, content: str) -> Markdown:
    """Build an image whose content is embedded in the text.

    Args:
        title: Text shown instead of the image if it cannot be shown.
        content: Address of the form `data:image/...;base64,...`.

    Raises:
        ValueError: `content` does not have this form.
    """
    if not re.fullmatch(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", content):
        raise ValueError("an image is given as base64")
    return Markdown(f"![{text(title)}]({content})")


def table(
    head: Sequence[object], rows: Iterable[Iterable[object]], *, numbers_from: int | None = None
) -> Markdown:
    """Build a table; cells that are not of the type `Markdown` are escaped.

    Args:
        head: Headings.
        rows: Rows of cells, one cell per heading.
        numbers_from: Index of the first column that is aligned to the right; None for none.
    """
    aligned = (
        "---:" if numbers_from is not None and at >= numbers_from else "---" for at in range(len(head))
    )
    return Markdown("\n".join([_row(head), f"|{'|'.join(aligned)}|", *map(_row, rows)]))


def document(*parts: Markdown) -> Markdown:
    """Join paragraphs, lists and tables into one document."""
    return Markdown("\n\n".join(filter(None, parts)) + "\n")


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(text(cell) for cell in cells)} |"
