"""Markdown for reports and for Dagster, in which text from outside stays text.

A `Markdown` is built here only: `text` escapes, `table` and `document` put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from capture_pipeline.printable import LONGEST, printable

# A backslash before punctuation makes it a letter (CommonMark 0.31, section 2.4). An underscore inside a word is one already.
_ESCAPED = re.compile(r"\\([\\`*\[\]<|~&#>+_-])")
_SPECIAL = re.compile(r"[\\`*\[\]<|~&]|^[#>+-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


class Markdown(str):
    """Text whose special characters are meant."""

    __slots__ = ()


def text(value: object, most: int = LONGEST) -> Markdown:
    """Escape a value that is no Markdown: one line that is shown as it is.

    Args:
        value: Anything; a `Markdown` is returned as it is.
        most: Characters before they are escaped.
    """
    if isinstance(value, Markdown):
        return value
    return Markdown(_SPECIAL.sub(lambda found: "\\" + found[0], printable(value, most)))


def stored(document: str) -> Markdown:
    """Return a document that this module built and that a file of the lake contained."""
    return Markdown(document)


def plain(escaped: str) -> str:
    """Return the text that `text` escaped, for a reader that shows no Markdown."""
    return _ESCAPED.sub(r"\1", escaped)


def bold(value: object) -> Markdown:
    """Return a value in bold."""
    return Markdown(f"**{text(value)}**")


def code(value: object) -> Markdown:
    """Return a value as code."""
    shown = printable(value).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in shown else ""
    return Markdown(f"{fence}{pad}{shown}{pad}{fence}")


def bullets(items: Iterable[object]) -> Markdown:
    """Return a list; items that are no Markdown are escaped."""
    return Markdown("\n".join(f"- {text(item)}" for item in items))


def heading(value: object) -> Markdown:
    """Return the heading of a document."""
    return Markdown(f"# {text(value)}")


def sentence(*parts: object) -> Markdown:
    """Return parts one behind the other; those that are no Markdown are escaped."""
    return Markdown("".join(text(part) for part in parts))


def image(title: str, content: str) -> Markdown:
    """Return a picture that the text holds itself.

    Args:
        title: Shown instead of the picture where there is none.
        content: Address of the form `data:image/...;base64,...`.
    """
    if not re.fullmatch(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", content):
        raise ValueError("an image is given as base64")
    return Markdown(f"![{text(title)}]({content})")


def table(
    head: Sequence[object], rows: Iterable[Iterable[object]], *, numbers_from: int | None = None
) -> Markdown:
    """Return a table; cells that are no Markdown are escaped.

    Args:
        head: Headings.
        rows: Cells, as many each as there are headings.
        numbers_from: Column from which on cells are set to the right; None for none.
    """
    aligned = (
        "---:" if numbers_from is not None and at >= numbers_from else "---" for at in range(len(head))
    )
    return Markdown("\n".join([_row(head), f"|{'|'.join(aligned)}|", *map(_row, rows)]))


def document(*parts: Markdown) -> Markdown:
    """Return paragraphs, lists and tables one below the other."""
    return Markdown("\n\n".join(filter(None, parts)) + "\n")


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(text(cell) for cell in cells)} |"
