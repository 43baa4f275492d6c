"""Listing of the bucket in version 1 of the S3 protocol: prefixes, markers and pages of at most 1000 keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape

from capture_pipeline.binance.periods import from_us
from capture_pipeline.binance.urls import Granularity, Market
from sandbox_exchange.archive.publisher import Archive
from sandbox_exchange.constants import ARCHIVE_ROOTS, DATA
from sandbox_exchange.faults.kinds import CHECKSUM, FaultStage
from sandbox_exchange.faults.matcher import FaultInjector, RequestInfo

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_MAX_KEYS = 1000
_LAST_DEPTH = 4


@dataclass(frozen=True)
class ListQuery:
    """Parameters of a listing request.

    Attributes:
        prefix: Prefix of the keys.
        delimiter: `/` to list folders instead of their keys, or empty.
        marker: The listing contains the keys after this one.
        max_keys: Maximum number of keys and folders of the page.
    """

    prefix: str = ""
    delimiter: str = ""
    marker: str = ""
    max_keys: int = _MAX_KEYS


class _Entry(NamedTuple):
    """Key or folder of a page, and its XML."""

    name: str
    xml: str


class Listing:
    """Generator of listing pages."""

    def __init__(self, archive: Archive, faults: FaultInjector) -> None:
        """Create a listing; `faults` can change the sizes of files."""
        self._archive = archive
        self._faults = faults

    def page(self, query: ListQuery) -> bytes:
        """Render one page as XML."""
        max_keys = max(0, min(query.max_keys, _MAX_KEYS))
        entries: list[_Entry] = []
        is_truncated = False
        for name in self._names(query):
            if len(entries) == max_keys:
                is_truncated = True
                break
            text = _prefix_xml(name) if name.endswith("/") else self._key_xml(name)
            if text:
                entries.append(_Entry(name, text))
        return _page_xml(query, max_keys, entries, is_truncated=is_truncated)

    def _names(self, query: ListQuery) -> Iterator[str]:
        folder = query.prefix[: query.prefix.rfind("/") + 1]
        for name in self._names_below(folder, query.prefix, is_recursive=query.delimiter != "/"):
            is_past = name > query.marker and not (name.endswith("/") and query.marker.startswith(name))
            if name.startswith(query.prefix) and is_past:
                yield name

    def _names_below(self, folder: str, prefix: str, *, is_recursive: bool) -> Iterator[str]:
        for child in self._children(folder):
            name = folder + child
            if is_recursive and child.endswith("/"):
                if name.startswith(prefix) or prefix.startswith(name):
                    yield from self._names_below(name, prefix, is_recursive=is_recursive)
            else:
                yield name

    def _children(self, folder: str) -> list[str]:
        """Return the names in a folder in order; names of folders end with a slash."""
        fixed = {"": ["data/"], "data/": ["futures/", "spot/"], "data/futures/": ["um/"]}
        if folder in fixed:
            return fixed[folder]
        market = next((market for market in Market if folder.startswith(ARCHIVE_ROOTS[market] + "/")), None)
        if market is None:
            return []
        parts = folder.removeprefix(ARCHIVE_ROOTS[market] + "/").split("/")[:-1]
        if (
            len(parts) > _LAST_DEPTH
            or parts[:1] not in ([], ["daily"], ["monthly"])
            or (parts[1:] and parts[1] not in DATA)
        ):
            return []
        return self._market_children(market, parts)

    def _market_children(self, market: Market, parts: list[str]) -> list[str]:
        if not parts:
            return ["daily/", "monthly/"]
        granularity, symbols = Granularity(parts[0]), self._archive.source.symbols(market)
        if len(parts) == 1:
            return [f"{data}/" for data in DATA]
        if len(parts) == 2:  # noqa: PLR2004
            return sorted(f"{spec.symbol}/" for spec in symbols)
        if parts[2] not in {spec.symbol for spec in symbols}:
            return []
        return self._symbol_children(market, granularity, parts[2], parts[1], parts[3] if parts[3:] else None)

    def _symbol_children(
        self, market: Market, granularity: Granularity, symbol: str, data: str, interval: str | None
    ) -> list[str]:
        """Return the folders of the intervals of klines, or the files of an interval or of trades."""
        if data == "klines" and interval is None:
            return sorted(f"{step}/" for step in self._archive.source.intervals(market, granularity, symbol))
        if data != "klines" and interval is not None:
            return []
        files = self._archive.list_files(market, granularity, symbol, interval or data)
        return [name for file in files for name in (file.name, file.name + CHECKSUM)]

    def _key_xml(self, key: str) -> str:
        path = key.removesuffix(CHECKSUM)
        rules = self._faults.peek_all(RequestInfo("GET", "/" + path, {}))
        if key.endswith(CHECKSUM):
            fault = self._faults.peek(FaultStage.CHECKSUM, RequestInfo("GET", "/" + path, {}))
            checksum = self._archive.read_checksum(path, rules, fault)
            properties = (len(checksum.body), checksum.etag, checksum.modified_us) if checksum else None
        else:
            info = self._archive.read_info(path, rules)
            properties = (info.size, info.etag, info.modified_us) if info else None
        if properties is None:
            return ""
        size, etag, modified_us = properties
        modified = from_us(modified_us).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        head = f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
        return (
            f"{head}<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


def _prefix_xml(name: str) -> str:
    return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"


def _page_xml(query: ListQuery, max_keys: int, entries: list[_Entry], *, is_truncated: bool) -> bytes:
    next_marker = (
        f"<NextMarker>{escape(entries[-1].name)}</NextMarker>"
        if is_truncated and entries and query.delimiter
        else ""
    )
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{_NAMESPACE}">'
        f"<Name>data.binance.vision</Name><Prefix>{escape(query.prefix)}</Prefix>"
        f"<Marker>{escape(query.marker)}</Marker>{next_marker}<MaxKeys>{max_keys}</MaxKeys>"
        f"<Delimiter>{escape(query.delimiter)}</Delimiter>"
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
    )
    # The bucket sends keys before folders.
    keys = "".join(each.xml for each in entries if not each.name.endswith("/"))
    folders = "".join(each.xml for each in entries if each.name.endswith("/"))
    return f"{head}{keys}{folders}</ListBucketResult>".encode()
