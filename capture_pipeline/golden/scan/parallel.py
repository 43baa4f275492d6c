"""A long recording scanned by two processes, each a half: where to cut it, how the second half's figures come back.

The cut is a gzip member near the middle that inflates whole and holds whole lines. Where there is none, or where the halves do not simply
follow each other, nothing is gained and nothing lost: the caller scans the file in one pass. Run as a program it scans one part.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
from isal import isal_zlib

from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.readers.gzip_reader import BROKEN, Finding
from capture_pipeline.golden.scan.scan import Scan, scan_part
from capture_pipeline.golden.scan.streams import Streams, StreamScan

WORTH_BYTES = 24 << 20
"""Below this a second process takes longer to start than it saves."""
_WINDOW_BYTES = 4 << 20
_MOST_OUT = 64 << 20
_MEMBER, _LINE = b"\x1f\x8b\x08", b'{"capture_ns":'
_READ_BYTES = 1 << 20


class Part(msgspec.Struct):
    """A `Scan` on its way from one process to the other."""

    streams: list[StreamScan]
    lines: int
    bad: int
    disorder: int
    first_ns: int
    last_ns: int
    silences: list[tuple[int, int]]
    findings: list[Finding]
    size: int


def scan(path: Path) -> Scan:
    """Pass over a recording once; two processes share a long one.

    Raises:
        MalformedDataError: It cannot be opened or read; what is wrong inside it is in the result.
    """
    return scan_halves(path) or scan_part(path)


def scan_halves(path: Path, worth_bytes: int = WORTH_BYTES) -> Scan | None:
    """Scan both halves at once; None where that is not possible or not worth it.

    Raises:
        MalformedDataError: The first half cannot be read.
    """
    try:
        size = path.stat().st_size
    except OSError:
        return None
    cut = cut_near(path, size // 2) if size >= worth_bytes and (os.cpu_count() or 1) > 1 else None
    if cut is None:
        return None
    command = [sys.executable, "-m", __name__, str(path.absolute()), str(cut), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:  # noqa: S603 - ourselves
        try:
            first = scan_part(path, 0, cut)
            digest = _digest(path, size)
            answer, _ = other.communicate()
        finally:
            other.kill()
    if other.returncode or not first.after(_received(path, answer)):
        return None
    first.size, first.sha256 = size, digest
    return first


def cut_near(path: Path, middle: int) -> int | None:
    """The byte at which a member of whole lines begins, the first behind `middle`; None where none is found nearby."""
    with path.open("rb") as file:
        file.seek(middle)
        window = file.read(_WINDOW_BYTES)
    at = window.find(_MEMBER)
    while at >= 0:
        if _holds_lines(window[at:]):
            return middle + at
        at = window.find(_MEMBER, at + 1)
    return None


def _holds_lines(data: bytes) -> bool:
    inflater = isal_zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(data, _MOST_OUT)
    except BROKEN:
        return False
    return bool(inflater.eof and text.startswith(_LINE) and text.endswith(b"\n"))


def _digest(path: Path, size: int) -> str:
    """Of the bytes that were scanned; a file may have grown meanwhile."""
    digest, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left and (data := file.read(min(left, _READ_BYTES))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def _received(path: Path, answer: bytes) -> Scan:
    part = msgspec.json.decode(answer, type=Part)
    result = Scan(
        path,
        lines=part.lines,
        bad=part.bad,
        disorder=part.disorder,
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
        streams, found.lines, found.bad, found.disorder, found.first_ns, found.last_ns, found.silences, found.findings, found.size
    )  # fmt: skip
    sys.stdout.buffer.write(msgspec.json.encode(part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
