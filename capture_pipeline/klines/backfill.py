"""The whole way for many partitions in one process: archives, top-ups, bars, gates, gaps, each partition as far as it gets.

A partition that fails is told and does not hold up the others; a failed row gate stops its own partition before the gap ledger.
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
from capture_pipeline.checks.gates import evaluate_row_gates, irregular_counts
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError, ConfigError, LakeError
from capture_pipeline.klines.bars import BarsResult, build_bars
from capture_pipeline.klines.gaps import GapsResult, find_gaps
from capture_pipeline.klines.ingest.archives import (
    ArchivesResult,
    fetch_many,
    result_interruptibly,
    retry_while_busy,
    with_partition_lock,
)
from capture_pipeline.klines.ingest.rest_fill import TopupResult, top_up
from capture_pipeline.klines.ingest.trading_period import fetch_trading_period
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How far one partition got.

    Attributes:
        partition: Which one.
        archives: What was fetched; None if that failed.
        topups: What REST added; None if that failed or was not wanted.
        bars: What was published; None if that failed.
        gaps: The ledger; None if that failed or a row gate did.
        error: Why it ended early.
        irregular: Rows of irregular classes, known and unknown ones.
    """

    partition: Partition
    archives: ArchivesResult | None = None
    topups: TopupResult | None = None
    bars: BarsResult | None = None
    gaps: GapsResult | None = None
    error: CaptureError | None = None
    irregular: dict[str, dict[str, int]] = field(default_factory=dict)


class GateError(CaptureError):
    """A blocking gate failed; what lies downstream was not made."""


def backfill(
    workspace: Workspace,
    partitions: Sequence[Partition],
    now_us: int,
    *,
    ask_rest: bool = True,
) -> Generator[Outcome]:
    """Bring partitions up to what the exchange has, one outcome each as it is done.

    Args:
        workspace: The deployment.
        partitions: Which ones.
        now_us: The exchange's time.
        ask_rest: Whether REST may fill what the archive lacks.

    Raises:
        ConfigError: Archive and REST know none of the symbols, or the lake is another exchange's. Where they know some, the outcomes of
            the others say so.
    """
    # Closed at once when the caller is interrupted: downloads end then, instead of holding the program until they are done.
    with closing(_tasks(workspace, partitions, now_us, ask_rest=ask_rest)) as tasks:
        yield from map_threads_ordered(tasks)


def map_threads_ordered(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Do tasks in threads, a core each and at most four; outcomes come in the tasks' order, and no task is begun long before its turn."""
    at_once = min(4, os.cpu_count() or 1)
    begun: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="bars") as pool:
        for task in tasks:
            begun.append(pool.submit(task))
            if len(begun) > at_once:
                yield result_interruptibly(begun.popleft())
        while begun:
            yield result_interruptibly(begun.popleft())


def _tasks(
    workspace: Workspace, partitions: Sequence[Partition], now_us: int, *, ask_rest: bool
) -> Generator[Callable[[], Outcome]]:
    """What is left of each partition once the exchange has been asked; all asking is done here, one partition after the other."""
    unknown = _Unknown(workspace)
    symbols = {partition.symbol for partition in partitions}
    with closing(fetch_many(workspace, list(partitions), now_us)) as results:
        for fetched in results:
            if not isinstance(fetched, ArchivesResult):
                yield partial(Outcome, fetched[0], error=fetched[1])
                continue
            error = _check_symbol(workspace, fetched, now_us, unknown) if ask_rest else None
            if symbols == unknown.errors.keys():
                raise unknown.error_of(unknown.errors)
            if error:
                yield partial(Outcome, fetched.partition, fetched, error=error)
            else:
                yield _fill_from_rest(workspace, fetched, now_us, ask_rest=ask_rest)


