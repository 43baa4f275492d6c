"""Import of other tools' recordings as a session: recording, plan, gap ledger, metadata, checksums."""

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
from capture_pipeline.golden.imports.lines import symbol_or_empty
from capture_pipeline.golden.imports.report import provenance
from capture_pipeline.golden.imports.sources import CapturedMessage, Origin, Source
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.golden.validation.size import sum_gap_seconds
from capture_pipeline.golden.validation.validator import statistics
from capture_pipeline.lake.files import create_folder, fsync, sha256_file, storage_errors
from capture_pipeline.parsing import guard_parser
from capture_pipeline.sessions.gzip_members import FULL_BYTES, build_member
from capture_pipeline.sessions.layout import SessionFolder, session_id, valid_regime
from capture_pipeline.sessions.line_format import format_line
from capture_pipeline.sessions.models import (
    Cause,
    FileRecord,
    Gap,
    SessionMetadata,
    SessionPlan,
    SessionState,
)

MESSAGES_A_MEMBER = 500
_REMEDY = "remove the session or choose another --out; an import overwrites nothing"


@dataclass(slots=True)
class _SessionWriter:
    """Writer of the recording.

    Attributes:
        last_ns: Capture time of the last line.
        raised: Number of stamps that were raised to the previous one because they were lower.
        raised_most_ns: Largest such change.
        symbols: Symbols in the order of their first message.
        streams: Subscribed streams, followed by other streams in the order of their first message.
    """

    last_ns: int = -1
    raised: int = 0
    raised_most_ns: int = 0
    symbols: dict[str, None] = field(default_factory=dict)
    streams: dict[str, None] = field(default_factory=dict)

    def add_planned_streams(self, streams: list[str]) -> None:
        """Add subscribed streams to the plan, so that validation finds streams without a message."""
        self.streams = dict.fromkeys(streams) | self.streams

    def members(self, messages: Iterator[CapturedMessage]) -> Iterator[bytes]:
        """Yield gzip members of whole lines."""
        lines: list[bytes] = []
        size = 0
        for captured in messages:
            if captured.stream not in self.streams:
                self.streams[captured.stream] = None
                self.symbols.update({symbol: None for symbol in [symbol_or_empty(captured.stream)] if symbol})
            if captured.capture_ns < self.last_ns:
                self.raised += 1
                self.raised_most_ns = max(self.raised_most_ns, self.last_ns - captured.capture_ns)
            self.last_ns = max(self.last_ns, captured.capture_ns)
            lines.append(format_line(self.last_ns, captured.stream, captured.data))
            size += len(lines[-1])
            if len(lines) == MESSAGES_A_MEMBER or size >= FULL_BYTES:
                yield build_member(b"".join(lines), len(lines))
                lines, size = [], 0
        if lines:
            yield build_member(b"".join(lines), len(lines))


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
    """Import the files of one recording as a session.

    Args:
        origin: Tool that wrote the files.
        files: The files in any order.
        out: Root of all sessions (`…/golden_samples`).
        regime: Folder of the session below the root.
        symbol: Symbol of snapshots without a stream, if the data do not show it.
        market: `spot`, `um` or `cm`, if the data do not show it.
        venue: For example `binance` or `binance.us`, if the data do not show it.

    Returns:
        The folder of the session, which appears when it is complete.

    Raises:
        MalformedDataError: A file does not have the format of the tool, the files contain no message, or the
            evidence of market or venue is contradictory.
        ConfigError: The session exists already, or an argument is wrong or missing.
        StorageError: A file cannot be written.
    """
    valid_regime(regime)
    _check_arguments(market, venue)
    source = Source(origin, files, parse_symbol(symbol) if symbol else None)
    new_folders = [folder for folder in (out / regime, *(out / regime).parents) if not folder.exists()]
    create_folder(out / regime)
    partial = SessionFolder(out / regime / f".importing-{uuid.uuid4().hex[:12]}")
    create_folder(partial.path)
    try:
        with storage_errors(partial.path):
            return _build_session(partial, source, regime, market, venue)
    finally:
        shutil.rmtree(partial.path, ignore_errors=True)
        _remove_empty(new_folders)


