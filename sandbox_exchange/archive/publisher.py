"""Archive: the published files with their revisions and checksums.

A file is built at its first request and cached in a temporary directory of bounded size. Sizes and digests of
all built files are stored.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.binance.periods import HOUR_US, SECOND_US
from capture_pipeline.binance.urls import Granularity, Market, TradesFile, parse_name, parse_trades_name
from sandbox_exchange.archive.corrupt_csv import corrupt_csv
from sandbox_exchange.archive.corrupt_zip import build_zip, compress_entry, corrupt_zip, inflate_first_entry
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.constants import archive_path
from sandbox_exchange.faults.kinds import CHECKSUM, ChecksumForm
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.market.source import AnyFile, FileContent, Source

_MAX_CACHED_BYTES = 512 << 20
_VOLUME, _QUANTITY = 5, 2
"""Column in which a revision differs: of klines, of trades."""
Rules = tuple[FaultRule, ...]
_TRADES = frozenset({"trades", "aggTrades"})
_CHECKSUM_FORMS: dict[str, Callable[[bytes, str, str], bytes]] = {
    "checksum_malformed": lambda _, digest, name: f"SHA256 ({name}) = {digest[:40]}\n".encode(),
    "checksum_no_newline": lambda text, _, __: text.rstrip(b"\n"),
    "checksum_crlf": lambda text, _, __: text.replace(b"\n", b"\r\n"),
    "checksum_binary": lambda _, digest, name: f"{digest} *{name}\n".encode(),
    "checksum_upper_case": lambda _, digest, name: f"{digest.upper()}  {name}\n".encode(),
    "checksum_bom": lambda text, _, __: b"\xef\xbb\xbf" + text,
    "checksum_path": lambda _, digest, name: f"{digest}  ./{name}\n".encode(),
    "checksum_two_lines": lambda text, _, __: text + text,
    "checksum_digest_alone": lambda _, digest, __: f"{digest}\n".encode(),
    "checksum_bsd": lambda _, digest, name: f"SHA256 ({name}) = {digest}\n".encode(),
}
"""Functions that build a checksum file from its correct text, the digest and the name of the zip."""


@dataclass(frozen=True)
class Published:
    """Object of the archive.

    Attributes:
        body: Content of the object.
        etag: MD5 without quotes, as in the bucket.
        sha256: Digest in a correct checksum file.
        modified_us: Publication time in microseconds UTC, whole seconds.
    """

    body: bytes
    etag: str
    sha256: str
    modified_us: int


@dataclass(frozen=True)
class ZipInfo:
    """Properties of a zip in a listing, and its recorded checksum file; see `Published` and `FileContent`."""

    size: int
    etag: str
    sha256: str
    modified_us: int
    recorded_checksum: bytes | None


class _Revision(NamedTuple):
    """Number of a version of a file, and its time of publication; 0 for the usual time."""

    number: int
    modified_us: int = 0


_FIRST = _Revision(0)


class Archive:
    """Published files of a source at the time of a clock."""

    def __init__(
        self,
        source: Source,
        clock: SandboxClock,
        *,
        monthly_delay_hours: float,
        daily_delay_hours: float,
        checksum_form: Callable[[AnyFile], ChecksumForm | None] = lambda _: None,
    ) -> None:
        """Create the temporary directory; it exists until `close` or as long as this object."""
        self._source = source
        self._clock = clock
        self._checksum_form = checksum_form
        delays = {Granularity.MONTHLY: monthly_delay_hours, Granularity.DAILY: daily_delay_hours}
        self._delay_us = {kind: int(hours * HOUR_US) for kind, hours in delays.items()}
        self._revisions: dict[str, _Revision] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-archive-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._stored_sizes: OrderedDict[str, int] = OrderedDict()
        self._infos: dict[tuple[str, int, str], ZipInfo] = {}
        self._lock = threading.RLock()

    @property
    def source(self) -> Source:
        """Source of the files."""
        return self._source

    def close(self) -> None:
        """Remove the temporary directory."""
        self._remove()

    def publication_us(self, file: AnyFile) -> int:
        """Return the publication time of a file, microseconds UTC."""
        return (file.bounds.end_us + self._delay_us[file.granularity]) // SECOND_US * SECOND_US

    def find_file(self, path: str) -> AnyFile | None:
        """Return the published file at a path without a leading slash; None if there is none yet."""
        folder, _, name = path.rpartition("/")
        for market in Market:
            file = parse_name(name, market) or parse_trades_name(name, market)
            if (
                file is not None
                and archive_path(file) == path
                and folder
                and self.publication_us(file) <= self._clock.now_us()
            ):
                return file
        return None

    def list_files(self, market: Market, granularity: Granularity, symbol: str, kind: str) -> list[AnyFile]:
        """Return the published files of a folder in order; `kind` is an interval, `trades` or `aggTrades`."""
        now = self._clock.now_us()
        if kind in _TRADES:
            trades = self._source.trades_files(market, granularity, symbol, now)
            return self._sort_published([replace(file, kind=kind) for file in trades], now)
        steps = {str(step): step for step in self._source.intervals(market, granularity, symbol)}
        if kind not in steps:
            return []
        return self._sort_published(self._source.files(market, granularity, symbol, steps[kind], now), now)

    def _sort_published(self, files: Sequence[AnyFile], now_us: int) -> list[AnyFile]:
        return sorted(
            (file for file in files if self.publication_us(file) <= now_us), key=lambda file: file.name
        )

    def read_zip(self, path: str, rules: Rules = (), *, is_older: bool = False) -> Published | None:
        """Return the zip at a path with the defects of `rules`; None if it is not published.

        Args:
            path: Path without a leading slash.
            rules: Content faults.
            is_older: Return the previous revision.
        """
        file = self.find_file(path)
        with self._lock:
            newest = self._revisions.get(path, _FIRST)
            revision = _Revision(newest.number - 1) if is_older and newest.number else newest
            return self._build(file, revision, rules) if file else None

    def read_info(self, path: str, rules: Rules = ()) -> ZipInfo | None:
        """Return the properties of the zip at a path; None if it is not published."""
        file = self.find_file(path)
        if file is None:
            return None
        with self._lock:
            key = path, self._revisions.get(path, _FIRST).number, _rules_key(rules)
            # A file without content gets no entry.
            if key not in self._infos:
                self.read_zip(path, rules)
            return self._infos.get(key)

    def read_checksum(self, path: str, rules: Rules = (), fault: FaultRule | None = None) -> Published | None:
        """Return the checksum file of the zip at a path; None if it is not published or a fault removes it.

        Args:
            path: Path of the zip without a leading slash.
            rules: Content faults of the zip.
            fault: Fault of the checksum file.
        """
        file, info = self.find_file(path), self.read_info(path, rules)
        kind = fault.fault if fault else ""
        if file is None or info is None or kind == "checksum_missing":
            return None
        digest = info.sha256
        if kind == "checksum_wrong":
            digest = hashlib.sha256(digest.encode()).hexdigest()
        if kind == "stale_checksum":
            with self._lock:
                older = self._build(file, _Revision(self._revisions.get(path, _FIRST).number - 1), rules)
            digest = older.sha256 if older else digest
        recorded = info.recorded_checksum if not rules and path not in self._revisions and not kind else None
        text = recorded or f"{digest}  {file.name}\n".encode()
        kind = kind or f"checksum_{self._checksum_form(file)}"
        return _create_published(
            _CHECKSUM_FORMS[kind](text, digest, file.name) if kind in _CHECKSUM_FORMS else text,
            info.modified_us,
        )

    def republish(self, path: str) -> ZipInfo | None:
        """Publish a new revision of the file at a path; None if the file is not published.

        The revision differs in the volume of one kline, or in the quantity of one trade.
        """
        if self.find_file(path) is None:
            return None
        with self._lock:
            number = self._revisions.get(path, _FIRST).number + 1
            modified_us = self._clock.now_us() // SECOND_US * SECOND_US
            self._revisions[path] = _Revision(number, modified_us)
        return self.read_info(path)

    def _build(self, file: AnyFile, revision: _Revision, rules: Rules) -> Published | None:
        key = file.path, revision.number, _rules_key(rules)
        info = self._infos.get(key)
        cached_path = self._folder / hashlib.sha256(repr(key).encode()).hexdigest()
        if info and cached_path.name in self._stored_sizes:
            self._stored_sizes.move_to_end(cached_path.name)
            return Published(cached_path.read_bytes(), info.etag, info.sha256, info.modified_us)
        content = self._source.content(file)
        if content is None:
            return None
        published = _create_published(
            _build_zip_bytes(content, file, revision.number, rules),
            revision.modified_us or self.publication_us(file),
        )
        self._infos[key] = ZipInfo(
            len(published.body), published.etag, published.sha256, published.modified_us, content.checksum
        )
        self._store(cached_path, published.body)
        return published

    def _store(self, cached_path: Path, body: bytes) -> None:
        cached_path.write_bytes(body)
        self._stored_sizes[cached_path.name] = len(body)
        while sum(self._stored_sizes.values()) > _MAX_CACHED_BYTES:
            oldest, _ = self._stored_sizes.popitem(last=False)
            (cached_path.parent / oldest).unlink(missing_ok=True)


def _rules_key(rules: Rules) -> str:
    return "\n".join(rule.model_dump_json() for rule in rules)


def _create_published(body: bytes, modified_us: int) -> Published:
    return Published(
        body,
        hashlib.md5(body, usedforsecurity=False).hexdigest(),
        hashlib.sha256(body).hexdigest(),
        modified_us,
    )


def _build_zip_bytes(content: FileContent, file: AnyFile, revision: int, rules: Rules) -> bytes:
    if content.zip is not None and not revision and not rules:
        return content.zip
    name = f"{file.stem}.csv"
    csv = content.csv if content.csv is not None else inflate_first_entry(content.zip or b"", name)
    csv = (
        _revise_csv(csv, revision, _QUANTITY if isinstance(file, TradesFile) else _VOLUME)
        if revision
        else csv
    )
    for rule in rules:
        csv = corrupt_csv(csv, file, rule)
    body = build_zip(compress_entry(name, csv))
    for rule in rules:
        body = corrupt_zip(body, name, csv, rule)
    return body


def _revise_csv(csv: bytes, revision: int, column: int) -> bytes:
    """Change the quantity in the middle row of a CSV."""
    lines = csv.decode().splitlines()
    row = lines[len(lines) // 2].split(",")
    row[column] = f"{Decimal(row[column]) + revision:f}"
    lines[len(lines) // 2] = ",".join(row)
    return ("\n".join(lines) + "\n").encode()


__all__ = ["CHECKSUM", "Archive", "Published", "ZipInfo"]
