"""Backfill of many partitions in one process: archives, REST, bars, gates and gap ledger.

A partition that fails is reported and does not stop the others. A failed row gate ends its partition before
the gap ledger is computed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.symbols import unknown_symbols_error
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import lock_partition
from capture_pipeline.errors import CaptureError, ConfigError, LakeError
from capture_pipeline.klines.bars import BarsResult, build_bars
from capture_pipeline.klines.gaps import GapsResult, find_gaps
from capture_pipeline.klines.ingest.archives import (
    ArchivesResult,
    fetch_partitions,
    result_interruptibly,
)
from capture_pipeline.klines.ingest.rest_fill import TopupResult, fill_from_rest
from capture_pipeline.klines.ingest.trading_period import fetch_trading_period
from capture_pipeline.klines.quality.gate_results import IrregularCounts, sum_irregular
from capture_pipeline.klines.quality.row_rules import evaluate_row_gates
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """Results of the steps that a backfill completed for one partition.

    Attributes:
        partition: The partition.
        archives: Result of the download; None if the download failed.
        topups: Result of the requests to REST; None if they failed or REST was not used.
        bars: Result of the merge; None if the merge failed.
        gaps: The gap ledger; None if its computation or a row gate failed.
        error: The error that ended the backfill of this partition; None if all steps are complete.
        irregular: Numbers of irregular rows by class, for known and unknown irregularities.
    """

    partition: Partition
    archives: ArchivesResult | None = None
    topups: TopupResult | None = None
    bars: BarsResult | None = None
    gaps: GapsResult | None = None
    error: CaptureError | None = None
    irregular: dict[str, IrregularCounts] = field(default_factory=dict)


class GateError(CaptureError):
    """A blocking gate failed, so the steps after it did not run."""


def backfill(
    deployment: Deployment,
    partitions: Sequence[Partition],
    now_us: int,
    *,
    use_rest: bool = True,
) -> Generator[Outcome]:
    """Update partitions to the present data of the exchange.

    Args:
        partitions: The partitions.
        now_us: The exchange's time.
        use_rest: Request bars from REST that the archive lacks.

    Yields:
        The outcome of each partition when the partition is complete. A symbol that is unknown while others
        are known is an error in the outcomes of its partitions.

    Raises:
        ConfigError: Archive and REST know none of the symbols, or the lake belongs to another exchange.
    """
    # Closing ends the downloads at once when the caller is interrupted; otherwise the program waits for them.
    with closing(_prepare_tasks(deployment, partitions, now_us, use_rest=use_rest)) as tasks:
        yield from map_threads_ordered(tasks)


def map_threads_ordered(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Run tasks in one thread per core, at most four, and yield the results in the order of the tasks.

    At most one task more than there are threads is started before its result is read. This limits the memory.
    """
    thread_count = min(4, os.cpu_count() or 1)
    futures: deque[Future[T]] = deque()
    with ThreadPoolExecutor(thread_count, thread_name_prefix="bars") as pool:
        for task in tasks:
            futures.append(pool.submit(task))
            if len(futures) > thread_count:
                yield result_interruptibly(futures.popleft())
        while futures:
            yield result_interruptibly(futures.popleft())


def _prepare_tasks(
    deployment: Deployment, partitions: Sequence[Partition], now_us: int, *, use_rest: bool
) -> Generator[Callable[[], Outcome]]:
    """Send all requests, one partition after the other, and yield the remaining work of each partition."""
    unknown = _UnknownSymbols(deployment)
    symbols = {partition.symbol for partition in partitions}
    with closing(fetch_partitions(deployment, partitions, now_us)) as results:
        for partition, fetched in results:
            if isinstance(fetched, CaptureError):
                yield partial(Outcome, partition, error=fetched)
                continue
            error = _check_symbol(deployment, fetched, now_us, unknown) if use_rest else None
            if symbols == unknown.errors.keys():
                raise unknown.error_of(unknown.errors)
            if error:
                yield partial(Outcome, partition, fetched, error=error)
            else:
                yield _fill_from_rest(deployment, fetched, now_us, use_rest=use_rest)


