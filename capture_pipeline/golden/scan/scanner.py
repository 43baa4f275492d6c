"""One pass over a recording: the form of its lines, the order of capture times and the continuity of ids.

Only the ids of a message are decoded; the rest is only checked as JSON. Results of two parts of one recording
can be merged, so that two processes can scan a long one (`parallel.scan_halves`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.golden.scan.id_lines import IdLine, Ids, decode_known_lines, decode_line_exactly
from capture_pipeline.golden.scan.line_layouts import split_by_layout
from capture_pipeline.golden.scan.streams import MAX_BREAKS, Streams, StreamScan
from capture_pipeline.orderbook.synchronization import first_covered_id
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.continuity import CaptureRange
from capture_pipeline.sessions.recordings.reader import Recording
from capture_pipeline.sessions.recordings.source import Finding

MAX_EXAMPLES = 5
MAX_SILENCE_NS = 2_000_000_000
"""A longer time without a message of any stream is a silence."""


@dataclass(slots=True)
class Scan:
    """Result of one pass over a recording.

    Attributes:
        path: The file.
        streams: Results by stream name.
        lines: Number of lines.
        bad_count: Number of lines that are not in the line form.
        bad_examples: The first bad lines, with number and reason.
        disorder_count: Number of capture times that are before the previous one.
        disorder_examples: The first such capture times, with line number.
        first_ns: First capture time; -1 if there is no line.
        last_ns: Highest capture time.
        silences: The first 100,000 periods longer than `MAX_SILENCE_NS` without a message: capture times of
            the messages before and after.
        findings: Damage of the file (gzip members, last line).
        size: Bytes of the file.
        sha256: Digest of the file.
    """

    path: Path
    streams: Streams = field(default_factory=Streams)
    lines: int = 0
    bad_count: int = 0
    bad_examples: list[str] = field(default_factory=list)
    disorder_count: int = 0
    disorder_examples: list[str] = field(default_factory=list)
    first_ns: int = -1
    last_ns: int = -1
    silences: list[CaptureRange] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    size: int = 0
    sha256: str = ""

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last capture time."""
        return max(0, self.last_ns - self.first_ns) / 1e9

    def of_kind(self, *kinds: StreamKind) -> list[StreamScan]:
        """Return the streams of these kinds."""
        return [stream for stream in self.streams.values() if stream.kind in kinds]

    def process_block(self, block: bytes) -> None:
        """Process a block of whole lines."""
        for run, is_known in split_by_layout(block):
            lines = decode_known_lines(run) if is_known and _is_text(run) else None
            if lines is None:
                self._process_lines_exactly(run)
            else:
                self._count(lines)
                self.lines += len(lines)

    def merge(self, later: Scan) -> bool:
        """Add the result of the next part of the same recording.

        Returns:
            False if only one pass over both parts gives an exact result; nothing is added then.
        """
        known = self.streams.keys() & later.streams.keys()
        if (
            self.findings
            or self.bad_count
            or later.bad_count
            or self.disorder_count
            or later.disorder_count
            or 0 <= later.first_ns < self.last_ns
        ):
            return False
        if not all(self.streams[name].ends_before(later.streams[name]) for name in known):
            return False
        for name, stream in later.streams.items():
            if name in known:
                self.streams[name].merge(stream)
            else:
                self.streams[name] = stream
        self.lines += later.lines
        if later.first_ns >= 0:
            self._record_silence(self.last_ns, later.first_ns)
        self.silences += later.silences
        self.first_ns = later.first_ns if self.first_ns < 0 else self.first_ns
        self.last_ns = max(self.last_ns, later.last_ns)
        self.findings += later.findings
        return True

    def _count(self, lines: list[IdLine], number: int | None = None) -> None:
        """Count messages whose ids continue; `_count_other` counts the rest. This is the innermost loop."""
        streams, before = self.streams, self.last_ns
        trade, depth = StreamKind.TRADE, StreamKind.DEPTH
        silent_from = before + MAX_SILENCE_NS
        for index, line in enumerate(lines, self.lines + 1 if number is None else number):
            stamp, data = line.capture_ns, line.data
            stream = streams[line.stream]
            if stamp < before:
                self._record_disorder(index, stamp, before)
            elif stamp > silent_from:
                # The limit is set once in two seconds of stamps, so that a line needs only one comparison.
                self._record_silence(before, stamp)
                before, silent_from = stamp, stamp + MAX_SILENCE_NS
            else:
                before = stamp
            if stream.kind is trade:
                first = last = data.trade_id
            elif stream.kind is depth:
                last = data.last_id
                first = data.first_id if data.previous_id < 0 else data.previous_id + 1
            else:
                self._count_other(stream, data, stamp, index)
                continue
            track = stream.track
            if first == track.last + 1 and last >= first > 0:
                track.last = last
                track.messages += 1
                stream.last_ns = stamp
            else:
                self._count_other(stream, data, stamp, index)
        if lines and self.first_ns < 0:
            self.first_ns = lines[0].capture_ns
        self.last_ns = before

    def _record_silence(self, before: int, stamp: int) -> None:
        if 0 <= before < stamp - MAX_SILENCE_NS and len(self.silences) < MAX_BREAKS:
            self.silences.append(CaptureRange(before, stamp))

    def _count_other(self, stream: StreamScan, data: Ids, stamp: int, number: int) -> None:
        if stream.kind is StreamKind.TRADE:
            first = last = data.trade_id
        elif stream.kind is StreamKind.AGG_TRADE:
            first = last = data.aggregate_id
        elif stream.kind is StreamKind.DEPTH:
            first, last = first_covered_id(data.first_id, data.previous_id), data.last_id
            if min(data.first_id, data.last_id) < 0 or last < first:
                first = -1
        else:
            if stream.kind is StreamKind.SNAPSHOT and data.snapshot_id >= 0:
                stream.snapshots.append(data.snapshot_id)
            elif stream.kind is StreamKind.SNAPSHOT:
                self._record_bad_line(number, f"{stream.name} has no lastUpdateId")
            stream.track.messages += 1
            stream.first_ns = stamp if stream.first_ns < 0 else stream.first_ns
            stream.last_ns = stamp
            return
        if first < 0:
            self._record_bad_line(number, f"{stream.name} has no valid ids")
        else:
            stream.count_message(first, last, stamp)

    def _process_lines_exactly(self, block: bytes) -> None:
        for raw in block.split(b"\n")[:-1]:
            self.lines += 1
            try:
                raw.decode()
                line = decode_line_exactly(raw)
            except PARSE_ERRORS as error:
                self._record_bad_line(self.lines, f"{explain(error)}: {raw[:80]!r}")
            else:
                self._count([line], self.lines)

    def _record_bad_line(self, number: int, why: str) -> None:
        self.bad_count += 1
        if len(self.bad_examples) < MAX_EXAMPLES:
            self.bad_examples.append(f"line {number:,}: {why}")

    def _record_disorder(self, number: int, stamp: int, before: int) -> None:
        self.disorder_count += 1
        if len(self.disorder_examples) < MAX_EXAMPLES:
            self.disorder_examples.append(f"line {number:,}: {stamp} after {before}")


def _is_text(block: bytes) -> bool:
    """Return True if the whole block is UTF-8, including values that the decoder skips."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def scan_part(path: Path, start: int = 0, end: int | None = None, *, digest_end: int | None = None) -> Scan:
    """Scan the bytes `start..end` of a recording, which must be whole gzip members.

    Args:
        path: The recording.
        start: First byte.
        end: Byte after the last one; None for the end of the file.
        digest_end: Byte up to which the digest is computed, if it is after `end`.

    Raises:
        MalformedDataError: The file cannot be opened or read.
    """
    result = Scan(path)
    with Recording(path, start=start, end=end, digest_end=digest_end) as recording:
        for block in recording:
            result.process_block(block)
    result.findings, result.size, result.sha256 = recording.findings, recording.size, recording.sha256
    return result
