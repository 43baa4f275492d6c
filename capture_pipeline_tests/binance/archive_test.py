"""Protocol of the archive: checksum files, evaluation of digests, listings, names and paths."""

from __future__ import annotations

from datetime import date

import pytest

from capture_pipeline.binance.archive.protocol import (
    NextStep,
    Trust,
    evaluate_digest,
    parse_checksum,
    parse_listing,
)
from capture_pipeline.binance.periods import Interval, Month, parse_time
from capture_pipeline.binance.urls import ArchiveFile, Market, parse_name, request_weight
from capture_pipeline.errors import MalformedDataError, ProtocolViolationError

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize("text", [f"{A}  x.zip\n", f"{A}  x.zip", f"{A.upper()}  x.zip\r\n", f"{A} *x.zip\n"])
def test_a_checksum_file_states_a_digest(text: str) -> None:
    """The final newline is optional (#43)."""
    assert parse_checksum(text, "x.zip") == A


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x.zip",
        f"{A}  y.zip\n",
        f"{A[:-1]}  x.zip\n",
        f"{A}  x.zip\n{B}  x.zip\n",
        "<html></html>",
        "z" * 64 + "  x.zip",
    ],
)
def test_anything_else_is_no_checksum(text: str) -> None:
    """A text of another form, or about another file, is an error."""
    with pytest.raises(MalformedDataError):
        parse_checksum(text, "x.zip")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (f"\ufeff{A}  x.zip\n", "begins with a byte order mark"),
        (f"\ufffd\ufffd{A}  x.zip\n", "is not UTF-8"),
        (f"{A}  ./x.zip\n", "names the file with a path"),
        (f"{A}  /data/spot/x.zip\n", "names the file with a path"),
        (f"{A}  y.zip\n", "names another file"),
        (f"{A}  x.zip\n{A}  x.zip\n", "has several lines"),
        (f"{A}  x.zip\n{B}  y.zip", "has several lines"),
        (f"{A}\n", "contains a digest without a file name"),
        (f"SHA256 (x.zip) = {A}\n", "is in the BSD form"),
        (f"SHA256(x.zip)= {A}", "is in the BSD form"),
        (f"{'a' * 32}  x.zip\n", "contains a digest that is not of SHA-256"),
        ("<!DOCTYPE html>\n<html></html>", "is a page of HTML or XML"),
        ("nothing here", "is in an unknown form"),
        ("x" * 2000, "is longer than 1000 characters"),
        (f"{A}  x.zip{' ' * 1000}", "is longer than 1000 characters"),
    ],
)
def test_a_checksum_file_that_cannot_be_read_says_its_form(text: str, form: str) -> None:
    """The error contains the form, the escaped first characters and the file's name."""
    with pytest.raises(MalformedDataError) as caught:
        parse_checksum(text, "x.zip")
    assert str(caught.value).startswith(f"x.zip.CHECKSUM: {form}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("own", "published", "pinned", "fresh", "verdict"),
    [
        (A, A, None, False, (Trust.OK, NextStep.ACCEPT)),
        (A, B, None, False, (Trust.MISMATCH, NextStep.FETCH_AFRESH)),
        (A, B, None, True, (Trust.MISMATCH, NextStep.QUARANTINE)),
        (A, A, None, True, (Trust.OK, NextStep.ACCEPT)),
        (A, None, None, False, (Trust.CHECKSUM_MISSING, NextStep.ACCEPT)),
        (A, B, A, False, (Trust.PINNED, NextStep.ACCEPT)),
        (A, None, A, False, (Trust.PINNED, NextStep.ACCEPT)),
        (A, A, B, False, (Trust.MISMATCH, NextStep.FETCH_AFRESH)),
        (A, A, B, True, (Trust.MISMATCH, NextStep.QUARANTINE)),
    ],
)
def test_what_a_digest_proves(
    own: str, published: str | None, pinned: str | None, fresh: bool, verdict: tuple[Trust, NextStep]
) -> None:
    """All combinations of own, published and pinned digest."""
    assert evaluate_digest(own, published, pinned, fresh=fresh) == verdict


LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name><Prefix>p/</Prefix><Marker></Marker>
<MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>{truncated}</IsTruncated>{marker}
<Contents><Key>p/a.zip</Key><LastModified>2024-02-01T05:00:00.000Z</LastModified><ETag>&quot;e1&quot;</ETag><Size>12</Size></Contents>
<CommonPrefixes><Prefix>p/b/</Prefix></CommonPrefixes></ListBucketResult>"""


def test_a_listing_names_files_folders_and_where_it_goes_on() -> None:
    """S3 sends `NextMarker` only for some listings."""
    last = parse_listing(LISTING.format(truncated="false", marker="").encode())
    assert (last.files[0].key, last.files[0].size, last.files[0].etag) == ("p/a.zip", 12, "e1")
    assert last.files[0].modified_us == parse_time("2024-02-01T05:00:00Z")
    assert (last.folders, last.next_marker) == (["p/b/"], None)
    assert (
        parse_listing(
            LISTING.format(truncated="true", marker="<NextMarker>p/q</NextMarker>").encode()
        ).next_marker
        == "p/q"
    )
    assert parse_listing(LISTING.format(truncated="true", marker="").encode()).next_marker == "p/b/"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a/>',
        b"<!DOCTYPE ListBucketResult>"
        + LISTING.format(truncated="false", marker="").partition("?>")[2].encode(),
    ],
)
def test_anything_else_is_no_listing(body: bytes) -> None:
    """For instance a page of a proxy, an entry without size, or a document type."""
    with pytest.raises(ProtocolViolationError):
        parse_listing(body)


def test_paths_are_the_archives_own() -> None:
    """Paths of spot and futures, monthly and daily files."""
    monthly = ArchiveFile(Market.SPOT, "BTCUSDT", Interval.M1, Month(2024, 12))
    daily = ArchiveFile(Market.UM, "BTCUSDT", Interval.M1, date(2024, 12, 31))
    assert monthly.path == "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-12.zip"
    assert daily.path == "data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-12-31.zip"
    assert parse_name(monthly.name, Market.SPOT) == monthly
    assert parse_name(daily.name, Market.UM) == daily


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "BTCUSDT-1m-2024-13.zip",
        "BTCUSDT-1m-2024-02-30.zip",
        "BTCUSDT-7m-2024-02.zip",
        "BTCUSDT-1m-2024-02.csv",
    ],
)
def test_other_names_stand_for_no_file(name: str) -> None:
    """For instance a date that does not exist, or an unsupported interval."""
    assert parse_name(name, Market.SPOT) is None


def test_weights_are_the_documented_ones() -> None:
    """Spot klines cost 2; the weight of futures klines depends on `limit`."""
    assert request_weight(Market.SPOT, "klines", 1000) == 2
    assert [request_weight(Market.UM, "klines", limit) for limit in (99, 100, 499, 500, 1000, 1500)] == [
        1,
        2,
        2,
        5,
        5,
        10,
    ]
