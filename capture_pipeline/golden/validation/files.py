"""Whether the files of a finished session are those that were recorded: folder, `metadata.json` and `checksums.txt` against each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.golden.validation.report import Check, check_result
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.recorder.storage.finalize import files_of
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import FileRecord, SessionMetadata

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST_NAMED = 5


def checksums_check(found: Scan, folder: SessionFolder, metadata: SessionMetadata) -> Check:
    """Every file of the session is listed in `metadata.json` and in `checksums.txt`, and is what both say."""
    listed = {record.name for record in metadata.files}
    wrong = [
        f"{record.name} {why}" for record in metadata.files if (why := _wrong(found, folder.path, record))
    ]
    wrong += [f"{name} is not listed in metadata.json" for name in sorted(_expected(found, folder) - listed)]
    wrong += _wrong_lines(found, folder, listed)
    reason = (
        "; ".join(wrong[:_MOST_NAMED])
        or f"{len(metadata.files)} files have the size and SHA-256 that were recorded"
    )
    return check_result("checksums", not wrong, reason, files=len(metadata.files), wrong=wrong)


def _expected(found: Scan, folder: SessionFolder) -> set[str]:
    """Names of the files that every session has, and of those that its folder holds."""
    always = {found.path.name, folder.plan.name, folder.gaps.name}
    return always | {path.relative_to(folder.path).as_posix() for path in files_of(folder)}


def _wrong_lines(found: Scan, folder: SessionFolder, listed: set[str]) -> Iterator[str]:
    try:
        lines = folder.checksums.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        yield "checksums.txt is missing"
        return
    named = set()
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            yield f"checksums.txt line {number} is no checksum"
            continue
        named.add(match[2])
        if why := _wrong(found, folder.path, FileRecord(name=match[2], bytes=-1, sha256=match[1])):
            yield f"{match[2]} {why} (checksums.txt)"
    for name in sorted(listed - named):
        yield f"{name} is not listed in checksums.txt"


def _wrong(found: Scan, folder: Path, record: FileRecord) -> str:
    """What is wrong with a listed file; empty if nothing. A name that leads out of the folder is wrong in itself."""
    path = folder / record.name
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
        is_file = path.is_file()
    except (OSError, ValueError):
        return "is no name that a file can have"
    if Path(record.name).is_absolute() or not is_inside:
        return "leads out of the session's folder"
    if not is_file:
        return "is gone"
    size = path.stat().st_size
    if record.bytes >= 0 and size != record.bytes:
        return f"has {size:,} bytes instead of {record.bytes:,}"
    digest = found.sha256 if path.name == found.path.name and path.parent == folder else sha256_file(path)
    return "" if digest == record.sha256 else "has another SHA-256 than was recorded"
