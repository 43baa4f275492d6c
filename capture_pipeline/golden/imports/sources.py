"""Recordings of other tools as one sequence of messages. Which file follows which is told from ids and stamps, not by the caller.

Files that have a stream with ids in common are parts of one chain, in the order of those ids; chains are merged by their stamps. Within a
file the order of arrival is kept, also where a stamp goes back. Writes nothing.
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
from capture_pipeline.golden.imports.lines import Parser, import_symbol, messages_of
from capture_pipeline.golden.imports.notes import Captured, Notes

_SURVEYED = 2000
"""Messages at the beginning of a file by which its place is told."""
_IDS = {
    StreamKind.TRADE: re.compile(rb'"t":([0-9]{1,19})(?![0-9])'),
    StreamKind.DEPTH: re.compile(rb'"U":([0-9]{1,19})(?![0-9])'),
}
_IDS |= {StreamKind.AGG_TRADE: re.compile(rb'"a":([0-9]{1,19})(?![0-9])')}


class Origin(StrEnum):
    """Which tool wrote a recording."""

    HFTBACKTEST = "hftbacktest"
    CRYPTOFEED = "cryptofeed"
    PROCESSOR = "binance-data-processor"
    CAPTURE = "capture"
    """This product's own line form, for instance a file that was copied out of a session."""


_PARSERS: dict[Origin, Callable[[Path, Notes, Evidence, str | None, bool], Parser]] = {
    Origin.HFTBACKTEST: HftbacktestLines,
    Origin.CRYPTOFEED: CryptofeedLines,
    Origin.PROCESSOR: ProcessorLines,
    Origin.CAPTURE: CaptureLines,
}
_WITHOUT_HOST = frozenset({Origin.HFTBACKTEST, Origin.PROCESSOR})
"""Tools that write no host into their files and connect to binance.com as released; the user may name another venue."""


@dataclass(slots=True)
class Source:
    """What is to be read.

    Attributes:
        origin: Which tool wrote it.
        files: The files of one recording, in any order.
        symbol: Whose snapshots those without a stream are, where the user says it.
        notes: What is reported, complete once all was read.
        evidence: What tells market and venue, likewise.
    """

    origin: Origin
    files: list[Path]
    symbol: str | None = None
    notes: Notes = field(default_factory=Notes)
    evidence: Evidence = field(default_factory=Evidence)

    def messages(self) -> Iterator[Captured]:
        """All messages in order.

        Raises:
            MalformedDataError: A file is not what that tool writes, or a snapshot's symbol is not known; file and line are named.
        """
        heads = [self._survey(path) for path in self.files]
        chains = [chain.from_iterable(self._file(head, heads) for head in part) for part in _chains(heads)]
        return heapq.merge(*chains, key=attrgetter("capture_ns"))

    def decide(self, market: str | None, venue: str | None) -> None:
        """Settle market and venue, once all was read; see `Evidence.decide`."""
        for path in self.files if self.origin is Origin.CRYPTOFEED else ():
            self.evidence.file_name(path.name)
        if self.origin in _WITHOUT_HOST and not venue:
            self.evidence.venue(
                BINANCE, str(self.origin), "the host of the tool as released; --venue names another"
            )
        self.evidence.decide(", ".join(map(str, self.files)), market, venue)

    def _file(self, head: _Head, heads: list[_Head]) -> Iterator[Captured]:
        symbols = head.depth_symbols or set().union(*(other.depth_symbols for other in heads))
        symbol = self.symbol or (next(iter(symbols)) if len(symbols) == 1 else None)
        return messages_of(head.path, self._parser(head.path, self.notes, self.evidence, symbol))

    def _survey(self, path: Path) -> _Head:
        """The beginning of a file; of hftbacktest's all of it, for any of its lines may name the second symbol of a bare snapshot."""
        head = _Head(path)
        parser = self._parser(path, Notes(), Evidence(), self.symbol, is_survey=True)
        most = None if self.origin is Origin.HFTBACKTEST and not self.symbol else _SURVEYED
        for captured in islice(messages_of(path, parser), most):
            head.see(captured)
        return head

    def _parser(
        self, path: Path, notes: Notes, evidence: Evidence, symbol: str | None, *, is_survey: bool = False
    ) -> Parser:
        return _PARSERS[self.origin](path, notes, evidence, symbol, is_survey)


@dataclass(slots=True)
class _Head:
    """What the beginning of a file tells of its place.

    Attributes:
        path: The file.
        first_ns: Its first stamp; -1 without a message.
        first_ids: First id of each stream that has ids.
        depth_symbols: Symbols that it has diffs of.
    """

    path: Path
    first_ns: int = -1
    first_ids: dict[str, int] = field(default_factory=dict)
    depth_symbols: set[str] = field(default_factory=set)

    def see(self, captured: Captured) -> None:
        """Take a message into account."""
        if self.first_ns < 0:
            self.first_ns = captured.capture_ns
        if captured.stream in self.first_ids:
            return
        kind = kind_of(captured.stream)
        if kind is StreamKind.DEPTH:
            self.depth_symbols.add(import_symbol(captured.stream))
        if kind in _IDS and (found := _IDS[kind].search(captured.data)):
            self.first_ids[captured.stream] = int(found[1])

    def precedes(self, other: _Head) -> int:
        """Below 0 where this file comes before the other: by the ids of a stream of both, else by stamps."""
        for stream, first in self.first_ids.items():
            if (theirs := other.first_ids.get(stream, first)) != first:
                return first - theirs
        return self.first_ns - other.first_ns


def _chains(heads: list[_Head]) -> list[list[_Head]]:
    """Files that have streams in common, each group in its order."""
    chains: list[list[_Head]] = []
    for head in heads:
        mine = [
            part for part in chains if any(head.first_ids.keys() & other.first_ids.keys() for other in part)
        ]
        chains = [part for part in chains if part not in mine]
        chains.append([*chain.from_iterable(mine), head])
    return [sorted(part, key=cmp_to_key(_Head.precedes)) for part in chains]


__all__ = ["Captured", "Origin", "Source"]
