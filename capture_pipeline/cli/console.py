"""Output of the command line: progress bars, tables, plain lines in a log, JSON, and errors in one line."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from capture_pipeline.cli.exits import EXIT_COULD_NOT_RUN
from capture_pipeline.errors import CaptureError
from capture_pipeline.printable import LONGEST_LINE, printable
from capture_pipeline.terminal import write_json, write_line

_MOST_FAILURES = 40
WIDE = 160
"""Width of tables that are not written to a terminal, characters."""
_LONGEST_WORD, _BORDER = 20, 3


class CliError(click.ClickException):
    """An error that is shown as one line; exit code 2."""

    exit_code = EXIT_COULD_NOT_RUN

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, LONGEST_LINE))


class _Console(Console):
    """A console on which every string is one printable line without markup, also in a table."""

    def __init__(self, *, width: int | None = None, soft_wrap: bool = False, stderr: bool = False) -> None:
        super().__init__(
            highlight=False, markup=False, emoji=False, width=width, soft_wrap=soft_wrap, stderr=stderr
        )

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - passed on
        """Render a string."""
        return super().render_str(printable(text, LONGEST_LINE), **options)


console = _Console(stderr=True)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Show a `CaptureError` as one line, never as a traceback."""
    try:
        yield
    except CaptureError as error:
        raise CliError(str(error)) from None


@contextlib.contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that counts one finished item and shows its name.

    Args:
        title: Name of the work.
        total: Number of items.
        quiet: Write nothing, for JSON.
    """
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total, last="")
            yield lambda text: bar.update(task, advance=1, last=printable(text))
    else:
        done = 0

        def tell(text: str) -> None:
            nonlocal done
            done += 1
            write_line(f"{title} {done}/{total} {text}", err=True)

        yield tell


def emit_json(document: object) -> None:
    """Write one JSON document to standard output; NaN and infinity become null."""
    write_json(json.dumps(_plain(document), indent=1, default=str, allow_nan=False))


def emit_failures(errors: Sequence[CaptureError]) -> None:
    """Write errors to standard error, one per line."""
    for error in errors[:_MOST_FAILURES]:
        console.print(Text.assemble(("failed", "red"), printable(f" {error}", LONGEST_LINE)), soft_wrap=True)
    if len(errors) > _MOST_FAILURES:
        write_line(f"and {len(errors) - _MOST_FAILURES:,} more failed", err=True)


def emit_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    plain: bool = False,
    names: str | None = None,
) -> None:
    """Write a table to standard output; numbers are right-aligned, with separators unless `plain` is set.

    Columns fold at words. On a terminal that is too narrow for that, each row is a block of lines, so that no
    column is cut off.

    Args:
        title: Title above the table.
        columns: Keys of the rows, which are the headings.
        rows: Cells by column.
        plain: Write values that can be copied: without folding and without separators.
        names: Column of names. A name is folded only if it is longer than half of the terminal's width.
    """
    width = None if sys.stdout.isatty() and not plain else max(WIDE, 26 * len(columns) if plain else 0)
    output = _Console(width=width, soft_wrap=plain)
    cells = [
        [
            printable(exact_text(row.get(name)), LONGEST_LINE) if plain else _cell(row.get(name))
            for name in columns
        ]
        for row in rows
    ]
    headings = [printable(name if plain else name.replace("_", " ")) for name in columns]
    numeric = [any(isinstance(row.get(name), int | float) for row in rows) for name in columns]
    widths: list[int | None] | None = [None] * len(columns)
    if not plain:  # a table to copy may have many rows and is not folded
        widths = _widths(
            cells,
            headings,
            numeric,
            [output.width // 2 if name == names else _LONGEST_WORD for name in columns],
            output.width,
        )
    if widths is None:
        output.print(_blocks(title, headings, cells))
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading, is_number, width_of in zip(headings, numeric, widths, strict=True):
        table.add_column(
            heading, justify="right" if is_number else "left", overflow="fold", no_wrap=plain, width=width_of
        )
    for row_cells in cells:
        table.add_row(*row_cells)
    output.print(table)


def _widths(
    cells: list[list[str]], headings: list[str], numeric: list[bool], most: list[int], total: int
) -> list[int | None] | None:
    """Divide the width of the terminal among columns; return None if the terminal is too narrow.

    Each column first gets its least width. The remaining width goes to the columns that need the fewest
    additional characters. The division by rich itself may give a column less than its least width, which
    cuts off the right end of the table.
    """
    columns = _columns(cells, headings)
    least = [
        _least_width(column, heading, is_whole=is_number, most=longest)
        for column, heading, is_number, longest in zip(columns, headings, numeric, most, strict=True)
    ]
    spare = total - _BORDER * len(headings) - 1 - sum(least)
    if spare < 0:
        return None
    lacking = [
        max(map(cell_len, [heading, *column])) - width
        for column, heading, width in zip(columns, headings, least, strict=True)
    ]
    widths: list[int | None] = [*least]
    by_need = sorted(range(len(least)), key=lambda at: lacking[at])
    for served, at in enumerate(by_need):
        more = max(0, min(lacking[at], spare // (len(least) - served)))
        widths[at] = least[at] + more
        spare -= more
    return widths


def output_console() -> Console:
    """Open a console on standard output, as wide as the terminal, or `WIDE` without a terminal."""
    return _Console(width=None if sys.stdout.isatty() else WIDE)


def _columns(cells: list[list[str]], columns: Sequence[str]) -> list[list[str]]:
    return [[row[at] for row in cells] for at in range(len(columns))]


def _least_width(column: list[str], heading: str, *, is_whole: bool, most: int) -> int:
    """Return the least width of a column.

    Numbers and the words of headings are never folded, other words only above `most` characters.
    """
    words = [word for text in column for word in text.split()]
    longest = max(map(cell_len, words), default=0)
    return max(longest if is_whole else min(longest, most), *map(cell_len, heading.split()), 1)


def _blocks(title: str, headings: list[str], cells: list[list[str]]) -> Group:
    """Lay out each row as lines of heading and value, for a terminal that is too narrow for the table."""
    parts: list[RenderableType] = [Text(printable(title), style="bold")]
    for row in cells:
        block = Table.grid(padding=(0, 2))
        block.add_column(no_wrap=True)
        block.add_column(overflow="fold")
        for heading, text in zip(headings, row, strict=True):
            if text:
                block.add_row(heading, text)
        parts += [block, Text()]
    return Group(*parts)


def _plain(value: object) -> object:
    """Convert a value for JSON: NaN and infinity become null, and keys become strings."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return exact_text(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def exact_text(value: object) -> str:
    """Return a value that can be copied: full decimals, integers without separators, empty for None."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"
    return "" if value is None else str(value)


def _cell(value: object) -> str:
    if value is None or isinstance(value, Decimal):
        return exact_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        text = f"{value:,.4f}".rstrip("0").rstrip(".")
        return "0" if text == "-0" else text
    return printable(value)
