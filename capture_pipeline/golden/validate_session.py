"""Checks that only the folder of a session allows: plan and ledger against data; of a finished one its checksums and what its disk did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from capture_pipeline.binance.streams import StreamKind
from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.report import Check, Thresholds, judged, skipped
from capture_pipeline.golden.scan import Scan
from capture_pipeline.lake.files import read_model, sha256_file
from capture_pipeline.recording.gap_file import read_gaps, read_gaps_strictly
from capture_pipeline.recording.layout import SessionFolder
from capture_pipeline.recording.lost_ends import is_outside
from capture_pipeline.recording.models import FileRecord, Gap, SessionMetadata, SessionPlan

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST_NAMED = 5
_BARE = "a bare file, not the folder of a session"
_UNFINISHED = "the session is not finished: it has no metadata.json"
_NOT_STREAMED = frozenset({StreamKind.SNAPSHOT, StreamKind.SHUTDOWN})
"""These come when they are asked for or when the exchange ends a connection; they may be silent for hours."""
_DISK = {
    "suspect_segments": "parts whose fsync failed",
    "mended_damage": "damaged parts set aside",
    "tail_dropped_messages": "messages dropped with a tail",
    "torn_lines": "lines of a torn tail lost at the end",
}
_SET_ASIDE = ".damaged-"
_AT_END = "behind the last message of a stream"


def session_checks(found: Scan, folder: SessionFolder | None) -> list[Check]:
    """Ledger, checksums and disk; skipped for a bare file."""
    if folder is None:
        return [skipped(name, _BARE) for name in ("ledger", "checksums", "disk")]
    return [_ledger(found, folder), *_finished(found, folder)]


def late_s(found: Scan, folder: SessionFolder | None) -> float:
    """How long after its planned start a session's recording began; 0 where nothing was planned, or the plan cannot be read."""
    try:
        plan = read_model(folder.plan, SessionPlan) if folder is not None else None
    except CaptureError:
        return 0.0
    return plan.late_s(found.first_ns) if plan is not None and found.first_ns >= 0 else 0.0


def stream_check(found: Scan, folder: SessionFolder | None, thresholds: Thresholds) -> Check:
    """Whether every planned stream came, soon after the recording's start and until shortly before its end."""
    if folder is None:
        return skipped("streams", _BARE)
    try:
        plan = read_model(folder.plan, SessionPlan)
    except CaptureError as error:
        return judged("streams", good=False, reason=str(error))
    if plan is None:
        return skipped("streams", "the session has no plan")
    wrong = {name: why for name in plan.streams if (why := _silent(found, name, thresholds.stream_silence_s))}
    named = ", ".join(f"{name} {why}" for name, why in list(wrong.items())[:_MOST_NAMED])
    more = f" and {len(wrong) - _MOST_NAMED:,} more" if len(wrong) > _MOST_NAMED else ""
    reason = f"{len(wrong)} of {len(plan.streams)}: {named}{more}" if wrong else f"{len(plan.streams)} planned streams from start to end"
    return judged("streams", not wrong, reason, planned=len(plan.streams), wrong=wrong)


def _silent(found: Scan, name: str, most_s: float) -> str:
    """What is wrong with a planned stream; empty if nothing."""
    stream = found.streams.get(name)
    if stream is None or stream.first_ns < 0:
        return "never came"
    late, early = (stream.first_ns - found.first_ns) / 1e9, (found.last_ns - stream.last_ns) / 1e9
    if stream.kind in _NOT_STREAMED or max(late, early) <= most_s:
        return ""
    told = (
        f"began {late:,.0f} s after the start" if late > most_s else "",
        f"ended {early:,.0f} s before the end" if early > most_s else "",
    )
    return f"{' and '.join(filter(None, told))}, of at most {most_s:,.0f} s"


def _ledger(found: Scan, folder: SessionFolder) -> Check:
    try:
        gaps = read_gaps_strictly(folder.gaps)
    except CaptureError as error:
        return judged("ledger", good=False, reason=str(error))
    listed, ends = {_ids(gap) for gap in gaps}, {_ids(gap) for gap in gaps if gap.at_end and _is_beyond(gap, found)}
    data = {
        (gap.stream, gap.last_good_id, gap.first_good_id) for gap in chain.from_iterable(stream.breaks for stream in found.streams.values())
    }
    unlisted, unseen = sorted(data - listed), sorted(listed - data - ends)
    if not unlisted and not unseen:
        same, behind = f"{len(listed - ends)} gaps in the ledger and the same in the data", _told(_AT_END, sorted(ends))
        reason = f"{same}, and {behind}" if behind else same
        return judged("ledger", good=True, reason=reason, gaps=len(listed), lost_at_end=sorted(ends))
    reason = "; ".join(
        filter(None, (_told("in the data and not in the ledger", unlisted), _told("in the ledger and not in the data", unseen)))
    )
    return judged("ledger", good=False, reason=reason, unlisted=unlisted, unseen=unseen)