class _UnknownSymbols:
    """Symbols that neither the archive nor REST knows.

    Attributes:
        errors: The error of each symbol.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.errors: dict[str, ConfigError] = {}

    def add(self, symbol: str) -> None:
        self.errors[symbol] = self.error_of([symbol])

    def error_of(self, symbols: Collection[str]) -> ConfigError:
        """Return the error about unknown symbols, with the names of similar ones."""
        return unknown_symbols_error(symbols, self._listed_symbols)

    @cached_property
    def _listed_symbols(self) -> list[str]:
        """Request all listed symbols, once per run. They only improve a message: a failure is ignored."""
        try:
            return self._deployment.rest.listed_symbols()
        except CaptureError:
            return []


def _check_symbol(
    deployment: Deployment, fetched: ArchivesResult, now_us: int, unknown: _UnknownSymbols
) -> CaptureError | None:
    """Return the error that ends a partition: its symbol is unknown, or the request about the symbol failed.

    A partition with an archive file, usable or not, needs no request: the file proves that the symbol exists.
    """
    symbol = fetched.partition.symbol
    if any(record.trust is not Trust.NOT_PUBLISHED for record in fetched.manifest.files):
        return None
    if symbol in unknown.errors:
        return unknown.errors[symbol]
    try:
        if fetch_trading_period(deployment, symbol, now_us).first_open_us is None:
            unknown.add(symbol)
    except CaptureError as error:
        return error
    return unknown.errors.get(symbol)


def complete_partition(
    deployment: Deployment, fetched: ArchivesResult, now_us: int, *, use_rest: bool
) -> Outcome:
    """Run all steps after the download of one partition, up to the gap ledger."""
    return _fill_from_rest(deployment, fetched, now_us, use_rest=use_rest)()


def _fill_from_rest(
    deployment: Deployment, fetched: ArchivesResult, now_us: int, *, use_rest: bool
) -> Callable[[], Outcome]:
    """Request missing bars from REST and return the remaining work.

    The remaining work sends no request and shares no file with another partition, so it may run in any
    thread.
    """
    try:
        topups = fill_from_rest(deployment, fetched.partition, now_us) if use_rest else None
    except CaptureError as error:
        return partial(Outcome, fetched.partition, fetched, error=error)
    return partial(_build_locked, deployment, fetched, topups, now_us)


def _build_locked(
    deployment: Deployment, fetched: ArchivesResult, topups: TopupResult | None, now_us: int
) -> Outcome:
    """Build bars and gap ledger under the partition's lock, from the raw files that are recorded by then.

    A slow run therefore does not undo the work of a newer run.
    """
    try:
        with (
            deployment.row_budget.reserve(fetched.partition.expected),
            lock_partition(deployment, fetched.partition),
        ):
            return _build(deployment, fetched, topups, now_us)
    except CaptureError as error:
        return Outcome(fetched.partition, fetched, topups, error=error)


def _build(
    deployment: Deployment, fetched: ArchivesResult, topups: TopupResult | None, now_us: int
) -> Outcome:
    partition = fetched.partition
    bars: BarsResult | None = None
    try:
        now_us = _find_latest_time(deployment, partition, now_us)
        bars, frame = build_bars(deployment, partition)
        results = evaluate_row_gates(
            frame, partition.interval, now_us, 1, deployment.known_irregularities(partition)
        )
        failed = [result for result in results if not result.passed and result.spec.blocking]
        if failed:
            names = ", ".join(result.spec.name for result in failed)
            raise GateError(
                f"fails {names}: {failed[0].reason}", where=str(partition), remedy="see `capture check`"
            )
        gaps = find_gaps(deployment, partition, now_us, frame)
        return Outcome(partition, fetched, topups, bars, gaps, irregular=sum_irregular(results))
    except CaptureError as error:
        return Outcome(partition, fetched, topups, bars, error=error)


def _find_latest_time(deployment: Deployment, partition: Partition, now_us: int) -> int:
    """Return the later of `now_us` and the last ledger's time; a ledger's time in the future is ignored."""
    path = deployment.lake.window(partition)
    try:
        recorded = (
            max(read_table(path, ["as_of_us"])["as_of_us"].to_list(), default=now_us)
            if path.is_file()
            else now_us
        )
    except LakeError:
        return now_us
    return recorded if recorded > now_us and recorded <= deployment.now_us() else now_us
