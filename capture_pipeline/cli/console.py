"""How the command line speaks: progress bars on a terminal, plain lines in a log, JSON for scripts, one line for an error."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from capture_pipeline.cli.exits import EXIT_COULD_NOT_RUN
from capture_pipeline.errors import CaptureError

console = Console(stderr=True, highlight=False, markup=False, emoji=False)
_MOST_FAILURES = 40


class CliError(click.ClickException):
    """An error of ours as the one line a user reads; exit code 2."""

    exit_code = EXIT_COULD_NOT_RUN


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Show a `CaptureError` as one line, never as a traceback."""
    try:
        yield
    except CaptureError as error:
        raise CliError(str(error)) from None


@contextlib.contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that counts one thing done and tells what it was.

    Args:
        title: What is going on.
        total: How many things there are.
        quiet: Tell nothing, for JSON.
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
            yield lambda text: bar.update(task, advance=1, last=text)
    else:
        done = 0

        def tell(text: str) -> None:
            nonlocal done
            done += 1
            click.echo(f"{title} {done}/{total} {text}", err=True)

        yield tell


def emit_json(document: object) -> None:
    """Write one JSON document to standard output; what JSON has no number for is null."""
    click.echo(json.dumps(_plain(document), indent=1, default=str, allow_nan=False))


def emit_failures(errors: Sequence[CaptureError]) -> None:
    """Write errors to standard error, one a line."""
    for error in errors[:_MOST_FAILURES]:
        console.print(Text.assemble(("failed", "red"), f" {error}"), soft_wrap=True)
    if len(errors) > _MOST_FAILURES:
        click.echo(f"and {len(errors) - _MOST_FAILURES:,} more failed", err=True)


def emit_table(
    title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, plain: bool = False, names: str | None = None
) -> None:
    """Write a table to standard output; numbers to the right, with separators unless they are to be copied.

    Args:
        title: Above it.
        columns: Keys of the rows.
        rows: By column.
        plain: For copying: nothing folded, no separators.
        names: A column of names, which are not broken while they fit into half of the width.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    width = None if sys.stdout.isatty() and not plain else max(160, 26 * len(columns) if plain else 0)
    numeric = {name for name in columns if any(isinstance(row.get(name), int | float) for row in rows)}
    for name in columns:
        heading = name if plain else name.replace("_", " ")
        longest = max((len(str(row.get(name, ""))) for row in rows), default=0) if name == names else 0
        least = min(longest, (width or console.width) // 2) or None
        table.add_column(heading, justify="right" if name in numeric else "left", overflow="fold", no_wrap=plain, min_width=least)
    for row in rows:
        table.add_row(*(exact_text(row.get(name)) if plain else _cell(row.get(name)) for name in columns))
    Console(highlight=False, markup=False, emoji=False, width=width, soft_wrap=plain).print(table)


def _plain(value: object) -> object:
    """The same with null for NaN and infinity, and with texts as keys."""
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
    """Write a value to be read and copied: decimals in full with zero as 0, integers without separators, nothing for none."""
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
    return str(value)
