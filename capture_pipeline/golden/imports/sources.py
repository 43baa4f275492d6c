"""Source that reads the files of another tool's recording as one sequence of messages.

Ids and stamps show the order of the files. Files with a common stream that has ids form a chain, in the order
of these ids. Chains are merged by stamps. Within a file the order of arrival does not change, even if a stamp
is lower than the previous one.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cmp_to_key
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path

from capture_pipeline.binance.streams.names import StreamKind, kind_of
from capture_pipeline.golden.imports.csv_files import ProcessorLines
from capture_pipeline.golden.imports.evidence import BINANCE, Evidence
from capture_pipeline.golden.imports.line_formats import CaptureLines, CryptofeedLines, HftbacktestLines
from capture_pipeline.golden.imports.lines import Parser, read_messages, symbol_or_empty
from capture_pipeline.golden.imports.notes import CapturedMessage, Notes

_SURVEYED = 2000
"""Number of messages at the start of a file that are read to find its position."""
_IDS = {
    StreamKind.TRADE: re.compile(rb'"t":([0-9]{1,19})(?![0-9])'),
    StreamKind.DEPTH: re.compile(rb'"U":([0-9]{1,19})(?![0-9])'),
}
_IDS |= {StreamKind.AGG_TRADE: re.compile(rb'"a":([0-9]{1,19})(?![0-9])')}


class Origin(StrEnum):
    """Tool that wrote a recording."""

    HFTBACKTEST = "hftbacktest"
    CRYPTOFEED = "cryptofeed"
    PROCESSOR = "binance-data-processor"
    CAPTURE = "capture"
    """This product's own line form, for example a file that was copied from a session."""


_PARSERS: dict[Origin, Callable[[Path, Notes, Evidence, str | None, bool], Parser]] = {
    Origin.HFTBACKTEST: HftbacktestLines,
    Origin.CRYPTOFEED: CryptofeedLines,
    Origin.PROCESSOR: ProcessorLines,
    Origin.CAPTURE: CaptureLines,
}
_WITHOUT_HOST = frozenset({Origin.HFTBACKTEST, Origin.PROCESSOR})
"""Tools that write no host into their files and connect to binance.com; the user may name another venue."""


@dataclass(slots=True)
class Source:
    """Files of one recording.

    Attributes:
        origin: Tool that wrote the files.
        files: The files in any order.
        symbol: Symbol of snapshots without a stream, if the user names it.
        notes: Report of the import; complete when all messages were read.
        evidence: Evidence of market and venue; complete when all messages were read.
    """

    origin: Origin
    files: list[Path]
    symbol: str | None = None
    notes: Notes = field(default_factory=Notes)
    evidence: Evidence = field(default_factory=Evidence)

    def messages(self) -> Iterator[CapturedMessage]:
        """Return all messages in order.

        Raises:
            MalformedDataError: A file does not have the format of the tool, or the symbol of a snapshot is
                unknown. The error names file and line.
        """
        heads = [self._survey(path) for path in self.files]
        chains = [
            chain.from_iterable(self._file(head, heads) for head in part) for part in _group_files(heads)
        ]
        return heapq.merge(*chains, key=attrgetter("capture_ns"))

    def decide(self, market: str | None, venue: str | None) -> None:
        """Decide on market and venue after all messages were read; see `Evidence.decide`."""
        for path in self.files if self.origin is Origin.CRYPTOFEED else ():
            self.evidence.inspect_file_name(path.name)
        if self.origin in _WITHOUT_HOST and not venue:
            self.evidence.add_venue(
                BINANCE, str(self.origin), "the host of the tool as released; --venue names another"
            )
        self.evidence.decide(", ".join(map(str, self.files)), market, venue)

    def _file(self, head: _Head, heads: list[_Head]) -> Iterator[CapturedMessage]:
        symbols = head.depth_symbols or set().union(*(other.depth_symbols for other in heads))
        symbol = self.symbol or (next(iter(symbols)) if len(symbols) == 1 else None)
        return read_messages(head.path, self._parser(head.path, self.notes, self.evidence, symbol))

    def _survey(self, path: Path) -> _Head:
        """Read the start of a file.

        Files of hftbacktest are read completely: a second symbol on any line makes snapshots without a stream
        ambiguous.
        """
        head = _Head(path)
        parser = self._parser(path, Notes(), Evidence(), self.symbol, is_survey=True)
        most = None if self.origin is Origin.HFTBACKTEST and not self.symbol else _SURVEYED
        for captured in islice(read_messages(path, parser), most):
            head.add_message(captured)
        return head

    def _parser(
        self, path: Path, notes: Notes, evidence: Evidence, symbol: str | None, *, is_survey: bool = False
    ) -> Parser:
        return _PARSERS[self.origin](path, notes, evidence, symbol, is_survey)


@dataclass(slots=True)
class _Head:
    """Data from the start of a file that show its position.

    Attributes:
        path: The file.
        first_ns: First stamp; -1 without a message.
        first_ids: First id of each stream that has ids.
        depth_symbols: Symbols with depth diffs.
    """

    path: Path
    first_ns: int = -1
    first_ids: dict[str, int] = field(default_factory=dict)
    depth_symbols: set[str] = field(default_factory=set)

    def add_message(self, captured: CapturedMessage) -> None:
        """Add a message."""
        if self.first_ns < 0:
            self.first_ns = captured.capture_ns
        if captured.stream in self.first_ids:
            return
        kind = kind_of(captured.stream)
        if kind is StreamKind.DEPTH:
            self.depth_symbols.add(symbol_or_empty(captured.stream))
        if kind in _IDS and (found := _IDS[kind].search(captured.data)):
            self.first_ids[captured.stream] = int(found[1])

    def compare_position(self, other: _Head) -> int:
        """Return a number below 0 if this file is first: by the ids of a common stream, else by stamps."""
        for stream, first in self.first_ids.items():
            if (theirs := other.first_ids.get(stream, first)) != first:
                return first - theirs
        return self.first_ns - other.first_ns


def _group_files(heads: list[_Head]) -> list[list[_Head]]:
    """Group files with common streams, each group in its order."""
    chains: list[list[_Head]] = []
    for head in heads:
        related = [
            part for part in chains if any(head.first_ids.keys() & other.first_ids.keys() for other in part)
        ]
        chains = [part for part in chains if part not in related]
        chains.append([*chain.from_iterable(related), head])
    return [sorted(part, key=cmp_to_key(_Head.compare_position)) for part in chains]


__all__ = ["CapturedMessage", "Origin", "Source"]
