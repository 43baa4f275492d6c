"""Identification of files that cannot be imported, from their first bytes, with a remedy for the user."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.sessions.recordings.source import Source

_HEAD_BYTES = 4096
_LONGEST_SHOWN = 60
_UNPACK = "unpack it, then import the files inside"
_ONLY_RAW = (
    "import raw captures of hftbacktest or cryptofeed, CSV files of Binance-Data-Processor, "
    "or recordings of this product"
)
_REPLAY = (
    "use `capture session replay`, which reads Tardis' incremental_book_L2 and Crypto Lake's "
    "book_delta_v2 without an import"
)
_ARCHIVE = (
    "do not import files of the public archive: `capture klines backfill` downloads klines, "
    "`capture session prove` downloads trades"
)
_ONLY_BINANCE = "import recordings of Binance"


class Kind(NamedTuple):
    """Kind of a file.

    Attributes:
        what: Noun for messages.
        remedy: Advice for the user.
    """

    what: str
    remedy: str


def import_remedy(origin: str) -> str:
    """Return the remedy for a file that needs another `--format`."""
    return f"import it with --format {origin}"


_BINARY = (
    (b"PAR1", Kind("a Parquet file", _REPLAY)),
    (b"\x89PNG", Kind("a PNG image", _ONLY_RAW)),
    (b"\xff\xd8\xff", Kind("a JPEG image", _ONLY_RAW)),
    (b"%PDF", Kind("a PDF document", _ONLY_RAW)),
    (b"\x93NUMPY", Kind("a NumPy array", "import the capture from which it was created")),
    (b"\x80\x04", Kind("a Python pickle", "import the capture from which it was created")),
    (b"\x80\x05", Kind("a Python pickle", "import the capture from which it was created")),
    (b"\x28\xb5\x2f\xfd", Kind("packed with Zstandard", _UNPACK)),
    (b"\xfd7zXZ", Kind("packed with xz", _UNPACK)),
    (b"BZh", Kind("packed with bzip2", _UNPACK)),
    (b"7z\xbc\xaf", Kind("a 7z archive", _UNPACK)),
    (b"\x04\x22\x4d\x18", Kind("packed with LZ4", _UNPACK)),
    (b"\x89HDF", Kind("an HDF5 file", _ONLY_RAW)),
    (b"SQLite format 3", Kind("an SQLite database", _ONLY_RAW)),
    (
        b"\x4d\x3c\xb2\xa1",
        Kind(
            "a packet capture, as cryptofeed writes since 2026",
            "record with cryptofeed's raw data collection instead",
        ),
    ),
    (b"\xd4\xc3\xb2\xa1", Kind("a packet capture", _ONLY_RAW)),
    (b"\x0a\x0d\x0d\x0a", Kind("a packet capture", _ONLY_RAW)),
)
_FORMATS = (
    (
        rb'[0-9]{13,19} \{.*"topic":',
        Kind("a recording of hftbacktest's collector of Bybit", _ONLY_BINANCE),
    ),
    (
        rb'[0-9]{13,19} \{.*"channel":',
        Kind("a recording of hftbacktest's collector of Hyperliquid", _ONLY_BINANCE),
    ),
    (rb"[0-9]+ \{", Kind("a recording of hftbacktest", import_remedy("hftbacktest"))),
    (rb'\{"capture_ns":', Kind("a recording in this product's own form", import_remedy("capture"))),
    (
        rb"TimestampOfReceive,",
        Kind("a CSV of Binance-Data-Processor", import_remedy("binance-data-processor")),
    ),
    (
        rb'\{"t":"header"',
        Kind("a capture of cryptofeed since 2026", "record with cryptofeed's raw data collection instead"),
    ),
    (
        rb'\{"stream":',
        Kind("messages without capture times", "record each message with its time, as hftbacktest does"),
    ),
    (
        rb'\[\{"stream":.*"_E":',
        Kind("JSON of Binance-Data-Processor", "convert it to CSV files with the tool's scraper"),
    ),
    (rb"\[\[[0-9]{13}", Kind("an answer of REST with klines", _ARCHIVE)),
    (rb"\[", Kind("a JSON array", _ONLY_RAW)),
    (rb"\{", Kind("JSON of another form", _ONLY_RAW)),
    (rb"exchange,symbol,timestamp,", Kind("a CSV of Tardis", _REPLAY)),
    (rb"open_time,open,", Kind("klines of the public archive", _ARCHIVE)),
    (rb"[0-9]{13,16}(?:,[0-9.]+){11}", Kind("klines of the public archive", _ARCHIVE)),
    (rb"id,price,qty,", Kind("trades of the public archive", _ARCHIVE)),
    (rb"[0-9]+(?:,[0-9.]+){4},(?:[Tt]rue|[Ff]alse)", Kind("trades of the public archive", _ARCHIVE)),
    (rb"\s*<(?:!|\?|[a-zA-Z])", Kind("a page of HTML or XML", "download the file again")),
)
_CRYPTOFEED = re.compile(
    rb"(?:wss?|https?)://\S+ (?:<->|->|<-) |(?:wss?)://\S+$|configuration: |[0-9]{9,11}(?:\.[0-9]+)?: ",
    re.MULTILINE,
)
_ADDRESS = re.compile(rb"(?:wss?|https?)://([^/\s?:]+)")


def check_not_binary(path: Path) -> None:
    """Check that a file is text or gzip, by its first bytes.

    Raises:
        MalformedDataError: The path is a folder, the file is of another kind, or it cannot be read.
    """
    if path.is_dir():
        raise MalformedDataError("is a folder", where=str(path), remedy="name the files in it")
    head = _read(path)
    kind = _identify_bytes(head)
    if kind:
        raise MalformedDataError(
            f"is not a recording; it is {kind.what}", where=str(path), remedy=kind.remedy
        )


def identify_file(path: Path) -> Kind:
    """Identify the kind of a file."""
    head = _read(path)
    packed = head.startswith(b"\x1f\x8b")
    if packed:
        with Source.open(path) as source:
            head = next(iter(source), b"")[:_HEAD_BYTES]
    kind = _identify_bytes(head) or _identify_text(head)
    return Kind(f"{kind.what}, packed with gzip", kind.remedy) if packed else kind


def _identify_bytes(head: bytes) -> Kind | None:
    if head.startswith(b"PK\x03\x04"):
        is_numpy = b".npy" in head[:200]
        made_of = Kind("hftbacktest's converted data (npz)", "import the capture that it was converted from")
        return made_of if is_numpy else Kind("a zip archive", _UNPACK)
    return next((kind for magic, kind in _BINARY if head.startswith(magic)), None)


def _identify_text(head: bytes) -> Kind:
    if not head.strip():
        return Kind("empty", "name a file with content")
    if b"\0" in head:
        return Kind("binary data of an unknown kind", _ONLY_RAW)
    if _CRYPTOFEED.match(head):
        return _identify_cryptofeed(head)
    line = next(line for line in head.splitlines() if line.strip() and not line.startswith(b"#"))
    for pattern, kind in _FORMATS:
        if re.match(pattern, line):
            return kind
    names = line[:_LONGEST_SHOWN].decode("utf-8", "backslashreplace")
    if line.count(b",") > 1:
        return Kind(f"a CSV that begins with {names!r}", _ONLY_RAW)
    return Kind(f"text that begins with {names!r}", _ONLY_RAW)


def _identify_cryptofeed(head: bytes) -> Kind:
    hosts = [host.decode("utf-8", "backslashreplace") for host in _ADDRESS.findall(head)]
    others = [host for host in hosts if "binance" not in host.lower()]
    if others:
        return Kind(f"a recording of cryptofeed of {others[0]}", _ONLY_BINANCE)
    return Kind("a recording of cryptofeed", import_remedy("cryptofeed"))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise MalformedDataError(
            f"cannot be opened: {error.strerror}", where=str(path), remedy="name a recording"
        ) from None
