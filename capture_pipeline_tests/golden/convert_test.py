"""Tests of the conversion: complete files or none, equal bytes in each run, one line for each error."""

from __future__ import annotations

import errno
import gzip
import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from capture_pipeline.errors import LakeError, MalformedDataError, StorageError
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.golden.validation.book_replay import replay_books as replayed
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline.tables.golden.columns import decimal_text
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline.tables.registry import SESSION_TABLES
from capture_pipeline_tests.support.sessions.lines import altered

SESSION = "20260803T143000Z_btcusdt"
HOUR_NS = 3_600_000_000_000
START_NS = 1_785_760_200_000_000_000 // HOUR_NS * HOUR_NS


def trade(stamp: int, number: int, symbol: str = "BTC", price: str = "64175.83000000") -> bytes:
    return (
        f'{{"capture_ns":{stamp},"stream":"{symbol.lower()}usdt@trade","data":'
        f'{{"e":"trade","E":{stamp // 10**6},"s":"{symbol}USDT",'
        f'"t":{number},"p":"{price}","q":"0.00100","T":{stamp // 10**6},"m":false,"M":true}}}}\n'
    ).encode()


def diff(stamp: int, number: int, symbol: str = "BTC", bids: str = '["1.5","2"]') -> bytes:
    return (
        f'{{"capture_ns":{stamp},"stream":"{symbol.lower()}usdt@depth@100ms","data":'
        f'{{"e":"depthUpdate","E":{stamp // 10**6},'
        f'"s":"{symbol}USDT","U":{number},"u":{number},"b":[{bids}],"a":[]}}}}\n'
    ).encode()


