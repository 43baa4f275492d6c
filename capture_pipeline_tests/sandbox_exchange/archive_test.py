"""Tests of the archive over HTTP: files, checksums, ranges, errors, listings and revisions."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
import requests

from capture_pipeline.binance.archive.protocol import ListingPage, parse_checksum, parse_listing
from capture_pipeline.errors import MalformedDataError
from sandbox_exchange.server.server import SandboxConfig, SandboxServer

FOLDER = "/data/spot/monthly/klines/BTCUSDT/1h/"
FILE = FOLDER + "BTCUSDT-1h-2024-03.zip"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2025-03-10T12:00:00Z", "frozen": True})
    ) as server:
        yield server.url


def page(url: str, **params: str | int) -> ListingPage:
    return parse_listing(requests.get(url + "/", params=params, timeout=30).content)


def test_file_has_the_buckets_headers_and_its_checksum(url: str) -> None:
    """A file has ETag, Last-Modified, Accept-Ranges and length; its checksum file is correct."""
    answer = requests.get(url + FILE, timeout=30)
    assert answer.headers["ETag"] == f'"{hashlib.md5(answer.content, usedforsecurity=False).hexdigest()}"'
    assert answer.headers["Last-Modified"] == "Tue, 02 Apr 2024 12:00:00 GMT"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    text = requests.get(url + FILE + ".CHECKSUM", timeout=30).text
    assert text.endswith("  BTCUSDT-1h-2024-03.zip\n")
    assert parse_checksum(text, "BTCUSDT-1h-2024-03.zip") == hashlib.sha256(answer.content).hexdigest()
    head = requests.head(url + FILE, timeout=30)
    assert (head.headers["ETag"], head.headers["Content-Length"], head.content) == (
        answer.headers["ETag"],
        str(len(answer.content)),
        b"",
    )


@pytest.mark.parametrize(
    ("fault", "form"),
    [
        ("checksum_bom", "begins with a byte order mark"),
        ("checksum_path", "names the file with a path"),
        ("checksum_two_lines", "has several lines"),
        ("checksum_digest_alone", "contains a digest without a file name"),
        ("checksum_bsd", "is in the BSD form"),
    ],
)
def test_a_checksum_file_comes_in_other_forms(fault: str, form: str, url: str) -> None:
    """The digest is correct, and the form differs from that of the exchange."""
    digest = hashlib.sha256(requests.get(url + FILE, timeout=30).content).hexdigest()
    requests.put(
        f"{url}/_sandbox/faults", json=[{"match": {"path": FILE}, "fault": fault}], timeout=30
    ).raise_for_status()
    try:
        text = requests.get(url + FILE + ".CHECKSUM", timeout=30).content.decode()
    finally:
        requests.put(f"{url}/_sandbox/faults", json=[], timeout=30).raise_for_status()
    assert digest in text
    with pytest.raises(MalformedDataError, match=form):
        parse_checksum(text, FILE.rpartition("/")[2])


@pytest.mark.parametrize(
    ("byte_range", "part", "content_range"),
    [
        ("bytes=100-199", slice(100, 200), "bytes 100-199/{}"),
        ("bytes=100-", slice(100, None), "bytes 100-{last}/{}"),
        ("bytes=-50", slice(-50, None), None),
        ("bytes=0-99999999", slice(0, None), None),
    ],
)
def test_range_is_answered_with_206(
    url: str, byte_range: str, part: slice, content_range: str | None
) -> None:
    """A range request returns 206, the requested bytes and Content-Range."""
    whole = requests.get(url + FILE, timeout=30).content
    answer = requests.get(url + FILE, headers={"Range": byte_range}, timeout=30)
    assert (answer.status_code, answer.content) == (206, whole[part])
    if content_range:
        assert answer.headers["Content-Range"] == content_range.format(len(whole), last=len(whole) - 1)


def test_if_range_of_another_version_gives_the_whole_file(url: str) -> None:
    """If-Range with the current ETag returns 206, with another ETag 200 and the whole file."""
    whole = requests.get(url + FILE, timeout=30)
    same = requests.get(
        url + FILE, headers={"Range": "bytes=10-", "If-Range": whole.headers["ETag"]}, timeout=30
    )
    other = requests.get(url + FILE, headers={"Range": "bytes=10-", "If-Range": '"other"'}, timeout=30)
    assert (same.status_code, other.status_code) == (206, 200)
    assert other.content == whole.content


def test_range_past_the_end_is_refused(url: str) -> None:
    """A range that begins after the end of the file returns 416 with the length."""
    size = len(requests.get(url + FILE, timeout=30).content)
    answer = requests.get(url + FILE, headers={"Range": f"bytes={size}-"}, timeout=30)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize(
    "path",
    [
        FOLDER + "BTCUSDT-1h-2025-03.zip",
        FOLDER + "BTCUSDT-1h-2023-12.zip",
        FOLDER + "BTCUSDT-1h-2024-13.zip",
        FOLDER + "ETHUSDT-1h-2024-03.zip",
        FOLDER + "BTCUSDT-1h-2025-03.zip.CHECKSUM",
        "/data/spot/monthly/klines/NOPEUSDT/1h/NOPEUSDT-1h-2024-03.zip",
        "/data/futures/um/monthly/klines/BTCUSDT/1s/BTCUSDT-1s-2024-03.zip",
        "/data/whatever",
    ],
)
def test_missing_file_is_the_buckets_404(url: str, path: str) -> None:
    """A missing or unpublished file returns 404 with NoSuchKey."""
    answer = requests.get(url + path, timeout=30)
    assert answer.status_code == 404
    assert ET.fromstring(answer.content).findtext("Code") == "NoSuchKey"


def test_listing_states_the_served_sizes_and_etags(url: str) -> None:
    """A listing contains the keys of a folder in order, with checksum files, sizes and ETags."""
    listed = page(url, prefix=FOLDER[1:], delimiter="/")
    assert [file.key for file in listed.files] == sorted(file.key for file in listed.files)
    assert len(listed.files) == 14 * 2
    assert listed.next_marker is None
    for file in listed.files[4:6]:
        answer = requests.get(f"{url}/{file.key}", timeout=30)
        assert (len(answer.content), answer.headers["ETag"].strip('"')) == (file.size, file.etag)


def test_listing_pages_give_every_key_once(url: str) -> None:
    """Pages joined by NextMarker are equal to the whole listing."""
    whole = [file.key for file in page(url, prefix=FOLDER[1:], delimiter="/").files]
    keys, marker = [], ""
    while True:
        part = page(url, prefix=FOLDER[1:], delimiter="/", marker=marker, **{"max-keys": 5})
        assert len(part.files) <= 5
        keys += [file.key for file in part.files]
        if part.next_marker is None:
            break
        marker = part.next_marker
    assert keys == whole


@pytest.mark.parametrize(
    ("prefix", "folders"),
    [
        ("", ["data/"]),
        ("data/", ["data/futures/", "data/spot/"]),
        ("data/spot/", ["data/spot/daily/", "data/spot/monthly/"]),
        ("data/spot/daily/klines/B", ["data/spot/daily/klines/BNBUSDT/", "data/spot/daily/klines/BTCUSDT/"]),
        ("data/spot/daily/klines/BTCUSDT/12", ["data/spot/daily/klines/BTCUSDT/12h/"]),
        ("data/spot/daily/klines/NOPE/", []),
    ],
)
def test_listing_shows_folders(url: str, prefix: str, folders: list[str]) -> None:
    """With a delimiter, the listing contains folders; a prefix may end inside a name."""
    assert page(url, prefix=prefix, delimiter="/").folders == folders


def test_listing_without_delimiter_goes_deep(url: str) -> None:
    """Without a delimiter, the listing contains the keys of all subfolders in order."""
    keys = [
        file.key
        for file in page(
            url,
            prefix="data/spot/monthly/klines/DOTUSDT/1",
            marker="data/spot/monthly/klines/DOTUSDT/12h",
            **{"max-keys": 4},
        ).files
    ]
    assert keys[0] == "data/spot/monthly/klines/DOTUSDT/12h/DOTUSDT-12h-2024-01.zip"
    assert len(keys) == 4


def test_files_appear_at_their_publication_time() -> None:
    """Daily files appear 5 hours after the day, monthly files 36 hours after the month."""
    daily = "/data/spot/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2024-05-31.zip"
    monthly = "/data/spot/monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2024-05.zip"
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2024-06-01T04:59:59Z", "frozen": True})
    ) as server:

        def statuses(now: str) -> tuple[int, int]:
            requests.post(f"{server.url}/_sandbox/clock", json={"now": now}, timeout=30)
            return tuple(
                requests.head(server.url + path, timeout=30).status_code for path in (daily, monthly)
            )  # type: ignore[return-value]

        assert statuses("2024-06-01T04:59:59Z") == (404, 404)
        assert statuses("2024-06-01T05:00:00Z") == (200, 404)
        assert statuses("2024-06-02T12:00:00Z") == (200, 200)
        assert (
            requests.head(server.url + daily, timeout=30).headers["Last-Modified"]
            == "Sat, 01 Jun 2024 05:00:00 GMT"
        )


def test_republished_file_is_a_new_version() -> None:
    """A revision differs in one row; checksum, ETag, date and listing are those of the revision."""
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2024-06-10T00:00:00Z", "frozen": True})
    ) as server:
        before = requests.get(server.url + FILE, timeout=30)
        answer = requests.post(f"{server.url}/_sandbox/republish", json={"key": FILE}, timeout=30)
        after = requests.get(server.url + FILE, timeout=30)
        assert answer.json()["etag"] == after.headers["ETag"].strip('"') != before.headers["ETag"].strip('"')
        assert after.headers["Last-Modified"] == "Mon, 10 Jun 2024 00:00:00 GMT"
        assert (
            requests.get(f"{server.url}{FILE}.CHECKSUM", timeout=30).text.split()[0]
            == hashlib.sha256(after.content).hexdigest()
        )
        listed = {file.key: file.etag for file in page(server.url, prefix=FOLDER[1:], delimiter="/").files}
        assert listed[FILE[1:]] == answer.json()["etag"]
        missing = requests.post(
            f"{server.url}/_sandbox/republish", json={"key": "data/nothing.zip"}, timeout=30
        )
        assert missing.status_code == 404
