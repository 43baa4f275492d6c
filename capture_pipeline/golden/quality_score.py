"""What a folder of captures is worth: its files and fragments, the gaps between them, how long they run, a score.

The score, 0 to 100, is the sum of four parts:
    40 × coverage      time inside continuous stretches / time from the first to the last stamp
    20 × continuity    the longest continuous stretch / that time
    20 × wholeness     files that are neither a fragment, torn, damaged, empty nor hold a bad line / files
    20 × completeness  1 − 100 × the share of events lost inside files, at least 0
A stretch ends where ids are missing, however short the time is, and where no file has a message for `MOST_SILENT_S`, inside files as
between them. Ids that another file of the same symbols has are not missing. Files of the same symbols are one series; of several series the
times are added up.

Where a file is damaged the score is at most `MOST_DAMAGED`: what was lost in it is not known, and stamps and ids that cannot be read count
in no other part. Damaged is a file that cannot be read, whose bytes are damaged, that has a bad line, or that ends inside a gzip member
although it was finished. The torn end of a growing file (`.part`) is what a crash leaves, and only makes it a fragment.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capture_pipeline.errors import CaptureError, ConfigError
from capture_pipeline.golden.comparison.stretches import Span, joined, stretches
from capture_pipeline.golden.readers.gzip_reader import FindingKind
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.scan.scan import MOST_SILENT_NS, Scan
from capture_pipeline.sessions.continuity import Track, compute_gap_ratios

__all__ = ["Diagnosis", "diagnose", "joined"]

GATE = 70.0
MOST_SILENT_S = MOST_SILENT_NS / 1e9
MOST_DAMAGED = 50.0
"""Points that a folder with a damaged file has at most."""
PARTS = {"coverage": 40, "continuity": 20, "wholeness": 20, "completeness": 20}
MEANING = {
    "coverage": "time inside continuous stretches, of the time from first to last stamp",
    "continuity": "the longest continuous stretch, of that time",
    "wholeness": "files that are no fragment, torn, damaged or empty and hold no bad line, of all files",
    "completeness": "1 − 100 × events lost inside files / events expected, at least 0",
}
_CAPTURE = re.compile(r".+\.jsonl(\.gz)?(\.part\d*)?")
_GROWING = re.compile(r"\.part\d*$")
_APART = {"gaps.jsonl", "events.jsonl", "refilled_trades.jsonl"}
_HIDDEN = "quarantine"
_DAMAGE = {FindingKind.DAMAGED_MEMBER, FindingKind.FOREIGN_BYTES}
_TORN = {FindingKind.TORN_MEMBER, FindingKind.ZERO_TAIL}
"""Damage of a file that was finished; of a growing file it is the end that a crash leaves."""


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """One file.

    Attributes:
        path: Below the folder.
        bytes: Its size.
        messages: Its lines.
        started_ns: First stamp; None without any.
        ended_ns: Last stamp.
        gaps: Places at which ids are missing inside it.
        troubles: Why it is not whole; empty if it is.
        is_damaged: Whether an unknown part of it is lost.
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
        symbols: In capitals.
        stretches: Continuous stretches, ascending, from and to in nanoseconds UTC.
    """

    symbols: tuple[str, ...]
    stretches: list[Span] = field(default_factory=list)

    @property
    def between(self) -> list[Span]:
        """What lies between the stretches."""
        return [
            (before[1], after[0]) for before, after in zip(self.stretches, self.stretches[1:], strict=False)
        ]

    @property
    def span_s(self) -> float:
        """From the first stamp to the last."""
        return (self.stretches[-1][1] - self.stretches[0][0]) / 1e9 if self.stretches else 0.0

    @property
    def continuous_s(self) -> float:
        """Time inside stretches."""
        return sum(end - start for start, end in self.stretches) / 1e9

    @property
    def longest_s(self) -> float:
        """The longest stretch."""
        return max((end - start for start, end in self.stretches), default=0) / 1e9


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found in a folder.

    Attributes:
        folder: It.
        files: Every capture in it.
        series: By symbols.
        parts: The parts of the score, each from 0 to 1.
        gate: What the score has to exceed.
    """

    folder: Path
    files: list[CaptureFile]
    series: list[Series]
    parts: dict[str, float]
    gate: float = GATE

    @property
    def score(self) -> float:
        """0 to 100; at most `MOST_DAMAGED` where a file is damaged."""
        found = sum(weight * self.parts[part] for part, weight in PARTS.items())
        return round(min(found, MOST_DAMAGED) if self.is_damaged else found, 2)

    @property
    def is_damaged(self) -> bool:
        """Whether a file is damaged."""
        return any(file.is_damaged for file in self.files)

    @property
    def passed(self) -> bool:
        """Whether the score exceeds the gate."""
        return self.score > self.gate

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
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
                        for start, end in series.between
                    ],
                }
                for series in self.series
            ],
        }


