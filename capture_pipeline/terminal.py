"""Standard output, standard error and the loggers: the only way by which text of this project reaches a terminal or a log.

The command line adds tables and progress bars in `cli.console`; what Dagster shows and logs passes through `defs.outputs`.
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
        text: Without the line end.
        err: Write to standard error instead of standard output.
    """
    _write(printable(text, LONGEST_LINE), sys.stderr if err else sys.stdout)


def write_lines(text: object, *, err: bool = False) -> None:
    """Write several lines, of which no part that comes from outside may hold a line end.

    Args:
        text: Without the last line end.
        err: Write to standard error instead of standard output.
    """
    _write(printable_lines(text), sys.stderr if err else sys.stdout)


def write_json(document: str) -> None:
    """Write a JSON document to standard output, whole; JSON itself escapes all control characters but DEL.

    Args:
        document: In ASCII.
    """
    _write(document.replace("\x7f", "\\u007f"), sys.stdout)


def report(text: object) -> None:
    """Write one line to standard error with the time before it, for a process that runs by itself."""
    write_line(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}  {text}", err=True)


def logger(name: str) -> logging.Logger:
    """Return a logger whose records are one printable line each, whatever handler takes them."""
    found = logging.getLogger(name)
    if _print_record not in found.filters:
        found.addFilter(_print_record)
    return found


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write a traceback to standard error; the value of `sys.excepthook` in a process of this project."""
    write_lines("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), err=True)


def _write(text: str, stream: TextIO) -> None:
    stream.write(text + "\n")
    stream.flush()


def _print_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage(), LONGEST_LINE), None
    return True


class _Formatter(logging.Formatter):
    """Records of libraries, with their tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return printable_lines(super().format(record))


# Python writes warnings and errors of loggers without a handler by this one, among them those of websockets, urllib3 and asyncio.
if logging.lastResort is not None:
    logging.lastResort.setFormatter(_Formatter())
