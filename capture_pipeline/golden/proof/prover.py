"""Proof of a session: comparison of each symbol and day with published trades and klines.

A day that is not published yet is not a failure. If a file is damaged, the other files of the day are still
compared. A repeated proof downloads only files that are new or were revised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import polars as pl

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import DAY_US, Interval, Month, TimeRange, day_bounds, from_us
from capture_pipeline.binance.urls import ArchiveFile, Market, TradesFile
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import ensure_venue
from capture_pipeline.errors import CaptureError, ConfigError, LakeError, MalformedDataError
from capture_pipeline.golden.proof import published_files
from capture_pipeline.golden.proof.archive_refills import FILE_ERRORS, fill_from_archive
from capture_pipeline.golden.proof.captured_trades import (
    CapturedTrades,
    load_captured,
    read_finished_metadata,
)
from capture_pipeline.golden.proof.comparison import (
    Proof,
    covered_range,
    prove_bars,
    prove_trades,
    select_known_losses,
    value_range,
)
from capture_pipeline.golden.proof.report import DayProof, SessionProof, Uncompared, combine_states, publish
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import guard_parquet, read_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan

_INTERVAL = Interval.M1
_VENUES = {"binance", "sandbox"}


def prove(deployment: Deployment, folder: SessionFolder) -> SessionProof:
    """Prove a finished session, and publish the result below the lake's reports.

    Args:
        deployment: Deployment with the lake and the client of the archive.
        folder: Folder of the session.

    Returns:
        The published proof.

    Raises:
        ConfigError: The session is not finished, or nothing is published for its venue or market, or it was
            recorded at another venue than that of the settings.
        LakeError: A file of the session or of its tables is damaged or missing.
        MalformedDataError: The file is not a recording, or it contains no trade.
        CaptureError: A request to the exchange failed, or a file cannot be written.
    """
    plan = read_finished_metadata(folder).plan
    if reason := unprovable_reason(plan):
        raise ConfigError(
            reason,
            where=str(folder.path),
            remedy="validate the session instead; validation checks its ids and its ledger",
        )
    if plan.venue != deployment.settings.venue:
        remedy = "prove the session with the settings of its recording"
        raise ConfigError(
            f"was recorded at venue {plan.venue}, but the settings have venue {deployment.settings.venue}",
            where=str(folder.path),
            remedy=remedy,
        )
    found = load_captured(folder, GoldenTables(deployment.lake.tables(), folder.session))
    ensure_venue(deployment)
    now_us = deployment.now_us()
    proved = _prove_days(deployment, found, now_us)
    gaps = fill_from_archive(deployment, folder, Market(plan.market), now_us)
    if not proved.days and not gaps:
        raise MalformedDataError(
            "contains no trade to prove", where=str(folder.path), remedy="record a session with trades"
        )
    proof = SessionProof(
        session=folder.session,
        recording_sha256=found.sha256,
        market=plan.market,
        state=combine_states([*proved.days, *gaps]),
        proved_us=now_us,
        captured_from=found.source,
        symbols_without_trades=proved.symbols_without_trades,
        days=proved.days,
        gaps=gaps,
    )
    publish(deployment.lake.proof(folder.session), proof)
    return proof


def unprovable_reason(plan: SessionPlan) -> str:
    """Return the reason why a session cannot be proved: nothing is published for it; empty if it can."""
    if plan.venue not in _VENUES:
        return f"is of venue {plan.venue}, of which no files are published"
    if plan.market not in set(Market):
        return f"is of market {plan.market}, whose published trades count contracts; they cannot be compared"
    return ""


class _ProvedDays(NamedTuple):
    days: list[DayProof]
    symbols_without_trades: list[str]


def _prove_days(deployment: Deployment, found: CapturedTrades, now_us: int) -> _ProvedDays:
    days: list[DayProof] = []
    without: list[str] = []
    for symbol, frame in found.trades.items():
        with guard_parquet("tables of the session", remedy="convert the recording again"):
            trades = frame.collect()
        if trades.is_empty():
            without.append(symbol)
            continue
        work = _SymbolProver(
            deployment, Market(found.metadata.plan.market), symbol, trades, found.lost.get(symbol, []), now_us
        )
        days += list(work.days())
    return _ProvedDays(days, without)


def _uncompared(file: str, error: CaptureError) -> Uncompared:
    return Uncompared(file=file, reason=str(error))


@dataclass(frozen=True)
class _SymbolProver:
    """Proof of one symbol of a session.

    Attributes:
        deployment: Deployment with the lake and the client of the archive.
        market: Market of the symbol.
        symbol: Symbol in capitals.
        trades: All captured trades of the symbol.
        lost: Ids that the ledger lists.
        now_us: Time by the exchange's clock, microseconds UTC.
    """

    deployment: Deployment
    market: Market
    symbol: str
    trades: pl.DataFrame
    lost: list[IdRange]
    now_us: int

    def days(self) -> Iterator[DayProof]:
        """Prove every day from the first to the last trade, also days without a captured trade."""
        first, last = value_range(self.trades, "trade_us")
        for number in range(first // DAY_US, last // DAY_US + 1):
            yield self._prove_day(from_us(number * DAY_US).date())

    def _prove_day(self, day: date) -> DayProof:
        start, end = day_bounds(day)
        head = DayProof(symbol=self.symbol, day=day, due_us=due_us(day))
        file = TradesFile(self.market, self.symbol, day)
        ours = self.trades.filter(pl.col("trade_us").is_between(start, end, closed="left"))
        try:
            published = published_files.fetch_trades(self.deployment, file) if end <= self.now_us else None
        except FILE_ERRORS as error:
            bars = self._skip_bars(day) if self._has_losses(ours) else self._compare_bars(day, ours, [])
            return bars.model_copy(update={"uncompared": [_uncompared(file.name, error), *bars.uncompared]})
        if published is None:
            return head.model_copy(update={"waits_for": file.name})
        trades = prove_trades(
            ours, published.frame, IdRange(*value_range(self.trades, "trade_id")), self.lost
        )
        lost_us = select_known_losses(ours, published.frame, self.lost)["trade_us"].to_list()
        bars = self._compare_bars(day, ours, lost_us)
        return bars.model_copy(update={"trades": trades, "files": [published.path, *bars.files]})

    def _skip_bars(self, day: date) -> DayProof:
        """Skip the bars of a day without a usable trades file: the minutes of its losses are unknown."""
        klines = ArchiveFile(self.market, self.symbol, _INTERVAL, day).name
        why = Uncompared(
            file=klines,
            reason="the session lost trades of that day, and only the trades file shows in which minutes",
        )
        return DayProof(symbol=self.symbol, day=day, due_us=due_us(day), uncompared=[why])

    def _has_losses(self, ours: pl.DataFrame) -> bool:
        """Return True if the ledger lists ids between or next to the trades of a day."""
        if ours.is_empty():
            return bool(self.lost)
        first, last = value_range(ours, "trade_id")
        return any(low <= last + 1 and high >= first - 1 for low, high in self.lost)

    def _compare_bars(self, day: date, ours: pl.DataFrame, lost_us: list[int]) -> DayProof:
        """Compare the bars of a day.

        If the session covers no whole minute of the day, nothing is compared.
        """
        bounds, whole = day_bounds(day), covered_range(self.trades, _INTERVAL)
        covered = TimeRange(max(bounds.start_us, whole.start_us), min(bounds.end_us, whole.end_us))
        head = DayProof(symbol=self.symbol, day=day, due_us=due_us(day))
        if covered.length_us <= 0:
            return head
        official = self._read_lake_bars(day, covered)
        if official is not None:
            return head.model_copy(
                update={"bars": self._prove_bars(ours, official, covered, lost_us), "bars_from": "lake"}
            )
        file = ArchiveFile(self.market, self.symbol, _INTERVAL, day)
        try:
            published = published_files.fetch_klines(self.deployment, file)
        except FILE_ERRORS as error:
            return head.model_copy(update={"uncompared": [_uncompared(file.name, error)]})
        if published is None:
            return head.model_copy(update={"waits_for": file.name})
        proof = self._prove_bars(ours, published.frame, covered, lost_us)
        return head.model_copy(update={"bars": proof, "bars_from": "archive", "files": [published.path]})

    @staticmethod
    def _prove_bars(
        ours: pl.DataFrame, official: pl.DataFrame, covered: TimeRange, lost_us: list[int]
    ) -> Proof:
        return prove_bars(ours, official, _INTERVAL, covered, lost_us)

    def _read_lake_bars(self, day: date, covered: TimeRange) -> pl.DataFrame | None:
        """Read the bars of the lake; None if they are missing, damaged or do not cover the range."""
        month = Month(day.year, day.month)
        path = self.deployment.lake.bars(Partition(self.market, _INTERVAL, self.symbol, month))
        if not path.is_file():
            return None
        try:
            bars = read_table(path)
        except LakeError:
            return None
        if bars.is_empty():
            return None
        first, last = value_range(bars, "open_time_us")
        return bars if first <= covered.start_us and last >= covered.end_us - _INTERVAL.us else None
