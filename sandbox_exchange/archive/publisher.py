"""The archive: which files are published by now, in which version, with which checksum. Knows no HTTP.

Files are made when they are first asked for and kept, within bounds, in a temporary directory; sizes and digests of all files that
were made are remembered.
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

from capture_pipeline.binance.periods import HOUR_US, SECOND_US
from capture_pipeline.binance.urls import Granularity, Market, TradesFile, parse_name, parse_trades_name
from sandbox_exchange.archive.corrupt_csv import spoil_csv
from sandbox_exchange.archive.corrupt_zip import entry_of, first_entry, spoil_zip, zip_of
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.constants import archive_path
from sandbox_exchange.faults.rules import CHECKSUM, ChecksumForm, FaultRule
from sandbox_exchange.market.source import AnyFile, Content, Source

_CACHED_BYTES = 512 << 20
_VOLUME, _QUANTITY = 5, 2
"""The column that a new version differs in: of klines, of trades."""
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
"""What a fault makes of a checksum file, from its text, the digest and the zip's name."""


@dataclass(frozen=True)
class Published:
    """One object of the archive.

    Attributes:
        body: Its bytes.
        etag: MD5, as the bucket states it, without quotes.
        sha256: What a right checksum file says.
        modified_us: Publication time, whole seconds.
    """

    body: bytes
    etag: str
    sha256: str
    modified_us: int


@dataclass(frozen=True)
class Facts:
    """What a listing says of a zip, and what was recorded beside it; see `Published` and `Content`."""

    size: int
    etag: str
    sha256: str
    modified_us: int
    recorded: bytes | None