def _ids(gap: Gap) -> tuple[str, int, int]:
    return gap.stream, gap.last_good_id, gap.first_good_id


def _is_beyond(gap: Gap, found: Scan) -> bool:
    """Whether the data, too, end before what the ledger says was lost at the end of a stream."""
    stream = found.streams.get(gap.stream)
    return stream is None or is_outside(gap, stream.track.first, stream.track.last)


def _told(what: str, gaps: list[tuple[str, int, int]]) -> str:
    named = ", ".join(f"{stream} {last}..{first}" for stream, last, first in gaps[:_MOST_NAMED])
    return f"{len(gaps):,} {what}: {named}" if gaps else ""


def _finished(found: Scan, folder: SessionFolder) -> list[Check]:
    names = ("checksums", "disk")
    try:
        metadata = read_model(folder.metadata, SessionMetadata)
    except CaptureError as error:
        return [judged(name, good=False, reason=str(error)) for name in names]
    if metadata is None:
        return [skipped(name, _UNFINISHED) for name in names]
    return [_checksums(found, folder, metadata), _disk(metadata, folder)]


def _disk(metadata: SessionMetadata, folder: SessionFolder) -> Check:
    """A count that an older recorder did not write is none; what no ratio counts, a loss behind a stream's last message, is named.

    What an import could not read of its files is a loss of the same kind.
    """
    ends = [_ids(gap) for gap in read_gaps(folder.gaps) if gap.at_end]
    counts = {name: metadata.statistics.get(name, 0) for name in _DISK}
    aside = [record.name for record in metadata.files if _SET_ASIDE in Path(record.name).name]
    wrong = [f"{count} {_DISK[name]}" for name, count in counts.items() if count]
    wrong += [f"{len(aside)} quarantined: {', '.join(aside[:_MOST_NAMED])}"] if aside else []
    left_out = metadata.configuration.get("left_out", [])
    wrong += [f"{len(left_out)} parts left out at import: {'; '.join(left_out[:_MOST_NAMED])}"] if left_out else []
    wrong += [f"recorded and gone, {told}"] if (told := _told(_AT_END, ends)) else []
    reason = "; ".join(wrong) or "no fsync failed, nothing set aside or dropped"
    return judged("disk", not wrong, reason, **counts, quarantined=aside, lost_at_end=ends, left_out=left_out)


def _checksums(found: Scan, folder: SessionFolder, metadata: SessionMetadata) -> Check:
    wrong = [f"{record.name} {why}" for record in metadata.files if (why := _wrong(found, folder.path, record))]
    if found.path.name not in {record.name for record in metadata.files}:
        wrong.append(f"{found.path.name} is not listed in metadata.json")
    wrong += list(_wrong_lines(found, folder))
    reason = "; ".join(wrong[:_MOST_NAMED]) or f"{len(metadata.files)} files have the size and SHA-256 that were recorded"
    return judged("checksums", not wrong, reason, files=len(metadata.files), wrong=wrong)


def _wrong_lines(found: Scan, folder: SessionFolder) -> Iterator[str]:
    try:
        lines = folder.checksums.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        yield "checksums.txt is missing"
        return
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            yield f"checksums.txt line {number} is no checksum"
        elif why := _wrong(found, folder.path, FileRecord(name=match[2], bytes=-1, sha256=match[1])):
            yield f"{match[2]} {why} (checksums.txt)"


def _wrong(found: Scan, folder: Path, record: FileRecord) -> str:
    """What is wrong with a listed file; empty if nothing. A name that leads out of the folder is wrong in itself."""
    path = folder / record.name
    if Path(record.name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        return "leads out of the session's folder"
    if not path.is_file():
        return "is gone"
    size = path.stat().st_size
    if record.bytes >= 0 and size != record.bytes:
        return f"has {size:,} bytes instead of {record.bytes:,}"
    digest = found.sha256 if path.name == found.path.name and path.parent == folder else sha256_file(path)
    return "" if digest == record.sha256 else "has another SHA-256 than was recorded"