def diagnose(folder: Path, gate: float = GATE) -> Diagnosis:
    """Look at every capture below a folder.

    Raises:
        ConfigError: There is no such folder, or no capture in it.
    """
    if not folder.is_dir():
        raise ConfigError("is no folder", where=str(folder), remedy="name the folder that holds the captures")
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if _CAPTURE.fullmatch(path.name) and path.name not in _APART and path.is_file()
    ]
    paths = [path for path in paths if _HIDDEN not in path.relative_to(folder).parts]
    if not paths:
        raise ConfigError(
            "holds no capture",
            where=str(folder),
            remedy="captures end in .jsonl or .jsonl.gz, with .part behind it while they grow",
        )
    files: list[CaptureFile] = []
    scans: dict[tuple[str, ...], list[Scan]] = defaultdict(list)
    tracks: list[Track] = []
    for path in paths:
        found, file = _examined(path, folder)
        files.append(file)
        if found is not None and found.first_ns >= 0:
            symbols = tuple(sorted({stream.symbol for stream in found.streams.values()} - {""}))
            scans[symbols].append(found)
            tracks += [stream.track for stream in found.streams.values() if stream.track.first >= 0]
    series = [Series(symbols, stretches(parts)) for symbols, parts in sorted(scans.items())]
    return Diagnosis(folder, files, series, _parts(files, series, tracks), gate)


def _examined(path: Path, folder: Path) -> tuple[Scan | None, CaptureFile]:
    name = str(path.relative_to(folder))
    try:
        found = scan(path)
    except CaptureError as error:
        return None, CaptureFile(name, path.stat().st_size, 0, None, None, 0, [error.what], is_damaged=True)
    is_growing = _GROWING.search(path.name) is not None
    troubles = ["a fragment: it was never finished"] if is_growing else []
    troubles += [str(finding) for finding in found.findings]
    troubles += [f"{found.bad:,} lines are not in the line form"] if found.bad else []
    gaps = sum(stream.track.gaps for stream in found.streams.values())
    started, ended = (found.first_ns, found.last_ns) if found.first_ns >= 0 else (None, None)
    return found, CaptureFile(
        name,
        found.size,
        found.lines,
        started,
        ended,
        gaps,
        troubles,
        _is_damaged(found, is_growing=is_growing),
    )


def _is_damaged(found: Scan, *, is_growing: bool) -> bool:
    kinds = {finding.kind for finding in found.findings}
    return found.bad > 0 or bool(kinds & (_DAMAGE if is_growing else _DAMAGE | _TORN))


def _parts(files: list[CaptureFile], series: list[Series], tracks: list[Track]) -> dict[str, float]:
    span = sum(one.span_s for one in series)
    return {
        "coverage": sum(one.continuous_s for one in series) / span if span else 0.0,
        "continuity": sum(one.longest_s for one in series) / span if span else 0.0,
        "wholeness": sum(not file.troubles for file in files) / len(files),
        "completeness": max(0.0, 1 - 100 * compute_gap_ratios(tracks).lost_events) if tracks else 0.0,
    }