class _Unknown:
    """Symbols that neither the archive nor REST knows.

    Attributes:
        errors: By symbol.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.errors: dict[str, ConfigError] = {}

    def add(self, symbol: str) -> None:
        """Remember a symbol."""
        self.errors[symbol] = self.error_of([symbol])

    def error_of(self, symbols: Collection[str]) -> ConfigError:
        """Return the error about some symbols, with the names of similar ones."""
        return unknown_symbols_error(symbols, self._listed)

    @cached_property
    def _listed(self) -> list[str]:
        """Every listed symbol: asked once a run, and only where a symbol is unknown; it improves a message, so its failure is none."""
        try:
            return self._workspace.rest.listed_symbols()
        except CaptureError:
            return []


def _check_symbol(
    workspace: Workspace, fetched: ArchivesResult, now_us: int, unknown: _Unknown
) -> CaptureError | None:
    """Why a partition without archive files goes no further: its symbol is unknown, which is remembered, or that could not be asked.

    A partition with archive files, used or not, is proof that the symbol exists.
    """
    symbol = fetched.partition.symbol
    if any(record.trust is not Trust.NOT_PUBLISHED for record in fetched.manifest.files):
        return None
    if symbol in unknown.errors:
        return unknown.errors[symbol]
    try:
        if fetch_trading_period(workspace, symbol, now_us).first_open_us is None:
            unknown.add(symbol)
    except CaptureError as error:
        return error
    return unknown.errors.get(symbol)


def complete(workspace: Workspace, fetched: ArchivesResult, now_us: int, *, ask_rest: bool) -> Outcome:
    """From verified archives to the gap ledger of one partition."""
    return _fill_from_rest(workspace, fetched, now_us, ask_rest=ask_rest)()


def _fill_from_rest(
    workspace: Workspace, fetched: ArchivesResult, now_us: int, *, ask_rest: bool
) -> Callable[[], Outcome]:
    """Ask REST now; what then remains asks nobody and shares no file with another partition."""
    try:
        topups = retry_while_busy(partial(top_up, workspace, fetched.partition, now_us)) if ask_rest else None
    except CaptureError as error:
        return partial(Outcome, fetched.partition, fetched, error=error)
    return partial(_build_locked, workspace, fetched, topups, now_us)


def _build_locked(
    workspace: Workspace, fetched: ArchivesResult, topups: TopupResult | None, now_us: int
) -> Outcome:
    """Bars, gates and gap ledger, from what is recorded by then: a run that was overtaken does not undo the newer one's work."""
    try:
        with workspace.budget.hold(fetched.partition.expected):
            return with_partition_lock(
                workspace, fetched.partition, partial(_build, workspace, fetched, topups, now_us)
            )
    except CaptureError as error:
        return Outcome(fetched.partition, fetched, topups, error=error)


def _build(workspace: Workspace, fetched: ArchivesResult, topups: TopupResult | None, now_us: int) -> Outcome:
    partition = fetched.partition
    bars: BarsResult | None = None
    try:
        now_us = _newest(workspace, partition, now_us)
        bars, frame = build_bars(workspace, partition)
        results = evaluate_row_gates(
            frame, partition.interval, now_us, 1, workspace.known_irregularities(partition)
        )
        failed = [result for result in results if not result.passed and result.spec.blocking]
        if failed:
            names = ", ".join(result.spec.name for result in failed)
            raise GateError(
                f"fails {names}: {failed[0].summary}", where=str(partition), remedy="see `capture check`"
            )
        gaps = find_gaps(workspace, partition, now_us, frame)
        return Outcome(partition, fetched, topups, bars, gaps, irregular=irregular_counts(results))
    except CaptureError as error:
        return Outcome(partition, fetched, topups, bars, error=error)


def attempt_each(
    partitions: Sequence[Partition], work: Callable[[Partition], object]
) -> Iterator[tuple[Partition, CaptureError | None]]:
    """Do `work` for each partition; a failure is told beside it and does not end the rest."""
    for partition in partitions:
        try:
            work(partition)
        except CaptureError as error:
            yield partition, error
        else:
            yield partition, None


def _newest(workspace: Workspace, partition: Partition, now_us: int) -> int:
    """The present, or the later one of a newer run that has been here since; one in the future was a wrong clock's."""
    path = workspace.lake.window(partition)
    try:
        recorded = (
            max(read_table(path, ["as_of_us"])["as_of_us"].to_list(), default=now_us)
            if path.is_file()
            else now_us
        )
    except LakeError:
        return now_us
    return recorded if recorded > now_us and recorded <= workspace.now_us() else now_us
