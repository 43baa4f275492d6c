"""Options that select symbols and months."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import click

from capture_pipeline.binance.periods import Interval, Month, from_us, parse_time
from capture_pipeline.binance.symbols import parse_symbols
from capture_pipeline.binance.urls import NO_UM_SECONDS, has_interval
from capture_pipeline.cli.console import one_line_errors, progress
from capture_pipeline.cli.deployment import open_deployment
from capture_pipeline.cli.options import CONFIG
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError, ConfigError
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.models import History, Settings

T = TypeVar("T")
Failures = dict[Partition, CaptureError]
"""The error of each partition that failed."""


class PartitionResults(NamedTuple, Generic[T]):
    """Results of the partitions that succeeded, and the errors of the others."""

    results: list[T]
    failures: Failures


def run_each(
    name: str, parts: list[Partition], work: Callable[[Partition], T], *, quiet: bool
) -> PartitionResults[T]:
    """Call `work` for each partition and show the progress; an error ends only its partition."""
    done = PartitionResults[T]([], {})
    with progress(name, len(parts), quiet=quiet) as tell:
        for part in parts:
            try:
                done.results.append(work(part))
            except CaptureError as error:
                done.failures[part] = error
            tell(str(part))
    return done


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config; the command gets `deployment`."""

    @CONFIG
    @wraps(command)
    def wrapped(config: Path | None, **arguments: Any) -> Any:  # noqa: ANN401 - passes on whatever the command takes
        return command(deployment=open_deployment(config), **arguments)

    return wrapped


def partition_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --symbol, --interval, --from and --to.

    The command gets a `deployment` with the chosen symbols, interval and history.
    """

    @click.option(
        "--symbol",
        "symbols",
        multiple=True,
        help="Symbol, or several separated by commas; may be repeated. Default: all configured.",
    )
    @click.option(
        "--interval",
        type=click.Choice([str(interval) for interval in Interval]),
        help="Length of the klines. Default: the configured interval.",
    )
    @click.option(
        "--from",
        "first",
        help=(
            "First month, for instance 2024-12. Of a date, the whole month is used. Default: history.start."
        ),
    )
    @click.option(
        "--to",
        "last",
        help="Last month. Default: history.end, or the present month.",
    )
    @config_option
    @wraps(command)
    def wrapped(
        deployment: Deployment,
        symbols: tuple[str, ...],
        interval: str | None,
        first: str | None,
        last: str | None,
        **arguments: Any,  # noqa: ANN401 - passes on whatever the command takes
    ) -> Any:  # noqa: ANN401 - likewise
        with one_line_errors():
            narrowed = narrow(deployment, symbols, interval, first, last)
        return command(deployment=narrowed, **arguments)

    return wrapped


def symbol_names(symbols: tuple[str, ...]) -> list[str]:
    """Return the symbols of a recording; BTCUSDT if none is given.

    Raises:
        ConfigError: A symbol is not a valid name.
    """
    return parse_symbols(symbols) or ["BTCUSDT"]


def narrow(
    deployment: Deployment,
    symbols: tuple[str, ...],
    interval: str | None,
    first: str | None,
    last: str | None,
) -> Deployment:
    """Return the deployment with the chosen symbols, interval and history."""
    settings = deployment.settings
    chosen = parse_symbols(symbols)
    start = _month(first) if first else Month(settings.history.start.year, settings.history.start.month)
    end = _month(last) if last else None
    if last and _last_us(last) < (_first_us(first) if first else start.start_us):
        start_name = "--from" if first else "history.start"
        raise ConfigError(f"--to is before {start_name}", remedy="give a later --to, or an earlier --from")
    step = Interval(interval) if interval else settings.interval
    if not has_interval(settings.market, step):
        raise ConfigError(NO_UM_SECONDS)
    update: dict[str, Any] = {
        "symbols": list(dict.fromkeys(chosen)) or settings.symbols,
        "interval": step,
        "history": _history(settings, start, end),
    }
    return Deployment(settings.model_copy(update=update))


def partitions(deployment: Deployment, now_us: int) -> list[Partition]:
    """Return the partitions of a narrowed deployment.

    Raises:
        ConfigError: No month of the history has begun.
    """
    found = deployment.partitions(deployment.settings.symbols, deployment.months(now_us))
    if not found:
        raise ConfigError(
            "no month of the history has begun", remedy="set --from or history.start to an earlier month"
        )
    return found


def _history(settings: Settings, start: Month, end: Month | None) -> History:
    last = from_us(end.end_us - 1).date() if end else settings.history.end
    first = from_us(start.start_us).date()
    if last and last < first:
        raise ConfigError(
            f"--from is after history.end, {last}", remedy="give --to as well, or an earlier --from"
        )
    return History(start=first, end=last)


def _is_month(text: str) -> bool:
    return text.count("-") == 1


def _month(text: str) -> Month:
    return Month.parse(text) if _is_month(text) else Month.of(parse_time(text))


def _first_us(text: str) -> int:
    return _month(text).start_us if _is_month(text) else parse_time(text)


def _last_us(text: str) -> int:
    return _month(text).end_us - 1 if _is_month(text) else parse_time(text)
