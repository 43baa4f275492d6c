"""Data model of the proof of a session, its publication as JSON, and its short form in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import iso
from capture_pipeline.golden.proof.comparison import Difference, Proof
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.reporting import markdown as md

_MAX_EXAMPLES = 20


class State(StrEnum):
    """State of a day, of a gap, or of a whole session."""

    HOLDS = "holds"
    DIFFERS = "differs"
    UNPROVED = "unproved"
    """A file could not be compared: it is damaged, or does not match its checksum."""
    WAITING = "waiting"
    """A file is not published yet."""


class Uncompared(BaseModel):
    """A file that could not be compared with a day.

    Attributes:
        file: Published name of the file.
        reason: Problem and remedy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    reason: str


class DayProof(BaseModel):
    """Proof of one UTC day of one symbol.

    Attributes:
        symbol: Symbol in capitals.
        day: Day by the exchange's trade time.
        due_us: Time at which the files of the day should be published, microseconds UTC.
        trades: Comparison of the trades by id; None if their file is not published yet or could not be
            compared.
        bars: Comparison of the bars by minute; None if the klines are not published yet or could not be
            compared, or if the session covers no whole minute of the day.
        bars_from: Source of the official bars: `lake`, `archive`, or empty.
        waits_for: Name of a file that is not published yet.
        uncompared: Files that could not be compared; all other files were compared.
        files: Paths of the compared files below the storage root.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    symbol: str
    day: date
    due_us: int
    trades: Proof | None = None
    bars: Proof | None = None
    bars_from: str = ""
    waits_for: str = ""
    uncompared: list[Uncompared] = []
    files: list[str] = []

    @property
    def state(self) -> State:
        """`DIFFERS` if any comparison found a difference, else the state of the missing files."""
        if any(proof.differences for proof in self._proofs()):
            return State.DIFFERS
        if self.uncompared:
            return State.UNPROVED
        return State.WAITING if self.waits_for else State.HOLDS

    def _proofs(self) -> list[Proof]:
        return [proof for proof in (self.trades, self.bars) if proof is not None]

    @property
    def listed(self) -> list[Difference]:
        """Differences of trades, then of bars."""
        return [difference for proof in self._proofs() for difference in proof.listed]


class GapProof(BaseModel):
    """Result for the lost ids of one gap that REST did not fill.

    Attributes:
        stream: Name of the stream.
        first_lost: First lost id; in streams of aggregate trades the id of the aggregate.
        last_lost: Last lost id.
        by_rest: Number of ids filled from REST.
        by_archive: Number of ids found in the daily files.
        not_published: Number of ids that neither REST nor the published files contain; counted when all files
            are published.
        due_us: Time at which the last file should be published, microseconds UTC.
        waits_for: Name of a file that is not published yet.
        uncompared: Problem of a file that could not be compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    stream: str
    first_lost: int
    last_lost: int
    by_rest: int = 0
    by_archive: int = 0
    not_published: int = 0
    due_us: int
    waits_for: str = ""
    uncompared: str = ""

    @property
    def state(self) -> State:
        """State of the gap; never `DIFFERS`, because lost trades are not compared."""
        return State.UNPROVED if self.uncompared else State.WAITING if self.waits_for else State.HOLDS


@dataclass(frozen=True)
class ProofFigures:
    """Counts of a session.

    Attributes:
        trades_captured: Captured trades that were compared.
        trades_published: Published trades that were compared.
        known_lost: Published trades that were not captured and are in the gap ledger.
        bars_compared: Compared bars.
        bars_left_out: Bars that were not compared because they contain a known loss.
        trades_differing: Differences of trades.
        bars_differing: Differences of bars.
        lost_by_rest: Lost ids that REST returned.
        lost_by_archive: Lost ids that the archive has.
        lost_not_published: Lost ids that the archive does not have.
        days_waiting: Days of which a file is not published yet.
        days_unproved: Days of which a file could not be compared.
    """

    trades_captured: int
    trades_published: int
    known_lost: int
    bars_compared: int
    bars_left_out: int
    trades_differing: int
    bars_differing: int
    lost_by_rest: int
    lost_by_archive: int
    lost_not_published: int
    days_waiting: int
    days_unproved: int


