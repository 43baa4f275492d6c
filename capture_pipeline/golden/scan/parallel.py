"""Scan of a long recording by two processes, one half each.

The cut is at a gzip member near the middle that inflates without an error and contains whole lines. If there
is no such member, or if the results of the halves cannot be merged, the file is scanned in one pass. Run as a
program, the module scans one part.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
from isal import isal_zlib

from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.scan.scanner import Scan, scan_part
from capture_pipeline.golden.scan.streams import Streams, StreamScan
from capture_pipeline.sessions.continuity import CaptureRange
from capture_pipeline.sessions.recordings.source import BROKEN, Finding

MIN_PARALLEL_BYTES = 24 << 20
"""For smaller files the start of a second process takes longer than it saves."""
_WINDOW_BYTES = 4 << 20
_FIRST_SHARE = 0.52
"""The second process gets less than a half, because it starts about 0.1 s later."""
_MAX_INFLATED_BYTES = 64 << 20
_MEMBER, _LINE = b"\x1f\x8b\x08", b'{"capture_ns":'


class Part(msgspec.Struct):
    """Result of a scan, as sent from the second process."""

    streams: list[StreamScan]
    lines: int
    bad_count: int
    disorder_count: int
    first_ns: int
    last_ns: int
    silences: list[CaptureRange]
    findings: list[Finding]
    size: int


def scan(path: Path) -> Scan:
    """Scan a recording, a long one with two processes. Damage inside the file is part of the result.

    Raises:
        MalformedDataError: The file cannot be opened or read.
    """
    return scan_halves(path) or scan_part(path)


def scan_halves(path: Path, min_bytes: int = MIN_PARALLEL_BYTES) -> Scan | None:
    """Scan both halves at the same time. Returns None if the file is small or cannot be scanned in halves.

    Raises:
        MalformedDataError: The first half cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError:
        return None
    cut = (
        find_cut(path, round(_FIRST_SHARE * size))
        if size >= min_bytes and (os.cpu_count() or 1) > 1
        else None
    )
    if cut is None:
        return None
    command = [sys.executable, "-m", __name__, str(path.absolute()), str(cut), str(size)]
    with subprocess.Popen(  # noqa: S603 - runs this module
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        try:
            first = scan_part(path, 0, cut, digest_end=size)
            answer, _ = other.communicate()
        finally:
            other.kill()
    if other.returncode or not first.merge(_decode_part(path, answer)):
        return None
    return first


def find_cut(path: Path, middle: int) -> int | None:
    """Return the first start of a member of whole lines from byte `middle` on; None if none is near."""
    with path.open("rb") as file:
        file.seek(middle)
        window = file.read(_WINDOW_BYTES)
    at = window.find(_MEMBER)
    while at >= 0:
        if _is_member_of_lines(window[at:]):
            return middle + at
        at = window.find(_MEMBER, at + 1)
    return None


def _is_member_of_lines(data: bytes) -> bool:
    inflater = isal_zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(data, _MAX_INFLATED_BYTES)
    except BROKEN:
        return False
    return bool(inflater.eof and text.startswith(_LINE) and text.endswith(b"\n"))


def _decode_part(path: Path, answer: bytes) -> Scan:
    part = msgspec.json.decode(answer, type=Part)
    result = Scan(
        path,
        lines=part.lines,
        bad_count=part.bad_count,
        disorder_count=part.disorder_count,
        first_ns=part.first_ns,
        last_ns=part.last_ns,
    )
    result.streams = Streams({stream.name: stream for stream in part.streams})
    result.silences, result.findings = part.silences, part.findings
    return result


def main() -> int:
    """Scan the part that the arguments name and write its figures."""
    path, start, end = sys.argv[1:]
    try:
        found = scan_part(Path(path), int(start), int(end))
    except CaptureError:
        return 1
    streams = list(found.streams.values())
    part = Part(
        streams,
        found.lines,
        found.bad_count,
        found.disorder_count,
        found.first_ns,
        found.last_ns,
        found.silences,
        found.findings,
        found.size,
    )
    sys.stdout.buffer.write(msgspec.json.encode(part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
