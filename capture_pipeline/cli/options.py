"""Options and types of values that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}

CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of settings. Default: $CAPTURE_CONFIG, or the nearest pipeline.yaml.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
SESSIONS = click.option(
    "--out",
    "output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of all sessions. Default: golden_samples below storage.root.",
)
SYMBOLS = click.option(
    "--symbol",
    "symbols",
    multiple=True,
    help="Symbol, or several separated by commas; may be repeated. Default: BTCUSDT.",
)
BOOK_SYMBOL = click.option(
    "--symbol", default="", help="Symbol of the book; required if the target has several symbols."
)


class Duration(click.ParamType[float]):
    """A duration such as 100ms, 90s, 15m, 24h or 2d; converted to seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhd])", str(value))
        if not found or not float(found[1]):
            self.fail(f"{value!r} is not a duration; write 100ms, 90s, 15m, 24h or 2d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]
