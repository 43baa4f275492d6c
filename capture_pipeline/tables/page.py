"""The page of the documentation that lists each table with its columns: `make docs-tables` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capture_pipeline.tables.registry import TABLES
from capture_pipeline.tables.table import Table
from capture_pipeline.terminal import write_lines

_HEAD = """\
# Tables

This page is generated from the declarations in `capture_pipeline/tables`. Change them, then run
`make docs-tables`.

The name of a column contains the unit of times and scaled numbers. A table with keys is a folder below
`lake/` and a view of `catalog.duckdb`. Its keys come from the names of the folders and are text columns of
the view."""


def render_page(tables: Sequence[Table]) -> str:
    """Render the page as Markdown."""
    return "\n\n".join([_HEAD, *(part for table in tables for part in _render_table(table))]) + "\n"


def _render_table(table: Table) -> Iterator[str]:
    yield f"## `{table.name}`"
    yield table.description
    if table.keys:
        yield f"Keys: {', '.join(f'`{key}`' for key in table.keys)}."
    rows = [
        f"| `{column.name}` | {column.arrow_type}{' or null' * column.nullable} | {column.unit} | "
        f"{column.description} |"
        for column in table.columns
    ]
    yield "\n".join(["| column | type | unit | meaning |", "|---|---|---|---|", *rows])
    if table.notes:
        yield table.notes


if __name__ == "__main__":
    write_lines(render_page(TABLES).rstrip("\n"))