def some_lines(count: int = 400, step: int = HOUR_NS // 150) -> list[bytes]:
    """Build lines of two symbols over three hours; every ninth diff has no level."""
    found = []
    for number in range(count):
        stamp, symbol = START_NS + number * step, ("BTC", "ETH")[number % 2]
        found.append(
            diff(stamp, number, symbol, "" if number % 9 == 0 else '["1.5","2"],["1.25","0"]')
            if number % 3 == 0
            else trade(stamp, number, symbol)
        )
    return found


def recording(folder: Path, lines: list[bytes], name: str = "made.jsonl.gz") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(
        b"".join(gzip.compress(b"".join(lines[at : at + 50]), mtime=0) for at in range(0, len(lines), 50))
    )
    return path


def files_below(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_symbols_and_hours_are_apart_and_every_message_is_there(tmp_path: Path) -> None:
    """Each symbol has a file per hour, with rows in the order of the recording.

    A diff without levels keeps its ids.
    """
    lines = some_lines()
    manifest = convert(recording(tmp_path, lines), SESSION, tmp_path / "lake", block_bytes=5000)
    tables = GoldenTables(tmp_path / "lake", SESSION)
    assert tables.symbols() == ["BTCUSDT", "ETHUSDT"]
    assert len(manifest.files) == 2 * 2 * 3
    found: set[int] = set()
    for table in (TRADES, DEPTH):
        for symbol in tables.symbols():
            rows = tables.scan(table, symbol).collect()
            assert rows["line"].is_sorted()
            assert rows["capture_ns"].is_sorted()
            found |= set(rows["line"])
    assert found == set(range(1, len(lines) + 1))
    empty = tables.scan(DEPTH, "BTCUSDT").collect().filter(side=-1)
    assert empty["first_id"].to_list() == [number for number in range(400) if number % 18 == 0]
    assert tables.scan(SNAPSHOTS, "BTCUSDT").collect().is_empty()
    assert manifest.recording_sha256 == hashlib.sha256((tmp_path / "made.jsonl.gz").read_bytes()).hexdigest()


def test_prices_come_back_as_sent(tmp_path: Path) -> None:
    """The cases have two, five, eight or no decimals, and include the ends of the range."""
    prices = ["64175.83", "0.00000001", "92233720368.54775807", "7", "100000000.5", "1.00000000", "12.340"]
    convert(
        recording(tmp_path, [trade(START_NS, n, price=price) for n, price in enumerate(prices)]),
        SESSION,
        tmp_path / "lake",
    )
    rows = GoldenTables(tmp_path / "lake", SESSION).scan(TRADES, "BTCUSDT").collect()
    assert [
        decimal_text(value, places) for value, places in rows.select("price_e8", "price_places").iter_rows()
    ] == prices


def test_a_second_run_gives_the_same_bytes_and_removes_what_is_stale(tmp_path: Path) -> None:
    """Files of hours that the recording no longer has are removed. Other sessions are not changed."""
    path = recording(tmp_path, some_lines())
    convert(path, SESSION, tmp_path / "lake", block_bytes=5000)
    convert(path, "20260803T143000Z_other", tmp_path / "lake", block_bytes=5000)
    before = files_below(tmp_path / "lake")
    convert(path, SESSION, tmp_path / "lake", block_bytes=5000)
    assert files_below(tmp_path / "lake") == before
    shorter = convert(recording(tmp_path, some_lines(100)), SESSION, tmp_path / "lake", block_bytes=5000)
    after = files_below(tmp_path / "lake")
    assert {name for name in after if SESSION in name and name.endswith("parquet")} == {
        file.path for file in shorter.files
    }
    assert sum("other" in name for name in after) == sum("other" in name for name in before)


def torn(content: bytes) -> bytes:
    return content[:-30]


def flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [torn, flipped])
def test_a_damaged_gzip_is_told_in_one_line_and_nothing_counts(tmp_path: Path, damage: object) -> None:
    """Damaged input raises an error with the file's name and leaves no manifest and no partial file."""
    path = recording(tmp_path, some_lines())
    convert(path, SESSION, tmp_path / "lake", block_bytes=5000)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(MalformedDataError, match=r"made\.jsonl\.gz") as raised:
        convert(path, SESSION, tmp_path / "lake", block_bytes=5000)
    assert "\n" not in str(raised.value)
    with pytest.raises(LakeError, match="convert its recording first"):
        GoldenTables(tmp_path / "lake", SESSION).manifest()
    assert list((tmp_path / "lake").rglob("*.tmp")) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b"{}\n"], "line 321"),
        ([b"\n"], "line 321"),
        ([trade(START_NS + 4 * HOUR_NS, 1)[:50]], "line 321"),
        ([trade(START_NS + 4 * HOUR_NS, 1, price="1e5")], "line 321: '1e5' is not a plain number"),
        ([trade(START_NS, 1)], "line 321 was captured in 2026-08-03T12, after lines of 2026-08-03T14"),
        (
            [trade(START_NS + 4 * HOUR_NS, 1)[:-2] + b"x" * 7000 + b"\n"],
            "line 321 is longer than 5,000 bytes",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[bytes], said: str) -> None:
    """The error contains the file, the line and the remedy."""
    with pytest.raises(MalformedDataError, match=said) as raised:
        convert(recording(tmp_path, some_lines(320) + lines), SESSION, tmp_path / "lake", block_bytes=5000)
    assert "made.jsonl.gz" in str(raised.value)
    assert raised.value.remedy


def test_a_last_line_without_its_line_feed_is_a_line(tmp_path: Path) -> None:
    """Only a last line that is cut off inside is lost."""
    lines = some_lines(10)
    assert convert(recording(tmp_path, [*lines[:-1], lines[-1][:-1]]), SESSION, tmp_path / "lake").lines == 10


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), b"no gzip at all"])
def test_files_without_lines(tmp_path: Path, content: bytes) -> None:
    """An empty recording, or one that is not a gzip file, raises an error with the name of the file."""
    (tmp_path / "made.jsonl.gz").write_bytes(content)
    with pytest.raises(MalformedDataError, match=r"made\.jsonl\.gz"):
        convert(tmp_path / "made.jsonl.gz", SESSION, tmp_path / "lake")


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    """A missing recording raises an error of the project."""
    with pytest.raises(LakeError, match="does not exist"):
        convert(tmp_path / "made.jsonl.gz", SESSION, tmp_path / "lake")


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    """If a file is in the place of the folder, a `StorageError` is raised."""
    (tmp_path / "lake").write_text("in the way")
    with pytest.raises(StorageError):
        convert(recording(tmp_path, some_lines(10)), SESSION, tmp_path / "lake")


