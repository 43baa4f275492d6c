"""Timing of a recording's lines, written in gzip members like the recorder and read like the reader."""

from __future__ import annotations

import os
from pathlib import Path

from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.disk_throughput.timing import Timing, WriteResult, time_file
from capture_pipeline.sessions.gzip_members import LEVEL, build_member
from capture_pipeline.sessions.recordings.source import Source

NAME = f"JSONL.gz, isal {LEVEL}"
_MEMBER_LINES, _MEMBERS_A_FSYNC = 500, 16


def time_lines(lines: bytes, times: int, path: Path) -> Timing:
    """Write lines in members of 500 lines, with an fsync after every 16 members, and read the file in pieces.

    Args:
        lines: Whole lines, written several times. Repetition does not improve the compression, because the
            lines are longer than the window of gzip.
        times: Number of repetitions.
        path: File that is created and removed.

    Raises:
        LakeError: The lines that were read are not those that were written.
        StorageError: The file cannot be written.
    """
    split = lines.splitlines(keepends=True)
    members = [split[start : start + _MEMBER_LINES] for start in range(0, len(split), _MEMBER_LINES)]

    def write() -> WriteResult:
        with path.open("wb", buffering=0) as file:
            for number, member in enumerate(members * times, 1):
                file.write(build_member(b"".join(member), len(member)))
                if not number % _MEMBERS_A_FSYNC:
                    os.fsync(file.fileno())
        return WriteResult(len(split) * times, len(lines) * times)

    def read() -> int:
        with Source.open(path) as source:
            count = sum(piece.count(b"\n") for piece in source)
        if source.findings:
            raise LakeError(str(source.findings[0]), where=str(path), remedy="check the disk, then run again")
        return count

    return time_file(NAME, "streaming", path, write, read)
