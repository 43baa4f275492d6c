"""One fast pass over a recording: the form of its lines, the order of its stamps, and whether ids continue.

What a message carries beside its ids is checked as JSON and skipped. Figures of two parts of one recording can be put together (`after`),
so that two processes read a long one (`scan_halves`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.golden.readers.gzip_reader import Finding
from capture_pipeline.golden.readers.line_reader import Recording
from capture_pipeline.golden.scan.id_lines import IdLine, Ids, exact_line, usual_lines
from capture_pipeline.golden.scan.line_layouts import runs
from capture_pipeline.golden.scan.streams import MOST_BREAKS, Streams, StreamScan
from capture_pipeline.parsing import PARSE_ERRORS, explain

MOST_SHOWN = 5
MOST_SILENT_NS = 2_000_000_000
"""A longer time without a message of any stream is a silence."""


@dataclass(slots=True)
class Scan:
    """What one pass found.

    Attributes:
        path: The file.
        streams: By name.
        lines: How many lines it has.
        bad: How many of them are not in the line form, and the first few with number and reason.
        disorder: How many stamps precede the one before them, and the first few likewise.
        first_ns: First stamp; -1 without any.
        last_ns: Highest stamp.
        silences: Times longer than `MOST_SILENT_NS` without a message, from the stamp before to the stamp after; the first 100,000.
        findings: What is wrong with the file as a file.
        size: Its bytes.
        sha256: Its digest.
    """

    path: Path
    streams: Streams = field(default_factory=Streams)
    lines: int = 0
    bad: int = 0
    bad_shown: list[str] = field(default_factory=list)
    disorder: int = 0
    disorder_shown: list[str] = field(default_factory=list)
    first_ns: int = -1
    last_ns: int = -1
    silences: list[tuple[int, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    size: int = 0
    sha256: str = ""

    @property
    def duration_s(self) -> float:
        """From the first stamp to the last."""
        return max(0, self.last_ns - self.first_ns) / 1e9

    def of_kind(self, *kinds: StreamKind) -> list[StreamScan]:
        """Streams of these kinds."""
        return [stream for stream in self.streams.values() if stream.kind in kinds]

    def block(self, block: bytes) -> None:
        """Count the lines of a block."""
        for run, is_known in runs(block):
            lines = usual_lines(run) if is_known and _is_text(run) else None
            if lines is None:
                self._one_by_one(run)
            else:
                self._count(lines)
                self.lines += len(lines)

    def after(self, later: Scan) -> bool:
        """Add what was seen of the same recording behind this part.

        Returns:
            False, with nothing added, where the parts do not simply follow each other, so that only one pass over both is exact.
        """
        known = self.streams.keys() & later.streams.keys()
        if (
            self.findings
            or self.bad
            or later.bad
            or self.disorder
            or later.disorder
            or 0 <= later.first_ns < self.last_ns
        ):
            return False
        if not all(self.streams[name].precedes(later.streams[name]) for name in known):
            return False
        for name, stream in later.streams.items():
            if name in known:
                self.streams[name].after(stream)
            else:
                self.streams[name] = stream
        self.lines += later.lines
        if later.first_ns >= 0:
            self._see_silence(self.last_ns, later.first_ns)
        self.silences += later.silences
        self.first_ns = later.first_ns if self.first_ns < 0 else self.first_ns
        self.last_ns = max(self.last_ns, later.last_ns)
        self.findings += later.findings
        return True

    def _count(self, lines: list[IdLine], number: int | None = None) -> None:
        """The hot loop: what continues is counted here, everything else by `_unusual`."""
        streams, before = self.streams, self.last_ns
        trade, depth = StreamKind.TRADE, StreamKind.DEPTH
        silent_from = before + MOST_SILENT_NS
        for index, line in enumerate(lines, self.lines + 1 if number is None else number):
            stamp, data = line.capture_ns, line.data
            stream = streams[line.stream]
            if stamp < before:
                self._disordered(index, stamp, before)
            elif stamp > silent_from:
                # Once in two seconds of stamps: the limit is that of an earlier stamp, so that a line costs one comparison.
                self._see_silence(before, stamp)
                before, silent_from = stamp, stamp + MOST_SILENT_NS
            else:
                before = stamp
            if stream.kind is trade:
                first = last = data.trade_id
            elif stream.kind is depth:
                last = data.last_id
                first = data.first_id if data.previous_id < 0 else data.previous_id + 1
            else:
                self._unusual(stream, data, stamp, index)
                continue
            track = stream.track
            if first == track.last + 1 and last >= first > 0:
                track.last = last
                track.messages += 1
                stream.last_ns = stamp
            else:
                self._unusual(stream, data, stamp, index)
        if lines and self.first_ns < 0:
            self.first_ns = lines[0].capture_ns
        self.last_ns = before

    def _see_silence(self, before: int, stamp: int) -> None:
        if 0 <= before < stamp - MOST_SILENT_NS and len(self.silences) < MOST_BREAKS:
            self.silences.append((before, stamp))

    def _unusual(self, stream: StreamScan, data: Ids, stamp: int, number: int) -> None:
        if stream.kind is StreamKind.TRADE:
            first = last = data.trade_id
        elif stream.kind is StreamKind.AGG_TRADE:
            first = last = data.aggregate_id
        elif stream.kind is StreamKind.DEPTH:
            first, last = (data.first_id if data.previous_id < 0 else data.previous_id + 1), data.last_id
            if min(data.first_id, data.last_id) < 0 or last < first:
                first = -1
        else:
            if stream.kind is StreamKind.SNAPSHOT and data.snapshot_id >= 0:
                stream.snapshots.append(data.snapshot_id)
            elif stream.kind is StreamKind.SNAPSHOT:
                self._bad_line(number, f"{stream.name} without lastUpdateId")
            stream.track.messages += 1
            stream.first_ns = stamp if stream.first_ns < 0 else stream.first_ns
            stream.last_ns = stamp
            return
        if first < 0:
            self._bad_line(number, f"{stream.name} without sound ids")
        else:
            stream.see(first, last, stamp)

    def _one_by_one(self, block: bytes) -> None:
        for raw in block.split(b"\n")[:-1]:
            self.lines += 1
            try:
                raw.decode()
                line = exact_line(raw)
            except PARSE_ERRORS as error:
                self._bad_line(self.lines, f"{explain(error)}: {raw[:80]!r}")
            else:
                self._count([line], self.lines)

    def _bad_line(self, number: int, why: str) -> None:
        self.bad += 1
        if len(self.bad_shown) < MOST_SHOWN:
            self.bad_shown.append(f"line {number:,}: {why}")

    def _disordered(self, number: int, stamp: int, before: int) -> None:
        self.disorder += 1
        if len(self.disorder_shown) < MOST_SHOWN:
            self.disorder_shown.append(f"line {number:,}: {stamp} after {before}")


def _is_text(block: bytes) -> bool:
    """Whether a block is UTF-8 throughout, also where its decoder skips."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def scan_part(path: Path, start: int = 0, end: int | None = None) -> Scan:
    """Pass over a recording's bytes `start..end`, between which whole members stand.

    Raises:
        MalformedDataError: It cannot be opened or read.
    """
    result = Scan(path)
    with Recording(path, start=start, end=end) as recording:
        for block in recording:
            result.block(block)
    result.findings, result.size, result.sha256 = recording.findings, recording.size, recording.sha256
    return result
