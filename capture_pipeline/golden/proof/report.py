"""What the proof of a session says: day by day, published as JSON beside the reports, and as short Markdown. Compares nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import iso
from capture_pipeline.golden.proof.compare import Difference, Proof
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.reporting import markdown as md

_MOST_SHOWN = 20


class State(StrEnum):
    """Of a day, or of a whole session."""

    HOLDS = "holds"
    DIFFERS = "differs"
    UNPROVED = "unproved"
    """A file could not be compared: it is damaged, or not what its checksum is about."""
    WAITING = "waiting"
    """Not published yet."""


class Uncompared(BaseModel):
    """A file that a day could not be held against.

    Attributes:
        file: Its name as published, or of the lake's bars their path.
        reason: What is wrong with it, and what can be done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    reason: str


class DayProof(BaseModel):
    """One UTC day of one symbol.

    Attributes:
        symbol: In capitals.
        day: By the exchange's trade time.
        due_us: When its files are expected by, microseconds UTC.
        trades: Of the ids; None while its trades are not published, or where their file could not be compared.
        bars: Of the minutes; None while its klines are not published, where they could not be compared, or where the session covers no
            minute of it whole.
        bars_from: `lake`, `archive`, or empty.
        waits_for: What is not published.
        uncompared: What could not be compared; the rest was.
        files: What it was proved by, below the storage root.
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
        """A difference is one, whatever is still to come."""
        if any(proof.differences for proof in self._proofs()):
            return State.DIFFERS
        if self.uncompared:
            return State.UNPROVED
        return State.WAITING if self.waits_for else State.HOLDS

    def _proofs(self) -> list[Proof]:
        return [proof for proof in (self.trades, self.bars) if proof is not None]

    @property
    def listed(self) -> list[Difference]:
        """Of trades, then of bars."""
        return [difference for proof in self._proofs() for difference in proof.listed]


class GapProof(BaseModel):
    """The account of the lost ids of one gap that REST did not complete.

    Attributes:
        stream: The exchange's name of it.
        first_lost: First lost id; of a stream of aggregates it is the aggregate's.
        last_lost: Last lost id.
        by_rest: Ids that REST brought.
        by_archive: Ids that the daily files have.
        not_published: Ids that neither has, once all files are published: the exchange gave them to no published trade.
        due_us: When the last file is expected by, microseconds UTC.
        waits_for: File that is not published yet.
        uncompared: What is wrong with a file.
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
        """It never differs: what was lost is not compared."""
        return State.UNPROVED if self.uncompared else State.WAITING if self.waits_for else State.HOLDS


class SessionProof(BaseModel):
    """A session against what the exchange published.

    Attributes:
        session: Its id.
        recording_sha256: Of what was proved.
        market: Spot or USD-M futures.
        state: `differs` where any day does, else `unproved` where a file could not be compared, else `waiting`, else `holds`.
        proved_us: When, by the exchange's clock.
        captured_from: `tables`, or `recording` where there are none of it.
        symbols_without_trades: Nothing could be compared of these.
        days: By symbol and day.
        gaps: Lost ids that REST did not bring, by gap.
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
        """The sum of a count over all days."""
        return sum(int(getattr(proof, name)) for day in self.days if (proof := of(day)) is not None)

    @property
    def figures(self) -> dict[str, int]:
        """The counts of all days together."""
        trades = {
            name: self.total(lambda day: day.trades, name)
            for name in ("trades_captured", "trades_published", "known_lost")
        }
        bars = {name: self.total(lambda day: day.bars, name) for name in ("bars_compared", "bars_left_out")}
        differing = {
            "trades_differing": self.total(lambda day: day.trades, "differences"),
            "bars_differing": self.total(lambda day: day.bars, "differences"),
        }
        lost = {
            f"lost_{name}": sum(getattr(gap, name) for gap in self.gaps)
            for name in ("by_rest", "by_archive", "not_published")
        }
        return {**trades, **bars, **differing, **lost, **self._days}

    @property
    def _days(self) -> dict[str, int]:
        return {
            f"days_{state}": sum(day.state is state for day in self.days)
            for state in (State.WAITING, State.UNPROVED)
        }

    @property
    def due_us(self) -> int | None:
        """When the last day that can be proved again is expected to be published; None where none can."""
        parts: list[DayProof | GapProof] = [*self.days, *self.gaps]
        return max((part.due_us for part in parts if part.waits_for or part.uncompared), default=None)

    @property
    def not_compared(self) -> list[str]:
        """A sentence for each file that could not be compared."""
        found = ((day, each) for day in self.days for each in day.uncompared)
        days = [
            f"{day.symbol} {day.day} could not be held against {each.file}: {each.reason}"
            for day, each in found
        ]
        return days + [
            f"lost ids of {gap.stream} could not be looked up: {gap.uncompared}"
            for gap in self.gaps
            if gap.uncompared
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the model, with what follows from it."""
        document = self.model_dump(mode="json")
        for day, proof in zip(document["days"], self.days, strict=True):
            day["state"] = str(proof.state)
        return {**document, "figures": self.figures}


def state_of(parts: Sequence[DayProof | GapProof]) -> State:
    """Return the state of all days and gaps together."""
    states = {part.state for part in parts}
    return next(
        state for state in (State.DIFFERS, State.UNPROVED, State.WAITING, State.HOLDS) if state in states
    )


def publish(path: Path, proof: SessionProof) -> None:
    """Publish a proof in place of an earlier one."""
    publish_model(path, proof)


def read_proof(path: Path) -> SessionProof | None:
    """The proof that was published, or None.

    Raises:
        LakeError: It is damaged.
    """
    return read_model(path, SessionProof)


def markdown(proof: SessionProof) -> md.Markdown:
    """A table of days and, where there are any, of the first differences."""
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
        rows = [(each.where, each.field, each.captured, each.published) for each in listed[:_MOST_SHOWN]]
        parts.append(md.table(("where", "field", "captured", "published"), rows))
        count = proof.figures["trades_differing"] + proof.figures["bars_differing"]
        parts += [md.text(f"{count:,} differences in all")] if count > _MOST_SHOWN else []
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
