"""Lengths of time on the command line."""

from __future__ import annotations

import re

import click

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Length(click.ParamType[float]):
    """A length of time such as 100ms, 90s, 15m, 24h or 2d; in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhd])", str(value))
        if not found or not float(found[1]):
            self.fail(f"{value!r} is no length of time; write 100ms, 90s, 15m, 24h or 2d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]