class Archive:
    """Published files of a source, as of a clock."""

    def __init__(
        self,
        source: Source,
        clock: SandboxClock,
        *,
        monthly_delay_hours: float,
        daily_delay_hours: float,
        form_of: Callable[[AnyFile], ChecksumForm | None] = lambda _: None,
    ) -> None:
        """Publish nothing yet; the temporary directory lives as long as this object, or until `close`."""
        self._source = source
        self._clock = clock
        self._form_of = form_of
        delays = {Granularity.MONTHLY: monthly_delay_hours, Granularity.DAILY: daily_delay_hours}
        self._delay_us = {kind: int(hours * HOUR_US) for kind, hours in delays.items()}
        self._versions: dict[str, tuple[int, int]] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="sandbox-archive-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._facts: dict[tuple[str, int, str], Facts] = {}
        self._lock = threading.RLock()

    @property
    def source(self) -> Source:
        """What stands behind it."""
        return self._source

    def close(self) -> None:
        """Remove the temporary directory."""
        self._remove()

    def published_us(self, file: AnyFile) -> int:
        """When a file appears."""
        return (file.bounds[1] + self._delay_us[file.granularity]) // SECOND_US * SECOND_US

    def file_at(self, path: str) -> AnyFile | None:
        """The published file at a path (without a leading slash), None if there is none by now."""
        folder, _, name = path.rpartition("/")
        for market in Market:
            file = parse_name(name, market) or parse_trades_name(name, market)
            if (
                file is not None
                and archive_path(file) == path
                and folder
                and self.published_us(file) <= self._clock.now_us()
            ):
                return file
        return None

    def published(self, market: Market, granularity: Granularity, symbol: str, kind: str) -> list[AnyFile]:
        """The files of a folder that are there by now, in order: klines of an interval, `trades` or `aggTrades`."""
        now = self._clock.now_us()
        if kind in _TRADES:
            trades = self._source.trades_files(market, granularity, symbol, now)
            return self._by_now([replace(file, kind=kind) for file in trades], now)
        steps = {str(step): step for step in self._source.intervals(market, granularity, symbol)}
        if kind not in steps:
            return []
        return self._by_now(self._source.files(market, granularity, symbol, steps[kind], now), now)

    def _by_now(self, files: Sequence[AnyFile], now_us: int) -> list[AnyFile]:
        return sorted(
            (file for file in files if self.published_us(file) <= now_us), key=lambda file: file.name
        )

    def zip(self, path: str, rules: Rules = (), *, is_older: bool = False) -> Published | None:
        """The zip at a path, with the defects of `rules`, or the version before it; None if it is not published."""
        file = self.file_at(path)
        with self._lock:
            newest, modified_us = self._versions.get(path, (0, 0))
            version = (newest - 1, 0) if is_older and newest else (newest, modified_us)
            return self._made(file, version, rules) if file else None

    def facts(self, path: str, rules: Rules = ()) -> Facts | None:
        """What a listing says of the zip at a path."""
        file = self.file_at(path)
        if file is None:
            return None
        with self._lock:
            key = path, self._versions.get(path, (0, 0))[0], _name_of(rules)
            # A file that has no content leaves no facts.
            if key not in self._facts:
                self.zip(path, rules)
            return self._facts.get(key)

    def checksum(self, path: str, rules: Rules = (), fault: FaultRule | None = None) -> Published | None:
        """The checksum file of the zip at a path, with the defects of `rules` in the zip and of `fault` in itself."""
        file, facts = self.file_at(path), self.facts(path, rules)
        kind = fault.fault if fault else ""
        if file is None or facts is None or kind == "checksum_missing":
            return None
        digest = facts.sha256
        if kind == "checksum_wrong":
            digest = hashlib.sha256(digest.encode()).hexdigest()
        if kind == "stale_checksum":
            with self._lock:
                older = self._made(file, (self._versions.get(path, (0, 0))[0] - 1, 0), rules)
            digest = older.sha256 if older else digest
        recorded = facts.recorded if not rules and path not in self._versions and not kind else None
        text = recorded or f"{digest}  {file.name}\n".encode()
        kind = kind or f"checksum_{self._form_of(file)}"
        return _object(
            _CHECKSUM_FORMS[kind](text, digest, file.name) if kind in _CHECKSUM_FORMS else text,
            facts.modified_us,
        )

    def republish(self, path: str) -> Facts | None:
        """Make the file at a path a new version; None if it is not published.

        In it the volume of one candle differs, or the quantity of one trade.
        """
        if self.file_at(path) is None:
            return None
        with self._lock:
            version = self._versions.get(path, (0, 0))[0] + 1
            self._versions[path] = version, self._clock.now_us() // SECOND_US * SECOND_US
        return self.facts(path)

    def _made(self, file: AnyFile, version: tuple[int, int], rules: Rules) -> Published | None:
        key = file.path, version[0], _name_of(rules)
        known = self._facts.get(key)
        place = self._folder / hashlib.sha256(repr(key).encode()).hexdigest()
        if known and place.name in self._kept:
            self._kept.move_to_end(place.name)
            return Published(place.read_bytes(), known.etag, known.sha256, known.modified_us)
        content = self._source.content(file)
        if content is None:
            return None
        made = _object(_zip_bytes(content, file, version[0], rules), version[1] or self.published_us(file))
        self._facts[key] = Facts(len(made.body), made.etag, made.sha256, made.modified_us, content.checksum)
        self._keep(place, made.body)
        return made

    def _keep(self, place: Path, body: bytes) -> None:
        place.write_bytes(body)
        self._kept[place.name] = len(body)
        while sum(self._kept.values()) > _CACHED_BYTES:
            oldest, _ = self._kept.popitem(last=False)
            (place.parent / oldest).unlink(missing_ok=True)


def _name_of(rules: Rules) -> str:
    return "\n".join(rule.model_dump_json() for rule in rules)


def _object(body: bytes, modified_us: int) -> Published:
    return Published(
        body,
        hashlib.md5(body, usedforsecurity=False).hexdigest(),
        hashlib.sha256(body).hexdigest(),
        modified_us,
    )


def _zip_bytes(content: Content, file: AnyFile, version: int, rules: Rules) -> bytes:
    if content.zip is not None and not version and not rules:
        return content.zip
    name = f"{file.stem}.csv"
    csv = content.csv if content.csv is not None else first_entry(content.zip or b"", name)
    csv = _revised(csv, version, _QUANTITY if isinstance(file, TradesFile) else _VOLUME) if version else csv
    for rule in rules:
        csv = spoil_csv(csv, file, rule)
    body = zip_of(entry_of(name, csv))
    for rule in rules:
        body = spoil_zip(body, name, csv, rule)
    return body


def _revised(csv: bytes, version: int, column: int) -> bytes:
    """The CSV with another volume in its middle row."""
    lines = csv.decode().splitlines()
    row = lines[len(lines) // 2].split(",")
    row[column] = f"{Decimal(row[column]) + version:f}"
    lines[len(lines) // 2] = ",".join(row)
    return ("\n".join(lines) + "\n").encode()


__all__ = ["CHECKSUM", "Archive", "Facts", "Published"]
