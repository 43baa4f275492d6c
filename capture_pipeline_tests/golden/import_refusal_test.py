"""Tests of files that `import` rejects: one line with the kind of file and a remedy, and no remains."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from capture_pipeline.cli.session.imports import import_command

T = 1_741_000_000
MESSAGE = '{"stream":"adausdt@trade","data":{"e":"trade","t":1,"M":true}}'


def zipped(**entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"origin_time": [1], "received_time": [2], "price": [0.5]}).write_parquet(out)
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, data=np.zeros(4))
    return out.getvalue()


KINDS = {
    "a zip archive": (zipped(a=b"x"), "a zip archive", "unpack it"),
    "converted data of hftbacktest": (
        npz(),
        r"hftbacktest's converted data \(npz\)",
        "import the capture that it was converted from",
    ),
    "Parquet of Crypto Lake": (parquet(), "a Parquet file", "capture session replay"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image", "import raw captures"),
    "a document": (b"%PDF-1.7\n", "a PDF document", "import raw captures"),
    "Zstandard": (b"\x28\xb5\x2f\xfd" + bytes(9), "packed with Zstandard", "unpack it"),
    "xz": (lzma.compress(b"x"), "packed with xz", "unpack it"),
    "bzip2": (bz2.compress(b"x"), "packed with bzip2", "unpack it"),
    "a pickle": (b"\x80\x04\x95", "a Python pickle", "import the capture from which it was created"),
    "a packet capture": (b"\x4d\x3c\xb2\xa1" + bytes(20), "a packet capture", "raw data collection"),
    "an empty file": (b"", "the file is empty", "name the recording's files"),
    "a gzip of nothing": (gzip.compress(b""), "there is no message to import", "name the recording's files"),
    "zeros": (bytes(5000), "zero-filled tail", "name the recording's files"),
    "a JSON array": (b'[{"price":1}]', "a JSON array", "import raw captures"),
    "an answer with klines": (
        b'[[1741000000000,"1","2"]]',
        "an answer of REST with klines",
        "capture klines backfill",
    ),
    "JSON of Binance-Data-Processor": (
        b'[{"stream":"adausdt@trade","data":{"e":"trade"},"_E":1741000000000}]',
        "JSON of Binance-Data-Processor",
        "convert it to CSV files",
    ),
    "text": (b"Dear sir,\nhow are you\n", "text that begins with 'Dear sir,'", "import raw captures"),
    "a page": (b"<!DOCTYPE html>\n<html>", "a page of HTML", "download the file again"),
    "klines with a header": (
        b"open_time,open,high,low\n1,2,3,4\n",
        "klines of the public archive",
        "capture klines backfill",
    ),
    "klines without one": (
        b"1741000000000,1.0,2.0,0.5,1.5,10,1741000059999,15,3,5,7,0\n",
        "klines of the public archive",
        "capture klines backfill",
    ),
    "published trades": (
        b"1,0.5,2,1,1741000000000,True,True\n",
        "trades of the public archive",
        "capture session prove",
    ),
    "Tardis": (
        b"exchange,symbol,timestamp,local_timestamp,is_snapshot\n",
        "a CSV of Tardis",
        "incremental_book_L2",
    ),
    "another CSV": (
        b"day,price,volume\n1,2,3\n",
        "a CSV that begins with 'day,price,volume'",
        "import raw captures",
    ),
    "cryptofeed of Coinbase": (
        f'wss://ws-feed.exchange.coinbase.com <-> {T}.0\n{T}.1: {{"type":"l2update"}}\n'.encode(),
        "a recording of cryptofeed of ws-feed.exchange.coinbase.com",
        "import recordings of Binance",
    ),
    "hftbacktest of Bybit": (
        f'{T}000000000 {{"topic":"publicTrade.ADAUSDT"}}\n'.encode(),
        "collector of Bybit",
        "import recordings of Binance",
    ),
    "hftbacktest of Hyperliquid": (
        f'{T}000000000 {{"channel":"l2Book"}}\n'.encode(),
        "collector of Hyperliquid",
        "import recordings of Binance",
    ),
    "messages without times": (
        f"{MESSAGE}\n".encode(),
        "messages without capture times",
        "record each message with its time",
    ),
    "cryptofeed of 2026": (
        b'{"t":"header","format":2}\n',
        "a capture of cryptofeed since 2026",
        "raw data collection",
    ),
    "bytes": (b"\x01\x02\x00\x03" * 40, "binary data of an unknown kind", "import raw captures"),
}
ORIGINS = ("hftbacktest", "cryptofeed", "binance-data-processor", "capture")


def refused(folder: Path, origin: str, path: Path) -> str:
    result = CliRunner().invoke(import_command, ["--format", origin, "--out", str(folder / "out"), str(path)])
    assert result.exit_code == 2, result.output
    assert not (folder / "out").exists()
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert path.name in lines[0]
    return lines[0]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_says_what_the_file_is(tmp_path: Path, origin: str, kind: str) -> None:
    """For every `--format`, the error is one line with the file, its kind and the remedy."""
    content, what, remedy = KINDS[kind]
    path = tmp_path / "given.dat"
    path.write_bytes(content)
    said = refused(tmp_path, origin, path)
    assert what.replace("\\", "") in said
    assert remedy in said


@pytest.mark.parametrize("kind", ["text", "Tardis", "klines with a header", "a picture", "bytes"])
def test_it_is_told_through_gzip(tmp_path: Path, kind: str) -> None:
    """Compressed text and compressed binary data are recognised too."""
    content, what, _ = KINDS[kind]
    (tmp_path / "given.csv.gz").write_bytes(gzip.compress(content))
    said = refused(tmp_path, "hftbacktest", tmp_path / "given.csv.gz")
    assert f"{what}, packed with gzip" in said


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (f"{T}000000000 {MESSAGE}\n", "hftbacktest"),
        (f"wss://stream.binance.com/stream <-> {T}.0\n{T}.1: {MESSAGE}\n", "cryptofeed"),
        (f"{T}.1: {MESSAGE}\n", "cryptofeed"),
        ('{"capture_ns":1,"stream":"adausdt@trade","data":{}}\n', "capture"),
        ("####\nTimestampOfReceive,Stream,EventType\n", "binance-data-processor"),
    ],
)
def test_another_tool_s_recording_is_named_with_the_right_option(
    tmp_path: Path, text: str, fits: str
) -> None:
    """The error names the right option for every wrong one."""
    (tmp_path / "given").write_text(text)
    for origin in set(ORIGINS) - {fits}:
        assert f"import it with --format {fits}" in refused(tmp_path, origin, tmp_path / "given")


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    """A folder and a missing file are errors that name the path."""
    (tmp_path / "given").mkdir()
    assert "given: is a folder (name the files in it)" in refused(tmp_path, "cryptofeed", tmp_path / "given")
    result = CliRunner().invoke(
        import_command, ["--format", "capture", "--out", str(tmp_path / "out"), str(tmp_path / "none")]
    )
    assert (result.exit_code, "does not exist" in result.stderr) == (2, True)
