"""Check of the files of a finished session: folder, `metadata.json` and `checksums.txt` must agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from capture_pipeline.checks.model import CheckResult
from capture_pipeline.checks.recordings import CHECKSUMS
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import FileRecord, SessionMetadata

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MAX_EXAMPLES = 5


def check_checksums(found: Scan, folder: SessionFolder, metadata: SessionMetadata) -> CheckResult:
    """Check that `metadata.json` and `checksums.txt` list every file of the session with its digest."""
    listed = {record.name for record in metadata.files}
    wrong = [
        f"{record.name} {why}"
        for record in metadata.files
        if (why := _verify_file(found, folder.path, record))
    ]
    unlisted = sorted(_list_expected_files(found, folder) - listed)
    wrong += [f"{name} is not listed in metadata.json" for name in unlisted]
    wrong += _verify_checksum_lines(found, folder, listed)
    reason = (
        "; ".join(wrong[:_MAX_EXAMPLES])
        or f"{len(metadata.files)} files have the size and SHA-256 that were recorded"
    )
    return CHECKSUMS.pass_if(not wrong, reason, files=len(metadata.files), wrong=wrong)


def _list_expected_files(found: Scan, folder: SessionFolder) -> set[str]:
    """Return the names of the files that every session has, and of the files in its folder."""
    always = {found.path.name, folder.plan.name, folder.gaps.name}
    return always | {path.relative_to(folder.path).as_posix() for path in folder.files()}


def _verify_checksum_lines(found: Scan, folder: SessionFolder, listed: set[str]) -> Iterator[str]:
    try:
        lines = folder.checksums.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        yield "checksums.txt is missing"
        return
    named = set()
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if not match:
            yield f"checksums.txt line {number} is not a checksum"
            continue
        named.add(match[2])
        if why := _verify_file(found, folder.path, FileRecord(name=match[2], bytes=-1, sha256=match[1])):
            yield f"{match[2]} {why} (checksums.txt)"
    for name in sorted(listed - named):
        yield f"{name} is not listed in checksums.txt"


def _verify_file(found: Scan, folder: Path, record: FileRecord) -> str:
    """Describe the fault of a listed file; empty if there is none. Names outside the folder are a fault."""
    path = folder / record.name
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
        is_file = path.is_file()
    except (OSError, ValueError):
        return "is not a valid file name"
    if Path(record.name).is_absolute() or not is_inside:
        return "is outside the session's folder"
    if not is_file:
        return "is missing"
    size = path.stat().st_size
    if record.bytes >= 0 and size != record.bytes:
        return f"has {size:,} bytes instead of {record.bytes:,}"
    digest = found.sha256 if path.name == found.path.name and path.parent == folder else sha256_file(path)
    return "" if digest == record.sha256 else "has another SHA-256 than recorded"
