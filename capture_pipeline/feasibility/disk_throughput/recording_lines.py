"""Lines of a recording written as the recorder writes them, members of gzip, and inflated as the reader inflates them."""

from __future__ import annotations

import os
from pathlib import Path

from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.disk_throughput.timing import Timing, Written, timed
from capture_pipeline.golden.readers.gzip_reader import Source
from capture_pipeline.sessions.gzip_members import LEVEL, member_of

NAME = f"JSONL.gz, isal {LEVEL}"
_MEMBER_LINES, _MEMBERS_A_FSYNC = 500, 16


def lines_in_members(lines: bytes, times: int, path: Path) -> Timing:
    """Write lines in members of 500, with an fsync every 16 members, and read the file piece by piece.

    Args:
        lines: Whole lines; written over and over, which packs them no better: they are longer than what gzip looks back on.
        times: How often.
        path: A file that is made and removed.

    Raises:
        LakeError: What was read is not what was written.
        StorageError: The disk refuses.
    """
    every = lines.splitlines(keepends=True)
    members = [every[start : start + _MEMBER_LINES] for start in range(0, len(every), _MEMBER_LINES)]

    def write() -> Written:
        with path.open("wb", buffering=0) as file:
            for number, member in enumerate(members * times, 1):
                file.write(member_of(b"".join(member), len(member)))
                if not number % _MEMBERS_A_FSYNC:
                    os.fsync(file.fileno())
        return Written(len(every) * times, len(lines) * times)

    def read() -> int:
        with Source.open(path) as source:
            count = sum(piece.count(b"\n") for piece in source)
        if source.findings:
            raise LakeError(str(source.findings[0]), where=str(path), remedy="check the disk, then run again")
        return count

    return timed(NAME, "streaming", path, write, read)
