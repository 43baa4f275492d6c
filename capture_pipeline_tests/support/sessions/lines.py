"""Builders of lines and sessions for the tests of this folder."""

from __future__ import annotations

import gzip
from pathlib import Path

from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.sessions.layout import SessionFolder

START_NS = 1_754_224_200_000_000_000
STEP_NS = 50_000_000


def trade(number: int, stamp: int, symbol: str = "btcusdt") -> bytes:
    data = b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"1.00000000","q":"2.00000000","T":%d,"m":true,"M":true}'
    return _line(
        stamp, f"{symbol}@trade", data % (stamp // 10**6, symbol.upper().encode(), number, stamp // 10**6)
    )


def depth(first: int, last: int, stamp: int, bids: str = "", symbol: str = "btcusdt") -> bytes:
    data = '{"e":"depthUpdate","E":1,"s":"%s","U":%d,"u":%d,"b":[%s],"a":[]}' % (  # noqa: UP031
        symbol.upper(),
        first,
        last,
        bids,
    )
    return _line(stamp, f"{symbol}@depth@100ms", data.encode())


def snapshot(last: int, stamp: int, symbol: str = "btcusdt") -> bytes:
    data = (
        b'{"lastUpdateId":%d,"bids":[["10.00000000","1.00000000"]],"asks":[["11.00000000","1.00000000"]]}'
        % last
    )
    return _line(stamp, f"{symbol}@depthSnapshot", data)


def recording(count: int = 60) -> list[bytes]:
    """Build an undamaged recording of one symbol: a snapshot after the first diff, then trades and diffs."""
    lines = [depth(1, 3, START_NS), snapshot(2, START_NS + 1)]
    for number in range(1, count):
        stamp = START_NS + number * STEP_NS
        lines.append(
            trade(number // 2 + 1, stamp)
            if number % 2
            else depth(number * 3 // 2 + 1, number * 3 // 2 + 3, stamp)
        )
    return lines


def packed(lines: list[bytes], a_member: int = 20) -> bytes:
    """Compress lines to gzip members of whole lines."""
    return b"".join(
        gzip.compress(b"".join(lines[at : at + a_member]), mtime=0) for at in range(0, len(lines), a_member)
    )


def written(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(packed(lines))
    return path


def session(folder: Path, lines: list[bytes]) -> SessionFolder:
    """Import the lines as a finished session."""
    source = folder / "source.gz"
    raw = []
    for line in lines:
        stamp, _, rest = line[len(b'{"capture_ns":') : -1].partition(b",")
        body = rest.split(b'"data":', 1)[1][:-1] if b"depthSnapshot" in rest else b"{" + rest
        raw.append(stamp + b" " + body + b"\n")
    source.write_bytes(gzip.compress(b"".join(raw)))
    return import_session(Origin.HFTBACKTEST, [source], folder / "golden_samples")


def altered(tables: GoldenTables) -> list[str]:
    """Return the files of the tables that differ from their manifest."""
    return [
        file.path for file in tables.manifest().files if sha256_file(tables.root / file.path) != file.sha256
    ]


def _line(stamp: int, stream: str, data: bytes) -> bytes:
    return b'{"capture_ns":%d,"stream":"%b","data":%b}\n' % (stamp, stream.encode(), data)
