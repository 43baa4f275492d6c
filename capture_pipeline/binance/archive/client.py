"""Client of the archive: checksums, listings, and downloads that can be resumed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from capture_pipeline.binance.archive.protocol import ListedFile, parse_checksum, parse_listing
from capture_pipeline.binance.http.retries import raise_if_cancelled, retry_transient
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.urls import PublishedFile
from capture_pipeline.errors import MalformedDataError, NetworkError, ProtocolViolationError
from capture_pipeline.parsing import parse_count

_CHECKSUM_CAP = 10_000
_LISTING_CAP = 8 << 20
_MB = 1 << 20
_IDENTITY = {"Accept-Encoding": "identity"}


@dataclass
class Download:
    """State of a download, during the download and after it.

    Attributes:
        etag: ETag of the version to which the bytes in the sink belong; None if it is unknown.
        last_modified: Header `Last-Modified` as sent.
        on_version: Called with the ETag before the first bytes of a version are written, for a later
            resumption.
        attempts: Number of requests.
        resumed: Number of requests that continued an earlier one.
        seconds: Duration of the download.
    """

    etag: str | None = None
    last_modified: str | None = None
    on_version: Callable[[str | None], None] = lambda _: None
    attempts: int = 0
    resumed: int = 0
    seconds: float = 0.0


class PublishedDigest(NamedTuple):
    """SHA-256 that the archive publishes for a zip.

    Attributes:
        sha256: 64 hex digits; None if no checksum is published or it is unreadable.
        problem: Reason why there is none; None with a digest.
    """

    sha256: str | None
    problem: str | None


class ArchiveClient:
    """Client of the public archive; at most `http.parallel_downloads` downloads run at once."""

    def __init__(self, http: Http, archive_url: str, listing_url: str) -> None:
        """Create a client.

        Args:
            http: Transport.
            archive_url: Address of the root of the files.
            listing_url: Address of the bucket.
        """
        self._http = http
        self._archive_url = archive_url.rstrip("/")
        self._listing_url = listing_url.rstrip("/") + "/"
        self._slots = threading.BoundedSemaphore(http.settings.parallel_downloads)

    @property
    def bucket(self) -> ArchiveClient | None:
        """Client of the bucket, without the cache of the archive's host; None if both hosts are the same."""
        if self._listing_url == f"{self._archive_url}/":
            return None
        client = ArchiveClient(self._http, self._listing_url, self._listing_url)
        client._slots = self._slots  # both hosts share one limit
        return client

    def url(self, file: PublishedFile) -> str:
        """Return the address of a file."""
        return f"{self._archive_url}/{file.path}"

    def checksum(self, file: PublishedFile, cancel: threading.Event | None = None) -> PublishedDigest:
        """Download the published SHA-256 of a zip.

        Args:
            file: The zip.
            cancel: Event that stops further attempts.
        """
        answer = retry_transient(
            self._http.settings,
            lambda: self._http.get(self.url(file) + ".CHECKSUM", max_bytes=_CHECKSUM_CAP, headers=_IDENTITY),
            cancel,
        )
        if answer.status == 404:  # noqa: PLR2004
            return PublishedDigest(None, "no checksum is published")
        try:
            return PublishedDigest(parse_checksum(answer.body.decode("utf-8", "replace"), file.name), None)
        except MalformedDataError as error:
            return PublishedDigest(None, str(error))

    def listing(self, prefix: str, cancel: threading.Event | None = None) -> list[ListedFile]:
        """List all keys that begin with `prefix`.

        Args:
            prefix: A folder, optionally with the beginning of a name.
            cancel: Event that stops further attempts.

        Raises:
            ProtocolViolationError: A page is not a listing, or has the same marker as an earlier page.
        """
        found: list[ListedFile] = []
        marker = ""
        while True:
            params: dict[str, str | int] = {"prefix": prefix, "delimiter": "/"}
            if marker:
                params["marker"] = marker

            def request_page(params: dict[str, str | int] = params) -> bytes:
                return self._http.get(self._listing_url, max_bytes=_LISTING_CAP, params=params).body

            page = parse_listing(retry_transient(self._http.settings, request_page, cancel))
            found += page.files
            if page.next_marker is None:
                return found
            if page.next_marker <= marker:
                raise ProtocolViolationError("the listing repeats a page", where=self._listing_url + prefix)
            marker = page.next_marker

    def download(
        self, file: PublishedFile, sink: BinaryIO, state: Download, cancel: threading.Event | None = None
    ) -> bool:
        """Download a zip into `sink`; resume an earlier download if the version is still the same.

        Args:
            file: The zip.
            sink: File opened for update; contains the first bytes of the version `state.etag`, or is
                overwritten.
            state: State of the download; updated during the download, also if it fails.
            cancel: Event that stops the download.

        Returns:
            False if the archive does not have the file.

        Raises:
            CaptureError: The download failed; `sink` contains the first bytes of the version `state.etag`.
        """
        start = time.monotonic()
        try:
            with self._slots:
                return retry_transient(
                    self._http.settings, lambda: self._attempt(file, sink, state, cancel), cancel
                )
        finally:
            state.seconds = time.monotonic() - start

    def _attempt(
        self, file: PublishedFile, sink: BinaryIO, state: Download, cancel: threading.Event | None
    ) -> bool:
        present_bytes = sink.seek(0, 2) if state.etag else 0
        headers = (
            {**_IDENTITY, "Range": f"bytes={present_bytes}-", "If-Range": state.etag}
            if present_bytes and state.etag
            else dict(_IDENTITY)
        )
        state.attempts += 1
        limit = self._http.settings.max_zip_mb * _MB
        with self._http.stream(self.url(file), headers=headers) as (answer, chunks):
            if answer.status == 404:  # noqa: PLR2004
                return False
            etag = answer.headers.get("ETag")
            is_same = answer.status == 206 and etag == state.etag  # noqa: PLR2004
            total = _parse_total_size(answer.headers, present_bytes) if is_same else None
            if answer.status != 200 and total is None:  # noqa: PLR2004
                # The answer has another version or another range, or no bytes are left. The next attempt
                # requests the whole file.
                state.etag = None
                sink.truncate(0)
                state.on_version(None)
                raise NetworkError("did not send the requested rest of the file", where=self.url(file))
            if total is None:
                sink.seek(0)
                sink.truncate(0)
                state.on_version(etag)
                length = answer.headers.get("Content-Length", "")
                total = parse_count(length)
            else:
                state.resumed += 1
            state.etag, state.last_modified = etag, answer.headers.get("Last-Modified")
            for chunk in chunks:
                sink.write(chunk)
                if sink.tell() > limit:
                    raise ProtocolViolationError(
                        f"is larger than {limit:,} bytes",
                        where=self.url(file),
                        remedy="raise http.max_zip_mb",
                    )
                raise_if_cancelled(cancel, self.url(file))
            sink.flush()
            if total is not None and sink.tell() != total:
                raise NetworkError(f"ended after {sink.tell():,} of {total:,} bytes", where=self.url(file))
        return True


def _parse_total_size(headers: object, have: int) -> int | None:
    """Return the total size of a file, if the answer with status 206 starts exactly at `have`."""
    value = getattr(headers, "get", dict[str, str]().get)("Content-Range", "")
    found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", value or "")
    return int(found[3]) if found and int(found[1]) == have else None
