"""Reader of the tables in handwritten pages, for comparisons with the code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
Row = dict[str, str]
"""A row of a table: its cells by heading."""


def tables(page: Path) -> Iterator[tuple[str, list[Row]]]:
    """Yield each table of a page with the title of its section; a cell is never empty."""
    title, heading, rows = "", list[str](), list[Row]()
    for line in [*page.read_text().splitlines(), ""]:
        if line.startswith("#"):
            title = line.lstrip("# ")
        if not line.startswith("|"):
            if heading:
                yield title, rows
            heading, rows = [], []
        elif not heading:
            heading = cells(line)
        elif not line.startswith("|--"):
            rows.append(dict(zip(heading, cells(line), strict=True)))


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def codes(cell: str) -> list[str]:
    """Return the names in code of a cell of names, none for `none`."""
    return [] if cell == "none" else [name.strip("`") for name in cell.split(", ")]


_SECTIONS = ["Hosts", "Requests", "Limits", "Errors", "Streams", "Files", "Unknown"]


class ExchangePage:
    """The tables of `docs/exchange.md`, by section."""

    def __init__(self) -> None:
        found = [(title, rows) for title, rows in tables(DOCS / "exchange.md") if title in _SECTIONS]
        assert [title for title, _ in found] == _SECTIONS
        self.hosts, self.requests, self.limits, self.errors, self.streams, self.files, self.unknown = (
            rows for _, rows in found
        )
