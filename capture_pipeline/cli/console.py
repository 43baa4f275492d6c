"""How the command line speaks: progress bars on a terminal, plain lines in a log, JSON for scripts, one line for an error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.settings import load_settings

console = Console(stderr=True, highlight=False)
EXIT_FAILED, EXIT_COULD_NOT_RUN = 1, 2


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


def open_workspace(config: Path | None) -> Workspace:
    """The deployment that file and environment describe."""
    with one_line_errors():
        workspace = Workspace(load_settings(config))
        workspace.outages  # noqa: B018 - a calendar that cannot be read is told before anything is done
        return workspace


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
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}"),
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
    """Write one JSON document to standard output."""
    click.echo(json.dumps(document, indent=1, default=str))


def emit_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, plain: bool = False) -> None:
    """Write a table to standard output; numbers to the right, with separators unless they are to be copied."""
    table = Table(title=title, title_justify="left", title_style="bold")
    numeric = {name for name in columns if any(isinstance(row.get(name), int | float) for row in rows)}
    for name in columns:
        heading = name if plain else name.replace("_", " ")
        table.add_column(heading, justify="right" if name in numeric else "left", overflow="fold", no_wrap=plain)
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) if plain else _cell(row.get(name)) for name in columns))
    width = None if sys.stdout.isatty() and not plain else max(160, 26 * len(columns) if plain else 0)
    Console(highlight=False, width=width, soft_wrap=plain).print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    return str(value)
