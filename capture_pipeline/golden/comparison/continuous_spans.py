"""Continuous stretches of recordings of the same symbols, without missing ids and without silences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from capture_pipeline.golden.scan.scanner import MAX_SILENCE_NS, Scan
from capture_pipeline.golden.scan.streams import StreamScan
from capture_pipeline.sessions.continuity import CaptureRange


class _Run(NamedTuple):
    """Ids of one stream without a gap, and the capture times of the first and the last id."""

    first_id: int
    start_ns: int
    last_id: int
    end_ns: int


def find_stretches(scans: Sequence[Scan]) -> list[CaptureRange]:
    """Find the continuous stretches of recordings, in ascending order.

    Ids of a stream are compared over all files. Ids that any file contains are not missing. Ids between the
    end of one file and the start of the next one are missing.
    """
    active = join_spans(span for found in scans for span in _list_active_spans(found))
    runs: dict[str, list[_Run]] = defaultdict(list)
    for found in scans:
        for name, stream in found.streams.items():
            runs[name] += _list_runs(stream)
    holes = sorted(hole for stream_runs in runs.values() for hole in _find_holes(stream_runs))
    return _subtract(active, holes)


def join_spans(spans: Iterable[CaptureRange], silent_s: float = MAX_SILENCE_NS / 1e9) -> list[CaptureRange]:
    """Join spans of several files, in ascending order, that overlap or are at most `silent_s` apart."""
    result: list[CaptureRange] = []
    for start, end in sorted(spans):
        if result and start - result[-1].end_ns <= silent_s * 1e9:
            result[-1] = CaptureRange(result[-1].start_ns, max(result[-1].end_ns, end))
        else:
            result.append(CaptureRange(start, end))
    return result


def _list_active_spans(found: Scan) -> Iterator[CaptureRange]:
    """Iterate over the spans of one file without a silence."""
    start = found.first_ns
    for before, after in found.silences:
        yield CaptureRange(start, before)
        start = after
    yield CaptureRange(start, found.last_ns)


def _list_runs(stream: StreamScan) -> Iterator[_Run]:
    if stream.track.first < 0:
        return
    first_id, start_ns = stream.track.first, stream.first_ns
    for gap in stream.breaks:
        yield _Run(first_id, start_ns, gap.last_good_id, gap.start_ns)
        first_id, start_ns = gap.first_good_id, gap.end_ns
    yield _Run(first_id, start_ns, stream.track.last, stream.last_ns)


def _find_holes(runs: list[_Run]) -> Iterator[CaptureRange]:
    """Iterate over the spans in which ids are missing in all files."""
    reached: _Run | None = None
    for run in sorted(runs):
        if reached is not None and run.first_id > reached.last_id + 1:
            yield CaptureRange(min(reached.end_ns, run.start_ns), max(reached.end_ns, run.start_ns))
        if reached is None or run.last_id > reached.last_id:
            reached = run


def _subtract(spans: list[CaptureRange], holes: list[CaptureRange]) -> list[CaptureRange]:
    """Remove holes from spans; both are in ascending order. A hole of length 0 divides a span too."""
    result: list[CaptureRange] = []
    number = reached = 0
    for start, end in spans:
        at = max(start, reached)
        while number < len(holes) and holes[number].start_ns <= end:
            hole_start, hole_end = holes[number]
            if hole_start >= at:
                result.append(CaptureRange(at, hole_start))
            at, number = max(at, hole_end), number + 1
        reached = max(reached, at)
        if at <= end:
            result.append(CaptureRange(at, end))
    return result
