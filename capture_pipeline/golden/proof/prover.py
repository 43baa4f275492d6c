"""The next-day proof of a session: each day of each symbol against the trades and klines that the exchange published of it.

A day that is not published yet waits and is no failure; of one whose file is damaged the rest is compared all the same. Prove again: what
was fetched is fetched no more while it is what is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import DAY_US, Interval, Month, day_bounds, from_us
from capture_pipeline.binance.urls import ArchiveFile, Market, TradesFile
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.deployment.venue_guard import ensure_venue
from capture_pipeline.errors import CaptureError, ConfigError, LakeError, MalformedDataError
from capture_pipeline.golden.proof import published_files
from capture_pipeline.golden.proof.archive_refills import UNUSABLE, fill_from_archive
from capture_pipeline.golden.proof.captured_trades import Captured, captured, finished_metadata
from capture_pipeline.golden.proof.compare import (
    Proof,
    known_lost,
    prove_bars,
    prove_trades,
    span,
    whole_bars,
)
from capture_pipeline.golden.proof.report import DayProof, SessionProof, Uncompared, publish, state_of
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import guard_parquet, read_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan

_INTERVAL = Interval.M1
_VENUES = {"binance", "sandbox"}


def prove(workspace: Workspace, folder: SessionFolder) -> SessionProof:
    """Prove a finished session and publish the result below the lake's reports.

    Args:
        workspace: The deployment that is asked, and whose lake keeps what it answers.
        folder: Of the session.

    Returns:
        The proof, as published.

    Raises:
        ConfigError: The session is not finished, or of a venue or market that nothing is published of.
        LakeError: A file of the session or its tables is damaged or gone.
        MalformedDataError: The recording is none, or there is no trade to prove.
        CaptureError: The exchange could not be asked, or the disk refused.
    """
    plan = finished_metadata(folder).plan
    if reason := unprovable(plan):
        raise ConfigError(
            reason,
            where=str(folder.path),
            remedy="validate it instead; its ids and its ledger can be checked",
        )
    if plan.venue != workspace.settings.venue:
        remedy = "prove it with the settings that it was recorded with"
        raise ConfigError(
            f"was recorded at venue {plan.venue}, the settings say {workspace.settings.venue}",
            where=str(folder.path),
            remedy=remedy,
        )
    found = captured(folder, GoldenTables(workspace.lake.tables(), folder.session))
    ensure_venue(workspace)
    now_us = workspace.now_us()
    days, without = _proved(workspace, found, now_us)
    gaps = fill_from_archive(workspace, folder, Market(plan.market), now_us)
    if not days and not gaps:
        raise MalformedDataError(
            "holds no trade to prove", where=str(folder.path), remedy="record a session with trades"
        )
    proof = SessionProof(
        session=folder.session,
        recording_sha256=found.sha256,
        market=plan.market,
        state=state_of([*days, *gaps]),
        proved_us=now_us,
        captured_from=found.source,
        symbols_without_trades=without,
        days=days,
        gaps=gaps,
    )
    publish(workspace.lake.proof(folder.session), proof)
    return proof


def unprovable(plan: SessionPlan) -> str:
    """Why nothing is published that a session could be compared with; empty where something is."""
    if plan.venue not in _VENUES:
        return f"is of venue {plan.venue}, of which no files are published"
    if plan.market not in set(Market):
        return f"is of market {plan.market}, whose published trades count contracts; they cannot be compared"
    return ""


def _proved(workspace: Workspace, found: Captured, now_us: int) -> tuple[list[DayProof], list[str]]:
    """All days, and the symbols of which there is none."""
    days: list[DayProof] = []
    without: list[str] = []
    for symbol, frame in found.trades.items():
        with guard_parquet("tables of the session", remedy="convert the recording again"):
            trades = frame.collect()
        if trades.is_empty():
            without.append(symbol)
            continue
        work = _Symbol(
            workspace, Market(found.metadata.plan.market), symbol, trades, found.lost.get(symbol, []), now_us
        )
        days += list(work.days())
    return days, without


def _uncompared(file: str, error: CaptureError) -> Uncompared:
    return Uncompared(file=file, reason=str(error))


@dataclass(frozen=True)
class _Symbol:
    """One symbol of a session.

    Attributes:
        workspace: The deployment.
        market: Of the symbol.
        symbol: In capitals.
        trades: All that were captured of it.
        lost: Ids that the ledger lists.
        now_us: By the exchange's clock.
    """

    workspace: Workspace
    market: Market
    symbol: str
    trades: pl.DataFrame
    lost: list[tuple[int, int]]
    now_us: int

    def days(self) -> Iterator[DayProof]:
        """Every day from the first trade to the last, also one of which nothing was captured."""
        first, last = span(self.trades, "trade_us")
        for number in range(first // DAY_US, last // DAY_US + 1):
            yield self._day(from_us(number * DAY_US).date())

    def _day(self, day: date) -> DayProof:
        start, end = day_bounds(day)
        head = DayProof(symbol=self.symbol, day=day, due_us=due_us(day))
        file = TradesFile(self.market, self.symbol, day)
        ours = self.trades.filter(pl.col("trade_us").is_between(start, end, closed="left"))
        try:
            published = published_files.trades_of(self.workspace, file) if end <= self.now_us else None
        except UNUSABLE as error:
            bars = self._without_minutes(day) if self._has_losses(ours) else self._bars(day, ours, [])
            return bars.model_copy(update={"uncompared": [_uncompared(file.name, error), *bars.uncompared]})
        if published is None:
            return head.model_copy(update={"waits_for": file.name})
        trades = prove_trades(ours, published.frame, span(self.trades, "trade_id"), self.lost)
        lost_us = known_lost(ours, published.frame, self.lost)["trade_us"].to_list()
        bars = self._bars(day, ours, lost_us)
        return bars.model_copy(update={"trades": trades, "files": [published.path, *bars.files]})

    def _without_minutes(self, day: date) -> DayProof:
        """A day whose known losses lie in minutes that only its trades file tells."""
        klines = ArchiveFile(self.market, self.symbol, _INTERVAL, day).name
        why = Uncompared(
            file=klines,
            reason="the session lost trades of that day, and only the trades file tells in which minutes",
        )
        return DayProof(symbol=self.symbol, day=day, due_us=due_us(day), uncompared=[why])

    def _has_losses(self, ours: pl.DataFrame) -> bool:
        """Whether the ledger lists ids between or beside a day's trades."""
        if ours.is_empty():
            return bool(self.lost)
        first, last = span(ours, "trade_id")
        return any(low <= last + 1 and high >= first - 1 for low, high in self.lost)

    def _bars(self, day: date, ours: pl.DataFrame, lost_us: list[int]) -> DayProof:
        """The day as far as its bars go; of a session shorter than a minute there are none."""
        bounds, whole = day_bounds(day), whole_bars(self.trades, _INTERVAL)
        covered = max(bounds[0], whole[0]), min(bounds[1], whole[1])
        head = DayProof(symbol=self.symbol, day=day, due_us=due_us(day))
        if covered[1] <= covered[0]:
            return head
        official = self._of_lake(day, covered)
        if official is not None:
            return head.model_copy(
                update={"bars": self._prove_bars(ours, official, covered, lost_us), "bars_from": "lake"}
            )
        file = ArchiveFile(self.market, self.symbol, _INTERVAL, day)
        try:
            published = published_files.klines_of(self.workspace, file)
        except UNUSABLE as error:
            return head.model_copy(update={"uncompared": [_uncompared(file.name, error)]})
        if published is None:
            return head.model_copy(update={"waits_for": file.name})
        proof = self._prove_bars(ours, published.frame, covered, lost_us)
        return head.model_copy(update={"bars": proof, "bars_from": "archive", "files": [published.path]})

    @staticmethod
    def _prove_bars(
        ours: pl.DataFrame, official: pl.DataFrame, covered: tuple[int, int], lost_us: list[int]
    ) -> Proof:
        return prove_bars(ours, official, _INTERVAL, covered, lost_us)

    def _of_lake(self, day: date, covered: tuple[int, int]) -> pl.DataFrame | None:
        """The lake's bars, if they can be read and reach over all that is covered of the day."""
        month = Month(day.year, day.month)
        path = self.workspace.lake.bars(Partition(self.market, _INTERVAL, self.symbol, month))
        if not path.is_file():
            return None
        try:
            bars = read_table(path)
        except LakeError:
            return None
        if bars.is_empty():
            return None
        first, last = span(bars, "open_time_us")
        return bars if first <= covered[0] and last >= covered[1] - _INTERVAL.us else None
