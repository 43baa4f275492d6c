"""Other tools' recordings made into a session of ours: recording, plan, gap ledger, metadata, checksums, published as one folder."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.binance.symbols import parse_symbol
from capture_pipeline.errors import ConfigError, MalformedDataError
from capture_pipeline.golden.imports.evidence import MARKETS, valid_venue
from capture_pipeline.golden.imports.lines import import_symbol
from capture_pipeline.golden.imports.report import provenance
from capture_pipeline.golden.imports.sources import Captured, Origin, Source
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.golden.validation.size import sum_gap_seconds
from capture_pipeline.golden.validation.validate import statistics
from capture_pipeline.lake.files import fsync, make_folder, sha256_file, storage_errors
from capture_pipeline.parsing import guard_parser
from capture_pipeline.sessions.gzip_members import FULL_BYTES, member_of
from capture_pipeline.sessions.layout import SessionFolder, session_id, valid_regime
from capture_pipeline.sessions.line_format import format_line
from capture_pipeline.sessions.models import Cause, FileRecord, Gap, SessionMetadata, SessionPlan

MESSAGES_A_MEMBER = 500


@dataclass(slots=True)
class _Writing:
    """What became of the messages.

    Attributes:
        last_ns: Stamp of the last line.
        raised: Stamps that went back and were raised to their predecessor.
        raised_most_ns: The most that one was raised by.
        symbols: In the order in which they appear.
        streams: Likewise, behind those that the recording says it subscribed to.
    """

    last_ns: int = -1
    raised: int = 0
    raised_most_ns: int = 0
    symbols: dict[str, None] = field(default_factory=dict)
    streams: dict[str, None] = field(default_factory=dict)

    def planned(self, streams: list[str]) -> None:
        """What was subscribed to belongs to the plan, whether it came or not; a stream that never came is found missing."""
        self.streams = dict.fromkeys(streams) | self.streams

    def members(self, messages: Iterator[Captured]) -> Iterator[bytes]:
        """Gzip members of whole lines."""
        lines: list[bytes] = []
        size = 0
        for captured in messages:
            if captured.stream not in self.streams:
                self.streams[captured.stream] = None
                self.symbols.update({symbol: None for symbol in [import_symbol(captured.stream)] if symbol})
            if captured.capture_ns < self.last_ns:
                self.raised += 1
                self.raised_most_ns = max(self.raised_most_ns, self.last_ns - captured.capture_ns)
            self.last_ns = max(self.last_ns, captured.capture_ns)
            lines.append(format_line(self.last_ns, captured.stream, captured.data))
            size += len(lines[-1])
            if len(lines) == MESSAGES_A_MEMBER or size >= FULL_BYTES:
                yield member_of(b"".join(lines), len(lines))
                lines, size = [], 0
        if lines:
            yield member_of(b"".join(lines), len(lines))


def import_session(
    origin: Origin,
    files: list[Path],
    out: Path,
    *,
    regime: str = "imported",
    symbol: str | None = None,
    market: str | None = None,
    venue: str | None = None,
) -> SessionFolder:
    """Make one session of the files of one recording.

    Args:
        origin: Which tool wrote them.
        files: In any order.
        out: The root of all sessions (`…/golden_samples`).
        regime: The folder below it.
        symbol: Whose snapshots those without a stream are, where that is not plain.
        market: `spot`, `um` or `cm`, where the data do not tell it.
        venue: For instance `binance` or `binance.us`, likewise.

    Returns:
        The session's folder, published whole.

    Raises:
        MalformedDataError: A file is not what that tool writes, or holds no message, or market and venue are contradictory.
        ConfigError: The session is there already, or an argument is wrong or missing.
        StorageError: The disk refused.
    """
    valid_regime(regime)
    _check_arguments(market, venue)
    source = Source(origin, files, parse_symbol(symbol) if symbol else None)
    made = [folder for folder in (out / regime, *(out / regime).parents) if not folder.exists()]
    make_folder(out / regime)
    beside = SessionFolder(out / regime / f".importing-{uuid.uuid4().hex[:12]}")
    make_folder(beside.path)
    try:
        with storage_errors(beside.path):
            return _built(beside, source, regime, market, venue)
    finally:
        shutil.rmtree(beside.path, ignore_errors=True)
        _remove_empty(made)


def _check_arguments(market: str | None, venue: str | None) -> None:
    if market is not None and market not in MARKETS:
        raise ConfigError(f"{market!r} is no market", remedy=f"name one of {', '.join(MARKETS)}")
    if venue is not None:
        valid_venue(venue)


def _remove_empty(folders: list[Path]) -> None:
    """Leave no folder behind that was made for an import that was refused."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _built(
    beside: SessionFolder, source: Source, regime: str, market: str | None, venue: str | None
) -> SessionFolder:
    writing, raw = _Writing(), beside.path / "recording"
    with raw.open("wb") as file:
        for member in writing.members(source.messages()):
            file.write(member)
    if writing.last_ns < 0:
        left = "; ".join(map(str, source.notes.left_out))
        what = f"there is no message to import: {left}" if left else "there is no message to import"
        raise MalformedDataError(
            what, where=", ".join(map(str, source.files)), remedy="name the recording's files"
        )
    source.decide(market, venue)
    found = scan(raw)
    target = SessionFolder(
        beside.path.parent / session_id(list(writing.symbols) or ["NONE"], found.first_ns // 1000)
    )
    if target.path.exists():
        raise ConfigError(
            "the session is there already",
            where=str(target.path),
            remedy="nothing is overwritten; remove it or choose another --out",
        )
    raw.rename(beside.path / target.recording.name)
    writing.planned(list(source.notes.subscribed))
    with guard_parser(
        ", ".join(map(str, source.files)), "no session can be made of its messages and their times"
    ):
        plan = _plan(target.session, found, writing, regime, source)
    _describe(
        beside, target.recording.name, plan, found, provenance(source, writing.raised, writing.raised_most_ns)
    )
    for path in (*beside.path.iterdir(), beside.path):
        fsync(path)
    try:
        beside.path.rename(target.path)
    except OSError as error:
        if target.path.exists():
            raise ConfigError(
                "the session is there already",
                where=str(target.path),
                remedy="another import made it meanwhile",
            ) from error
        raise
    fsync(target.path.parent)
    return target


def _describe(
    beside: SessionFolder, recording: str, plan: SessionPlan, found: Scan, provenance: dict[str, object]
) -> None:
    """Everything but the recording; metadata last but for the checksums that cover it."""
    beside.plan.write_bytes(_text(plan))
    beside.gaps.write_bytes(b"".join(gap.model_dump_json().encode() + b"\n" for gap in gaps_of(found)))
    listed = [beside.path / recording, beside.plan, beside.gaps]
    metadata = SessionMetadata(
        plan=plan,
        state="complete",
        started_ns=found.first_ns,
        ended_ns=found.last_ns,
        files=[
            FileRecord(name=path.name, bytes=path.stat().st_size, sha256=sha256_file(path)) for path in listed
        ],
        statistics=statistics(found, None) | _as_recorded(found),
        audits=[],
        clock={},
        host={},
        versions={
            "capture-pipeline": importlib.metadata.version("capture-pipeline"),
            "python": platform.python_version(),
        },
        configuration=provenance,
    )
    beside.metadata.write_bytes(_text(metadata))
    sums = [f"{sha256_file(path)}  {path.name}\n" for path in (*listed, beside.metadata)]
    beside.checksums.write_text("".join(sums), encoding="utf-8")


def _as_recorded(found: Scan) -> dict[str, object]:
    """The figures that a session of a recorder has, so that both can be listed and compared."""
    tracks = {name: stream.track for name, stream in sorted(found.streams.items())}
    gaps = gaps_of(found)
    return {
        "messages_by_stream": {name: track.messages for name, track in tracks.items()},
        "uptime_percent": round(100 * (1 - sum_gap_seconds(found) / found.duration_s), 6)
        if found.duration_s
        else 0.0,
        "gaps": len(gaps),
        "gaps_by_cause": {str(Cause.UNKNOWN): len(gaps)} if gaps else {},
        "ids_lost": sum(gap.ids_lost for gap in gaps),
        "duplicates": sum(track.duplicates for track in tracks.values()),
        "late_s": 0.0,
        "reconnects": 0,
        "reconnects_by_cause": {},
    }


def gaps_of(found: Scan) -> list[Gap]:
    """A ledger of what is missing in a recording that kept none."""
    return [
        Gap(
            stream=gap.stream,
            last_good_id=gap.last_good_id,
            first_good_id=gap.first_good_id,
            ids_lost=gap.first_good_id - gap.last_good_id - 1,
            start_ns=gap.start_ns,
            end_ns=gap.end_ns,
            cause=Cause.UNKNOWN,
            detail="found at import",
            recoverable=stream.kind is StreamKind.TRADE,
        )
        for stream in found.streams.values()
        for gap in stream.breaks
    ]


def _plan(session: str, found: Scan, writing: _Writing, regime: str, source: Source) -> SessionPlan:
    return SessionPlan(
        session=session,
        venue=source.evidence.only_venue,
        market=source.evidence.only_market,
        symbols=list(writing.symbols),
        streams=list(writing.streams),
        regime=regime,
        description=f"imported from a recording of {source.origin}",
        start_us=found.first_ns // 1000,
        duration_s=max(found.duration_s, 1e-9),
        connections=1,
    )


def _text(model: BaseModel) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()
