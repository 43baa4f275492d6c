"""The whole way for many partitions in one process: archives, top-ups, bars, gates, gaps, each partition as far as it gets.

A partition that fails is told and does not hold up the others; a failed row gate stops its own partition before the gap ledger.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from capture_pipeline.errors import CaptureError, ConfigError
from capture_pipeline.klines.archives import ArchivesResult, fetch_many
from capture_pipeline.klines.bars import BarsResult, build
from capture_pipeline.klines.gaps import GapsResult, find
from capture_pipeline.klines.life import ask_life
from capture_pipeline.klines.topups import TopupResult, top_up
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.lake.paths import Partition
from capture_pipeline.quality.gates import judge_rows

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
    """

    partition: Partition
    archives: ArchivesResult | None = None
    topups: TopupResult | None = None
    bars: BarsResult | None = None
    gaps: GapsResult | None = None
    error: CaptureError | None = None


class GateError(CaptureError):
    """A blocking gate failed; what lies downstream was not made."""


def backfill(
    workspace: Workspace,
    partitions: Sequence[Partition],
    now_us: int,
    *,
    ask_rest: bool = True,
) -> Iterator[Outcome]:
    """Bring partitions up to what the exchange has, one outcome each as it is done.

    Args:
        workspace: The deployment.
        partitions: Which ones.
        now_us: The exchange's time.
        ask_rest: Whether REST may fill what the archive lacks.

    Raises:
        ConfigError: A symbol is unknown to archive and REST alike.
    """
    return side_by_side(_tasks(workspace, partitions, now_us, ask_rest=ask_rest))


def side_by_side(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Do tasks in threads, a core each and at most four; outcomes come in the tasks' order, and no task is begun long before its turn."""
    at_once = min(4, os.cpu_count() or 1)
    begun: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="bars") as pool:
        for task in tasks:
            begun.append(pool.submit(task))
            if len(begun) > at_once:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _tasks(workspace: Workspace, partitions: Sequence[Partition], now_us: int, *, ask_rest: bool) -> Iterator[Callable[[], Outcome]]:
    """What is left of each partition once the exchange has been asked; all asking is done here, one partition after the other."""
    unknown: dict[str, bool] = {}
    for fetched in fetch_many(workspace, list(partitions), now_us):
        if not isinstance(fetched, ArchivesResult):
            yield partial(Outcome, fetched[0], error=fetched[1])
            continue
        symbol = fetched.partition.symbol
        if not fetched.manifest.usable() and unknown.setdefault(symbol, _is_unknown(workspace, symbol, now_us, ask_rest=ask_rest)):
            raise ConfigError(f"the exchange does not know {symbol}", where="symbols", remedy="mend the symbol, or wait until it is listed")
        yield _asked(workspace, fetched, now_us, ask_rest=ask_rest)


def complete(workspace: Workspace, fetched: ArchivesResult, now_us: int, *, ask_rest: bool) -> Outcome:
    """From verified archives to the gap ledger of one partition."""
    return _asked(workspace, fetched, now_us, ask_rest=ask_rest)()


def _asked(workspace: Workspace, fetched: ArchivesResult, now_us: int, *, ask_rest: bool) -> Callable[[], Outcome]:
    """Ask REST now; what then remains asks nobody and shares no file with another partition."""
    try:
        topups = top_up(workspace, fetched.partition, now_us) if ask_rest else None
    except CaptureError as error:
        return partial(Outcome, fetched.partition, fetched, error=error)
    return partial(_made, workspace, fetched, topups, now_us)


def _made(workspace: Workspace, fetched: ArchivesResult, topups: TopupResult | None, now_us: int) -> Outcome:
    """Bars, gates and gap ledger."""
    partition = fetched.partition
    bars: BarsResult | None = None
    try:
        bars, frame = build(workspace, partition)
        failed = [result for result in judge_rows(frame, partition.interval, now_us, 1) if not result.passed]
        if failed:
            names = ", ".join(result.spec.name for result in failed)
            raise GateError(f"fails {names}: {failed[0].summary}", where=str(partition), remedy="see `capture check`")
        return Outcome(partition, fetched, topups, bars, find(workspace, partition, now_us, frame))
    except CaptureError as error:
        return Outcome(partition, fetched, topups, bars, error=error)


def each(partitions: Sequence[Partition], work: Callable[[Partition], object]) -> Iterator[tuple[Partition, CaptureError | None]]:
    """Do `work` for each partition; a failure is told beside it and does not end the rest."""
    for partition in partitions:
        try:
            work(partition)
        except CaptureError as error:
            yield partition, error
        else:
            yield partition, None


def _is_unknown(workspace: Workspace, symbol: str, now_us: int, *, ask_rest: bool) -> bool:
    return ask_rest and ask_life(workspace, symbol, now_us).first_open_us is None