class SessionProof(BaseModel):
    """Proof of a session.

    Attributes:
        session: Id of the session.
        recording_sha256: Digest of the proved recording.
        market: Spot or USD-M futures.
        state: `differs` if any day differs, else `unproved` if a file could not be compared, else `waiting`,
            else `holds`.
        proved_us: Time of the proof by the exchange's clock, microseconds UTC.
        captured_from: `tables`, or `recording` if the session has no tables.
        symbols_without_trades: Symbols without a captured trade; nothing is compared for them.
        days: Proofs by symbol and day.
        gaps: Results for gaps that REST did not fill.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    session: str
    recording_sha256: str
    market: str
    state: State
    proved_us: int
    captured_from: str
    symbols_without_trades: list[str] = []
    days: list[DayProof]
    gaps: list[GapProof] = []

    def total(self, of: Callable[[DayProof], Proof | None], name: str) -> int:
        """Sum a count over all days."""
        return sum(int(getattr(proof, name)) for day in self.days if (proof := of(day)) is not None)

    @property
    def figures(self) -> ProofFigures:
        """Sums of the counts of all days."""
        states = [day.state for day in self.days]
        return ProofFigures(
            trades_captured=self.total(lambda day: day.trades, "trades_captured"),
            trades_published=self.total(lambda day: day.trades, "trades_published"),
            known_lost=self.total(lambda day: day.trades, "known_lost"),
            bars_compared=self.total(lambda day: day.bars, "bars_compared"),
            bars_left_out=self.total(lambda day: day.bars, "bars_left_out"),
            trades_differing=self.total(lambda day: day.trades, "differences"),
            bars_differing=self.total(lambda day: day.bars, "differences"),
            lost_by_rest=sum(gap.by_rest for gap in self.gaps),
            lost_by_archive=sum(gap.by_archive for gap in self.gaps),
            lost_not_published=sum(gap.not_published for gap in self.gaps),
            days_waiting=states.count(State.WAITING),
            days_unproved=states.count(State.UNPROVED),
        )

    @property
    def due_us(self) -> int | None:
        """Time at which all missing files should be published; None if no file is missing or uncompared."""
        parts: list[DayProof | GapProof] = [*self.days, *self.gaps]
        return max((part.due_us for part in parts if part.waits_for or part.uncompared), default=None)

    @property
    def not_compared(self) -> list[str]:
        """A sentence for each file that could not be compared."""
        found = ((day, each) for day in self.days for each in day.uncompared)
        days = [
            f"{day.symbol} {day.day} could not be compared with {each.file}: {each.reason}"
            for day, each in found
        ]
        return days + [
            f"lost ids of {gap.stream} could not be looked up: {gap.uncompared}"
            for gap in self.gaps
            if gap.uncompared
        ]

    def to_dict(self) -> dict[str, Any]:
        """Convert the proof to values that JSON can represent, with states and figures."""
        document = self.model_dump(mode="json")
        for day, proof in zip(document["days"], self.days, strict=True):
            day["state"] = str(proof.state)
        return {**document, "figures": asdict(self.figures)}


def combine_states(parts: Sequence[DayProof | GapProof]) -> State:
    """Return the state of all days and gaps together."""
    states = {part.state for part in parts}
    return next(
        state for state in (State.DIFFERS, State.UNPROVED, State.WAITING, State.HOLDS) if state in states
    )


def publish(path: Path, proof: SessionProof) -> None:
    """Publish a proof, and replace an earlier one."""
    publish_model(path, proof)


def read_proof(path: Path) -> SessionProof | None:
    """Read the published proof; None if there is none.

    Raises:
        LakeError: The file is damaged.
    """
    return read_model(path, SessionProof)


def markdown(proof: SessionProof) -> md.Markdown:
    """Format a table of the days, and a table of the first differences if there are any."""
    head = (
        "symbol",
        "day",
        "state",
        "trades captured",
        "published",
        "known losses",
        "minutes",
        "left out",
        "differences",
    )
    parts = [
        md.sentence(md.bold(proof.state), f" — {proof.session}, from {proof.captured_from}"),
        md.table(head, map(_row, proof.days), numbers_from=3),
        *map(md.text, proof.not_compared),
    ]
    listed = [difference for day in proof.days for difference in day.listed]
    if listed:
        rows = [(each.where, each.field, each.captured, each.published) for each in listed[:_MAX_EXAMPLES]]
        parts.append(md.table(("where", "field", "captured", "published"), rows))
        count = proof.figures.trades_differing + proof.figures.bars_differing
        parts += [md.text(f"{count:,} differences in total")] if count > _MAX_EXAMPLES else []
    return md.document(*parts)


def _row(day: DayProof) -> tuple[str, ...]:
    trades, bars = (
        day.trades or Proof(holds=False, differences=0, listed=[]),
        day.bars or Proof(holds=False, differences=0, listed=[]),
    )
    state = f"{day.state}: {day.waits_for}, due {iso(day.due_us)}" if day.waits_for else str(day.state)
    return (
        day.symbol,
        str(day.day),
        state,
        *(f"{count:,}" for count in (trades.trades_captured, trades.trades_published, trades.known_lost)),
        *(
            f"{count:,}"
            for count in (bars.bars_compared, bars.bars_left_out, trades.differences + bars.differences)
        ),
    )
