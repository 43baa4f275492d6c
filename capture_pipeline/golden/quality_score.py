"""Quality score of a folder of recordings: files and fragments, gaps between them, durations.

The score, 0 to 100, is the sum of four parts:
    40 × coverage      time inside continuous stretches / time from the first to the last stamp
    20 × continuity    the longest continuous stretch / that time
    20 × wholeness     files that are not a fragment, torn, damaged or empty and have no bad line / files
    20 × completeness  1 − 100 × the share of events lost inside files, at least 0

A stretch ends at missing ids, and at `MAX_SILENCE_S` without a message in any file, inside files and between
them. Ids that another file of the same symbols contains are not missing. Files of the same symbols are one
series. The times of all series are added.

With a damaged file the score is at most `MAX_DAMAGED_SCORE`: the extent of the loss is unknown, and stamps
and ids that cannot be read are in no other part. A file is damaged if it cannot be read, its bytes are
damaged, it has a bad line, or it is finished but ends inside a gzip member. The torn end of a growing file
(`.part`) is left by a crash; such a file is only a fragment.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from capture_pipeline.errors import CaptureError, ConfigError
from capture_pipeline.golden.comparison.continuous_spans import find_stretches, join_spans
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.scan.scanner import MAX_SILENCE_NS, Scan
from capture_pipeline.sessions.continuity import CaptureRange, Track, compute_gap_ratios
from capture_pipeline.sessions.recordings.source import FindingKind

__all__ = ["Diagnosis", "diagnose", "join_spans"]

GATE = 70.0
MAX_SILENCE_S = MAX_SILENCE_NS / 1e9
MAX_DAMAGED_SCORE = 50.0
"""Maximum score of a folder with a damaged file."""
PARTS = {"coverage": 40, "continuity": 20, "wholeness": 20, "completeness": 20}
MEANING = {
    "coverage": "time inside continuous stretches / time from first to last stamp",
    "continuity": "longest continuous stretch / time from first to last stamp",
    "wholeness": "files that are not a fragment, torn, damaged or empty and have no bad line / all files",
    "completeness": "1 − 100 × events lost inside files / events expected, at least 0",
}
_CAPTURE = re.compile(r".+\.jsonl(\.gz)?(\.part\d*)?")
_GROWING = re.compile(r"\.part\d*$")
_OTHER_FILES = {"gaps.jsonl", "events.jsonl", "refilled_trades.jsonl"}
_EXCLUDED_FOLDER = "quarantine"
_DAMAGE = {FindingKind.DAMAGED_MEMBER, FindingKind.FOREIGN_BYTES}
_TORN = {FindingKind.TORN_MEMBER, FindingKind.ZERO_TAIL}
"""Damage of a finished file. A growing file has such an end after a crash."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A recording in the folder.

    Attributes:
        path: Path below the folder.
        bytes: Size of the file.
        messages: Number of lines.
        started_ns: First capture time; None if there is no line.
        ended_ns: Last capture time; None if there is no line.
        gaps: Number of places inside the file at which ids are missing.
        troubles: Reasons why the file is not whole.
        is_damaged: True if an unknown part of the file is lost.
    """

    path: str
    bytes: int
    messages: int
    started_ns: int | None
    ended_ns: int | None
    gaps: int
    troubles: list[str]
    is_damaged: bool = False


@dataclass(slots=True)
class Series:
    """Files of the same symbols.

    Attributes:
        symbols: Symbols in capitals.
        stretches: Continuous stretches in ascending order.
    """

    symbols: tuple[str, ...]
    stretches: list[CaptureRange] = field(default_factory=list)

    @property
    def gaps(self) -> list[CaptureRange]:
        """Times between the stretches."""
        return [
            CaptureRange(before.end_ns, after.start_ns)
            for before, after in zip(self.stretches, self.stretches[1:], strict=False)
        ]

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last capture time."""
        return (self.stretches[-1].end_ns - self.stretches[0].start_ns) / 1e9 if self.stretches else 0.0

    @property
    def continuous_s(self) -> float:
        """Seconds inside stretches."""
        return sum(end - start for start, end in self.stretches) / 1e9

    @property
    def longest_s(self) -> float:
        """Seconds of the longest stretch."""
        return max((end - start for start, end in self.stretches), default=0) / 1e9


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Result for a folder.

    Attributes:
        folder: The folder.
        files: All recordings in it.
        series: Series in the order of their symbols.
        parts: Parts of the score, each from 0 to 1.
        gate: Score that has to be exceeded.
    """

    folder: Path
    files: list[CaptureFile]
    series: list[Series]
    parts: dict[str, float]
    gate: float = GATE

    @property
    def score(self) -> float:
        """Score from 0 to 100; at most `MAX_DAMAGED_SCORE` if a file is damaged."""
        found = sum(weight * self.parts[part] for part, weight in PARTS.items())
        return round(min(found, MAX_DAMAGED_SCORE) if self.is_damaged else found, 2)

    @property
    def is_damaged(self) -> bool:
        """True if a file is damaged."""
        return any(file.is_damaged for file in self.files)

    @property
    def passed(self) -> bool:
        """True if the score exceeds the gate."""
        return self.score > self.gate

    def to_dict(self) -> dict[str, Any]:
        """Convert the result to values that JSON can represent."""
        return {
            "folder": str(self.folder),
            "score": self.score,
            "gate": self.gate,
            "passed": self.passed,
            "damaged": self.is_damaged,
            "parts": self.parts,
            "weights": PARTS,
            "files": [{name: getattr(file, name) for name in CaptureFile.__slots__} for file in self.files],
            "series": [
                {
                    "symbols": list(series.symbols),
                    "span_s": series.span_s,
                    "continuous_s": series.continuous_s,
                    "longest_s": series.longest_s,
                    "gaps": [
                        {"start_ns": start, "end_ns": end, "seconds": (end - start) / 1e9}
                        for start, end in series.gaps
                    ],
                }
                for series in self.series
            ],
        }


def diagnose(folder: Path, gate: float = GATE) -> Diagnosis:
    """Scan all recordings below a folder, and compute the score.

    Raises:
        ConfigError: The folder does not exist or contains no recording.
    """
    if not folder.is_dir():
        raise ConfigError(
            "is not a folder", where=str(folder), remedy="name the folder that contains the recordings"
        )
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if _CAPTURE.fullmatch(path.name) and path.name not in _OTHER_FILES and path.is_file()
    ]
    paths = [path for path in paths if _EXCLUDED_FOLDER not in path.relative_to(folder).parts]
    if not paths:
        raise ConfigError(
            "contains no recording",
            where=str(folder),
            remedy="recordings end in .jsonl or .jsonl.gz; .part is appended while they grow",
        )
    files: list[CaptureFile] = []
    scans: dict[tuple[str, ...], list[Scan]] = defaultdict(list)
    tracks: list[Track] = []
    for path in paths:
        found, file = _scan_file(path, folder)
        files.append(file)
        if found is not None and found.first_ns >= 0:
            symbols = tuple(sorted({stream.symbol for stream in found.streams.values()} - {""}))
            scans[symbols].append(found)
            tracks += [stream.track for stream in found.streams.values() if stream.track.first >= 0]
    series = [Series(symbols, find_stretches(parts)) for symbols, parts in sorted(scans.items())]
    return Diagnosis(folder, files, series, _compute_parts(files, series, tracks), gate)


class _ScannedFile(NamedTuple):
    """Result of the scan of a file, and its description; no result if the file is damaged."""

    scan: Scan | None
    file: CaptureFile


def _scan_file(path: Path, folder: Path) -> _ScannedFile:
    name = str(path.relative_to(folder))
    try:
        found = scan(path)
    except CaptureError as error:
        damaged = CaptureFile(name, path.stat().st_size, 0, None, None, 0, [error.what], is_damaged=True)
        return _ScannedFile(None, damaged)
    is_growing = _GROWING.search(path.name) is not None
    troubles = ["a fragment: the recording was never finished"] if is_growing else []
    troubles += [str(finding) for finding in found.findings]
    troubles += [f"{found.bad_count:,} lines are not in the line form"] if found.bad_count else []
    gaps = sum(stream.track.gaps for stream in found.streams.values())
    started, ended = (found.first_ns, found.last_ns) if found.first_ns >= 0 else (None, None)
    file = CaptureFile(
        name,
        found.size,
        found.lines,
        started,
        ended,
        gaps,
        troubles,
        _is_damaged(found, is_growing=is_growing),
    )
    return _ScannedFile(found, file)


def _is_damaged(found: Scan, *, is_growing: bool) -> bool:
    kinds = {finding.kind for finding in found.findings}
    return found.bad_count > 0 or bool(kinds & (_DAMAGE if is_growing else _DAMAGE | _TORN))


def _compute_parts(files: list[CaptureFile], series: list[Series], tracks: list[Track]) -> dict[str, float]:
    span = sum(one.span_s for one in series)
    return {
        "coverage": sum(one.continuous_s for one in series) / span if span else 0.0,
        "continuity": sum(one.longest_s for one in series) / span if span else 0.0,
        "wholeness": sum(not file.troubles for file in files) / len(files),
        "completeness": max(0.0, 1 - 100 * compute_gap_ratios(tracks).lost_events) if tracks else 0.0,
    }