def _check_arguments(market: str | None, venue: str | None) -> None:
    if market is not None and market not in MARKETS:
        raise ConfigError(f"{market!r} is not a market", remedy=f"name one of {', '.join(MARKETS)}")
    if venue is not None:
        valid_venue(venue)


def _remove_empty(folders: list[Path]) -> None:
    """Remove empty folders that a failed import created."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _build_session(
    partial: SessionFolder, source: Source, regime: str, market: str | None, venue: str | None
) -> SessionFolder:
    writer, raw = _SessionWriter(), partial.path / "recording"
    with raw.open("wb") as file:
        for member in writer.members(source.messages()):
            file.write(member)
    if writer.last_ns < 0:
        left = "; ".join(map(str, source.notes.left_out))
        what = f"there is no message to import: {left}" if left else "there is no message to import"
        raise MalformedDataError(
            what, where=", ".join(map(str, source.files)), remedy="name the recording's files"
        )
    source.decide(market, venue)
    found = scan(raw)
    target = SessionFolder(
        partial.path.parent / session_id(list(writer.symbols) or ["NONE"], found.first_ns // 1000)
    )
    if target.path.exists():
        raise ConfigError(
            "the session exists already",
            where=str(target.path),
            remedy=_REMEDY,
        )
    raw.rename(partial.path / target.recording.name)
    writer.add_planned_streams(list(source.notes.subscribed))
    with guard_parser(
        ", ".join(map(str, source.files)), "the messages and their times do not form a valid session"
    ):
        plan = _plan(target.session, found, writer, regime, source)
    _write_metadata(
        partial, target.recording.name, plan, found, provenance(source, writer.raised, writer.raised_most_ns)
    )
    for path in (*partial.path.iterdir(), partial.path):
        fsync(path)
    try:
        partial.path.rename(target.path)
    except OSError as error:
        if target.path.exists():
            raise ConfigError(
                "the session exists already: another import created it at the same time",
                where=str(target.path),
                remedy=_REMEDY,
            ) from error
        raise
    fsync(target.path.parent)
    return target


def _write_metadata(
    partial: SessionFolder, recording: str, plan: SessionPlan, found: Scan, provenance: dict[str, object]
) -> None:
    """Write plan, gap ledger, metadata and checksums, in this order."""
    partial.plan.write_bytes(_text(plan))
    partial.gaps.write_bytes(
        b"".join(gap.model_dump_json().encode() + b"\n" for gap in build_gap_ledger(found))
    )
    listed = [partial.path / recording, partial.plan, partial.gaps]
    metadata = SessionMetadata(
        plan=plan,
        state=SessionState.COMPLETE,
        started_ns=found.first_ns,
        ended_ns=found.last_ns,
        files=[
            FileRecord(name=path.name, bytes=path.stat().st_size, sha256=sha256_file(path)) for path in listed
        ],
        statistics=statistics(found, None) | _recorder_statistics(found),
        audits=[],
        clock={},
        host={},
        versions={
            "capture-pipeline": importlib.metadata.version("capture-pipeline"),
            "python": platform.python_version(),
        },
        configuration=provenance,
    )
    partial.metadata.write_bytes(_text(metadata))
    sums = [f"{sha256_file(path)}  {path.name}\n" for path in (*listed, partial.metadata)]
    partial.checksums.write_text("".join(sums), encoding="utf-8")


def _recorder_statistics(found: Scan) -> dict[str, object]:
    """Compute the statistics that a recorder writes, to make imported and recorded sessions comparable."""
    tracks = {name: stream.track for name, stream in sorted(found.streams.items())}
    gaps = build_gap_ledger(found)
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


def build_gap_ledger(found: Scan) -> list[Gap]:
    """Build the gap ledger of a recording from its missing ids."""
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


def _plan(session: str, found: Scan, writer: _SessionWriter, regime: str, source: Source) -> SessionPlan:
    return SessionPlan(
        session=session,
        venue=source.evidence.only_venue,
        market=source.evidence.only_market,
        symbols=list(writer.symbols),
        streams=list(writer.streams),
        regime=regime,
        description=f"imported from a recording of {source.origin}",
        start_us=found.first_ns // 1000,
        duration_s=max(found.duration_s, 1e-9),
        connections=1,
    )


def _text(model: BaseModel) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()