def test_a_disk_that_fills_up_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a file cannot be renamed, neither a manifest nor a temporary file remains."""
    done: list[Path] = []
    rename = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if len(done) == 2:
            raise OSError(errno.ENOSPC, "full")
        done.append(target)
        return rename(self, target)

    path = recording(tmp_path, some_lines())
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError):
        convert(path, SESSION, tmp_path / "lake")
    assert list((tmp_path / "lake").rglob("*.tmp")) == []
    assert not GoldenTables(tmp_path / "lake", SESSION).manifest_path.exists()


def test_the_manifest_has_the_digests_and_a_lost_file_is_seen(tmp_path: Path) -> None:
    """A missing file of a table is an error that names the file."""
    manifest = convert(recording(tmp_path, some_lines()), SESSION, tmp_path / "lake")
    tables = GoldenTables(tmp_path / "lake", SESSION)
    assert not altered(tables)
    (tmp_path / "lake" / manifest.files[0].path).unlink()
    with pytest.raises(LakeError, match="is in the manifest but is missing"):
        tables.paths(
            next(table for table in SESSION_TABLES if table.name == manifest.files[0].table),
            manifest.files[0].symbol,
        )


def test_the_order_type_of_futures_trades_is_kept(tmp_path: Path) -> None:
    """The order type is null for trades without one, and for tables without the column."""
    kinds = ["MARKET", "NA", None, "INSURANCE_FUND"]
    lines = [
        trade(START_NS, number)
        if kind is None
        else trade(START_NS, number).replace(b'"m"', b'"X":"%b","m"' % kind.encode())
        for number, kind in enumerate(kinds)
    ]
    convert(recording(tmp_path, lines), SESSION, tmp_path / "lake")
    tables = GoldenTables(tmp_path / "lake", SESSION)
    assert tables.scan(TRADES, "BTCUSDT").collect()["order_type"].to_list() == kinds
    (path,) = tables.paths(TRADES, "BTCUSDT")
    pq.write_table(pq.read_table(path).drop_columns("order_type"), path)
    found = tables.scan(TRADES, "BTCUSDT").collect()
    assert found.columns == list(TRADES.schema)
    assert found["order_type"].to_list() == [None] * 4


def test_levels_of_before_2019_are_converted_and_replayed(tmp_path: Path) -> None:
    """An empty third element of a level changes neither the tables nor the book."""
    book = (
        b'{"capture_ns":%d,"stream":"btcusdt@depthSnapshot","data":{"lastUpdateId":9,'
        b'"bids":[["1.5","1"]],"asks":[["3","1"]]}}\n'
    ) % START_NS
    plain = [book, *(diff(START_NS + number, number) for number in range(10, 20))]
    old = [line.replace(b'"]', b'",[]]') for line in plain]
    found = []
    for name, lines in (("plain", plain), ("old", old)):
        path = recording(tmp_path / name, lines)
        convert(path, SESSION, tmp_path / name / "lake")
        tables = GoldenTables(tmp_path / name / "lake", SESSION)
        replay = Replay()
        for messages in RawSource(path, block_bytes=1 << 12):
            replay.process(messages)
        validated = replayed(path, scan(path)).books["BTCUSDT"]
        rows = [tables.scan(table, "BTCUSDT").collect().to_dicts() for table in (DEPTH, SNAPSHOTS)]
        found.append((rows, replay.best(), validated.diffs, validated.valid, validated.sync.book.best()))
    assert found[0] == found[1]
    assert found[0][1] is not None
