"""Conversion of the real ETH recording to the line form."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from isal import igzip

from capture_pipeline.sessions.line_format import format_line, splice_line

DAYS = ("20240808", "20240809")
SESSION = "20240808T235414Z_ethusdt"


def raw_lines(recordings: Path) -> Iterator[tuple[int, bytes]]:
    """Yield capture time and the bytes of the exchange."""
    for day in DAYS:
        with gzip.open(recordings / "binance_spot_stream" / f"ethusdt_{day}.gz", "rb") as file:
            for line in file:
                stamp, _, raw = line.rstrip(b"\n").partition(b" ")
                yield int(stamp), raw


def import_eth(recordings: Path, target: Path) -> Path:
    """Write both files as one recording of several gzip members."""
    with target.open("wb") as file:
        member: list[bytes] = []
        for stamp, raw in raw_lines(recordings):
            is_snapshot = raw.startswith(b'{"lastUpdateId"')
            member.append(
                format_line(stamp, "ethusdt@depthSnapshot", raw) if is_snapshot else splice_line(stamp, raw)
            )
            if len(member) == 5000:
                file.write(igzip.compress(b"".join(member)))
                member.clear()
        file.write(igzip.compress(b"".join(member)))
    return target
