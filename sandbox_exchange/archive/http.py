"""HTTP handlers of the archive: ranges, conditional requests, and the error texts of the bucket."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capture_pipeline.parsing import parse_count
from sandbox_exchange.archive.publisher import Archive, Published
from sandbox_exchange.archive.s3_listing import Listing, ListQuery
from sandbox_exchange.constants import BUCKET
from sandbox_exchange.faults.kinds import CHECKSUM, FaultStage
from sandbox_exchange.faults.matcher import FaultInjector, RequestInfo
from sandbox_exchange.http.request_log import log_fault

_BUCKET = f"/{BUCKET}/"
"""Path prefix of the bucket, which has no cache; the host of the archive is the root."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class ArchiveHost:
    """HTTP handlers of archive files and listings."""

    def __init__(self, archive: Archive, faults: FaultInjector) -> None:
        self._archive = archive
        self._faults = faults
        self._listing = Listing(archive, faults)

    def routes(self) -> list[Route]:
        bucket = _BUCKET.rstrip("/")
        listings = [Route(f"{root}/", self.list_keys, methods=["GET"]) for root in ("", bucket)]
        return listings + [
            Route(f"{root}/data/{{path:path}}", self.file, methods=["GET", "HEAD"]) for root in ("", bucket)
        ]

    async def list_keys(self, request: Request) -> Response:
        """Return one page of the listing."""
        query = request.query_params
        max_keys = parse_count(query.get("max-keys", "1000"))
        if max_keys is None:
            return _xml_error(
                400, "InvalidArgument", "Provided max-keys not an integer or within integer range", ""
            )
        listing = ListQuery(
            query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", ""), max_keys
        )
        return Response(await run_in_threadpool(self._listing.page, listing), media_type="application/xml")

    async def file(self, request: Request) -> Response:
        """Return a zip or a checksum file."""
        path = request.url.path.removeprefix(_BUCKET).lstrip("/")
        published = await run_in_threadpool(self._find_published, request, path)
        if published is None:
            return _xml_error(404, "NoSuchKey", "The specified key does not exist.", path)
        kind = "binary/octet-stream" if path.endswith(CHECKSUM) else "application/zip"
        return build_response(request, published, kind)

    def _find_published(self, request: Request, path: str) -> Published | None:
        zip_path = path.removesuffix(CHECKSUM)
        info = RequestInfo(request.method, "/" + zip_path, dict(request.query_params))
        if self._archive.find_file(zip_path) is None:
            return None
        if path == zip_path:
            rules = self._faults.select_all(info) if request.method == "GET" else self._faults.peek_all(info)
            for rule in rules:
                log_fault(request.scope, rule)
            is_cached = request.method == "GET" and not request.url.path.startswith(_BUCKET)
            cached = self._faults.select(FaultStage.CACHE, info) if is_cached else None
            log_fault(request.scope, cached)
            return self._archive.read_zip(zip_path, rules, is_older=cached is not None)
        fault = self._faults.select(FaultStage.CHECKSUM, info)
        log_fault(request.scope, fault)
        return self._archive.read_checksum(zip_path, self._faults.peek_all(info), fault)


def build_response(request: Request, published: Published, kind: str) -> Response:
    """Build the response with the object or the requested range: status 200, 206, 304 or 416."""
    etag, total = f'"{published.etag}"', len(published.body)
    modified = formatdate(published.modified_us // 1_000_000, usegmt=True)
    headers = {"ETag": etag, "Last-Modified": modified, "Accept-Ranges": "bytes", "Server": "AmazonS3"}
    if request.headers.get("If-None-Match") in {etag, "*"}:
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("If-Range")
    byte_range = _RANGE.fullmatch(request.headers.get("Range", ""))
    # If the condition is false, the client has another revision: the whole object is sent.
    if (
        byte_range is None
        or byte_range[0] == "bytes=-"
        or (condition is not None and condition not in {etag, modified})
    ):
        return Response(published.body, headers=headers, media_type=kind)
    first, last = _parse_range(byte_range[1], byte_range[2], total)
    if first >= total or first > last:
        error = _xml_error(416, "InvalidRange", "The requested range is not satisfiable", "")
        error.headers["Content-Range"] = f"bytes */{total}"
        return error
    headers["Content-Range"] = f"bytes {first}-{last}/{total}"
    return Response(published.body[first : last + 1], status_code=206, headers=headers, media_type=kind)


class _ByteRange(NamedTuple):
    """Positions of the first and the last byte."""

    first: int
    last: int


def _parse_range(first: str, last: str, total: int) -> _ByteRange:
    if first:
        return _ByteRange(int(first), min(int(last) if last else total - 1, total - 1))
    return _ByteRange(max(0, total - int(last)), total - 1) if int(last) else _ByteRange(total, total)


def _xml_error(status: int, code: str, message: str, key: str) -> Response:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    text = (
        f"{head}<Error><Code>{code}</Code><Message>{message}</Message><Key>{_escape(key)}</Key>"
        "<RequestId>SANDBOX</RequestId></Error>"
    )
    return Response(text, status_code=status, media_type="application/xml")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
