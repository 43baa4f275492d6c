"""Independent reader of recordings for tests: ids by stream, holes, and errors of order."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


class _Ids(msgspec.Struct):
    """Ids of a trade or of a diff."""

    t: int = -1
    U: int = -1
    u: int = -1


class _Line(msgspec.Struct):
    """A line of a recording."""

    capture_ns: int
    stream: str
    data: _Ids


@dataclass
class Persisted:
    """Ids of one stream in a recording."""

    first: int
    last: int
    count: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)


def read_ids(recording: Path) -> tuple[dict[str, Persisted], list[str]]:
    """Read a recording line by line; return the ids by stream, and all errors of order."""
    found: dict[str, Persisted] = {}
    wrong: list[str] = []
    decode, before = msgspec.json.Decoder(_Line).decode, 0
    with gzip.open(recording) as file:
        for text in file:
            line = decode(text)
            if line.capture_ns <= before:
                wrong.append(f"a capture time that does not increase: {line.capture_ns}")
            before, ids = line.capture_ns, line.data
            first, last = (ids.t, ids.t) if ids.t >= 0 else (ids.U, ids.u)
            if first < 0:
                continue
            one = found.setdefault(line.stream, Persisted(first, first - 1))
            if first <= one.last:
                wrong.append(f"{line.stream}: id {first} comes after {one.last}")
            elif first > one.last + 1:
                one.holes.append((one.last + 1, first - 1))
            one.last = last
            one.count += 1
    return found, wrong
