"""Output to the terminal and to loggers. All text of the project is made printable here before it is written.

Tables and progress bars of the command line are in `cli.console`. Text for Dagster is written in
`defs.shared.outputs`.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from types import TracebackType
from typing import TextIO

from capture_pipeline.printable import LONGEST_LINE, printable, printable_lines


def write_line(text: object, *, err: bool = False) -> None:
    """Write one line; a line end inside the text is escaped.

    Args:
        text: The line, without a line end.
        err: Write to standard error instead of standard output.
    """
    _write(printable(text, LONGEST_LINE), sys.stderr if err else sys.stdout)


def write_lines(text: object, *, err: bool = False) -> None:
    """Write several lines. Line ends in untrusted parts of the text must already be escaped.

    Args:
        text: The lines, without the last line end.
        err: Write to standard error instead of standard output.
    """
    _write(printable_lines(text), sys.stderr if err else sys.stdout)


def write_json(document: str) -> None:
    """Write a JSON document to standard output; escape DEL, the only control character that JSON allows.

    Args:
        document: JSON in ASCII.
    """
    _write(document.replace("\x7f", "\\u007f"), sys.stdout)


def report(text: object) -> None:
    """Write one line with the UTC time to standard error: the log of a process without a terminal."""
    write_line(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}  {text}", err=True)


def logger(name: str) -> logging.Logger:
    """Return a logger that turns each record into one printable line, for every handler."""
    found = logging.getLogger(name)
    if _make_record_printable not in found.filters:
        found.addFilter(_make_record_printable)
    return found


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write a traceback to standard error; used as `sys.excepthook`."""
    write_lines("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), err=True)


def _write(text: str, stream: TextIO) -> None:
    stream.write(text + "\n")
    stream.flush()


def _make_record_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage(), LONGEST_LINE), None
    return True


class _Formatter(logging.Formatter):
    """Formatter of the records of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the printable lines of a record with its traceback."""
        return printable_lines(super().format(record))


# Python uses this handler for warnings and errors of loggers without a handler, for instance of websockets
# and asyncio.
if logging.lastResort is not None:
    logging.lastResort.setFormatter(_Formatter())
