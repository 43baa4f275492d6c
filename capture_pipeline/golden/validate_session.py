"""Checks that only the folder of a session allows: ledger against data, and the checksums of a finished one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.report import Check, judged, skipped
from capture_pipeline.golden.scan import Scan
from capture_pipeline.lake.files import read_model, sha256_file
from capture_pipeline.recording.layout import SessionFolder
from capture_pipeline.recording.models import FileRecord, Gap, SessionMetadata

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST_NAMED = 5


def session_checks(found: Scan, folder: SessionFolder | None) -> list[Check]:
    """Ledger and checksums; skipped for a bare file."""
    if folder is None:
        return [skipped(name, "a bare file, not the folder of a session") for name in ("ledger", "checksums")]
    return [_ledger(found, folder), _checksums(found, folder)]


def read_gaps(path: Path) -> dict[tuple[str, int], Gap]:
    """The gap ledger: by stream and last good id the line that was written last; half a last line, of a kill, is none.

    Raises:
        CaptureError: A line is no gap.
    """
    gaps: dict[tuple[str, int], Gap] = {}
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return gaps
    for number, line in enumerate(lines, 1):
        try:
            gap = Gap.model_validate_json(line)
        except ValidationError as error:
            raise CaptureError(
                f"line {number} is no gap: {error.errors()[0]['msg']}", where=str(path), remedy="restore the ledger"
            ) from None
        gaps[gap.stream, gap.last_good_id] = gap
    return gaps


def _ledger(found: Scan, folder: SessionFolder) -> Check:
    try:
        gaps = read_gaps(folder.gaps)
    except CaptureError as error:
        return judged("ledger", good=False, reason=str(error))
    listed = {(gap.stream, gap.last_good_id, gap.first_good_id) for gap in gaps.values()}
    data = {
        (gap.stream, gap.last_good_id, gap.first_good_id) for gap in chain.from_iterable(stream.breaks for stream in found.streams.values())
    }
    unlisted, unseen = sorted(data - listed), sorted(listed - data)
    if not unlisted and not unseen:
        return judged("ledger", good=True, reason=f"{len(listed)} gaps in the ledger and the same in the data", gaps=len(listed))
    reason = "; ".join(
        filter(None, (_told("in the data and not in the ledger", unlisted), _told("in the ledger and not in the data", unseen)))
    )
    return judged("ledger", good=False, reason=reason, unlisted=unlisted, unseen=unseen)


def _told(what: str, gaps: list[tuple[str, int, int]]) -> str:
    named = ", ".join(f"{stream} {last}..{first}" for stream, last, first in gaps[:_MOST_NAMED])
    return f"{len(gaps):,} {what}: {named}" if gaps else ""


def _checksums(found: Scan, folder: SessionFolder) -> Check:
    try:
        metadata = read_model(folder.metadata, SessionMetadata)
    except CaptureError as error:
        return judged("checksums", good=False, reason=str(error))
    if metadata is None:
        return skipped("checksums", "the session is not finished: it has no metadata.json")
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
