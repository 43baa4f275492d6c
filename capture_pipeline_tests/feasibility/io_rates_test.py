"""Disk benchmark: durable writes, complete reads, the project's layout, and the needed rate."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture_pipeline.binance.streams.columns import PADDING
from capture_pipeline.binance.streams.decoders import CompiledDecoder
from capture_pipeline.checks.feasibility import DISK
from capture_pipeline.checks.model import Verdict
from capture_pipeline.errors import ConfigError, LakeError, StorageError
from capture_pipeline.feasibility.disk_throughput import raw_disk
from capture_pipeline.feasibility.disk_throughput.benchmark import (
    LINES,
    MONTH_BYTES,
    NEEDED_RATE,
    IoBenchmark,
    measure,
)
from capture_pipeline.feasibility.disk_throughput.dataset import (
    LEVELS_A_MESSAGE,
    depth_batches,
    depth_lines,
    digest_of,
)
from capture_pipeline.feasibility.disk_throughput.parquet_layouts import (
    AROUND_PROJECT,
    CODECS,
    ENCODINGS,
    GRID,
    PROJECT,
    ROW_GROUPS,
    Layout,
    time_streaming,
)
from capture_pipeline.feasibility.disk_throughput.raw_disk import drop_pages, measure_medium
from capture_pipeline.feasibility.disk_throughput.recording_lines import time_lines
from capture_pipeline.feasibility.disk_throughput.report import MAIN_FIGURES, evidence_of, markdown
from capture_pipeline.feasibility.disk_throughput.timing import WriteResult, time_file
from capture_pipeline.golden.conversion import converter
from capture_pipeline.golden.conversion.arrow_rows import build_tables
from capture_pipeline.tables.golden.depth import DEPTH

MIB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder on a disk; its files are removed."""
    return tmp_path_factory.mktemp("medium")


@pytest.fixture(scope="module")
def found(folder: Path) -> IoBenchmark:
    """Run a small benchmark."""
    return measure(folder / "bench", (2_000, 5_000), 8 * MIB, repeats=2)


def table_of(rows: int, batch: int = 10_000, seed: int = 7) -> pa.Table:
    return pa.concat_tables(depth_batches(rows, batch, seed))


def test_rows_are_those_of_the_projects_table_and_the_same_for_a_seed() -> None:
    """Schema, sides, removals, ascending ids, and 25 levels for each diff."""
    table = table_of(5_000)
    assert table.schema.equals(DEPTH.arrow_schema)
    assert (
        digest_of([table]) == digest_of(depth_batches(5_000, 10_000)) != digest_of([table_of(5_000, seed=8)])
    )
    frame = table.to_pydict()
    assert len(set(frame["line"])) == 5_000 // LEVELS_A_MESSAGE
    assert set(frame["side"]) == {0, 1}
    bids = [price for price, side in zip(frame["price_e8"], frame["side"], strict=True) if side == 0]
    asks = [price for price, side in zip(frame["price_e8"], frame["side"], strict=True) if side == 1]
    assert 0 < min(bids) < sum(bids) / len(bids) < sum(asks) / len(asks)
    assert 0 < sum(quantity == 0 for quantity in frame["quantity_e8"]) < 5_000 / 2
    assert [batch.num_rows for batch in depth_batches(25, 10)] == [10, 10, 5]


def test_lines_are_those_of_a_recording_and_hold_the_same_levels() -> None:
    """The project's parser reads the lines without msgspec and returns the rows."""
    table = table_of(1_000)
    lines = depth_lines(table)
    assert len(lines.splitlines()) == 1_000 // LEVELS_A_MESSAGE
    assert json.loads(lines.splitlines()[0])["stream"] == "btcusdt@depth@100ms"
    decoder = CompiledDecoder("made")
    parsed = decoder.decode(lines + bytes(PADDING))
    assert parsed.lines == 40
    assert parsed.by_fallback <= 1  # a symbol is learned from its first line
    ((_, rows),) = build_tables(parsed.columns, decoder.symbols, 1)
    order = [(name, "ascending") for name in ("line", "side", "price_e8", "quantity_e8")]
    assert rows.select(table.column_names).sort_by(order).to_pydict() == table.sort_by(order).to_pydict()


def test_the_projects_layout_is_how_the_converter_writes() -> None:
    """The benchmark and the converter use the same options."""
    assert PROJECT.options == converter._options(DEPTH)


def test_every_combination_is_there_and_the_neighbours_differ_in_one_thing() -> None:
    """Combinations of codecs, row groups and encodings."""
    assert len(set(GRID)) == len(CODECS) * len(ROW_GROUPS) * len(ENCODINGS) == 75
    assert len(AROUND_PROJECT) == 1 + (len(CODECS) - 1) + (len(ROW_GROUPS) - 1) + (len(ENCODINGS) - 1)
    assert PROJECT in AROUND_PROJECT


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_has_the_layout_that_it_is_named_for(encoding: str, tmp_path: Path) -> None:
    """Codec, encodings and values are read from the file's own metadata."""
    layout, path, table = Layout("snappy", "64k", encoding), tmp_path / "one.parquet", table_of(1_000)
    pq.write_table(table, path, row_group_size=layout.rows, **layout.options)
    column = {
        pq.read_metadata(path).row_group(0).column(at).path_in_schema: pq.read_metadata(path)
        .row_group(0)
        .column(at)
        for at in range(11)
    }
    assert {each.compression for each in column.values()} == {"SNAPPY"}
    for name, how in ENCODINGS[encoding].items():
        assert (how or "RLE_DICTIONARY") in column[name].encodings, name
    assert pq.read_table(path).equals(table)


def test_streaming_writes_a_row_group_a_batch_and_fsyncs_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to generate the batches is not counted."""
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    timing = time_streaming(PROJECT, depth_batches(30_000, 10_000), tmp_path / "one.parquet")
    # Three batches, then the whole file, then once more before its pages are dropped.
    assert len(synced) == 3 + 2
    assert synced == sorted(synced)
    assert synced[0] > 0
    assert (timing.rows, timing.stored_bytes) == (30_000, synced[-1])
    assert timing.plain_bytes == 30_000 * 67
    assert not (tmp_path / "one.parquet").exists()


def test_time_to_make_batches_is_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the test moves only during generation and writing. Every batch is passed on."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    real = os.fsync

    def batches() -> Iterator[pa.Table]:
        for _ in range(3):
            now[0] += 5
            yield table_of(25)

    def fsync(descriptor: int) -> None:
        now[0] += 1
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    timing = time_streaming(PROJECT, batches(), tmp_path / "one.parquet")
    assert (timing.rows, timing.write_s) == (75, 3 + 1)


def test_rows_that_do_not_come_back_are_told(tmp_path: Path) -> None:
    """A partial read would give a wrong rate."""
    path = tmp_path / "one"

    def write() -> WriteResult:
        path.write_bytes(b"12")
        return WriteResult(2, 2)

    with pytest.raises(LakeError, match=r"1 of 2 rows were read"):
        time_file("what", "whole", path, write, lambda: 1)
    assert not path.exists()


def test_lines_are_members_that_any_gzip_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines are whole and repeated as often as requested."""
    path = tmp_path / "lines.jsonl.gz"
    inflated: list[bytes] = []

    def dropped(written: Path) -> float | None:
        inflated.append(gzip.decompress(written.read_bytes()))
        return drop_pages(written)

    monkeypatch.setattr("capture_pipeline.feasibility.disk_throughput.timing.drop_pages", dropped)
    lines = depth_lines(table_of(2_500))
    timing = time_lines(lines, 3, path)
    assert inflated == [lines * 3]
    assert (timing.rows, timing.plain_bytes) == (300, 3 * len(lines))
    assert timing.stored_bytes < timing.plain_bytes


def test_a_month_needs_85_kilobytes_a_second() -> None:
    """220 GB in 30 days."""
    assert MONTH_BYTES == 220e9
    assert pytest.approx(84_877, abs=1) == NEEDED_RATE


def test_everything_is_measured_and_the_folder_is_left_as_it_was(found: IoBenchmark, folder: Path) -> None:
    """All layouts at the smallest size, similar layouts at the others, both ways, and lines."""
    ways = {(each.way, each.rows): 0 for each in found.timings if each.what != LINES}
    for each in found.timings:
        if each.what != LINES:
            ways[each.way, each.rows] += 1
    near = len(AROUND_PROJECT) + 1
    assert ways == {
        ("whole", 2_000): len(GRID) + 1,
        ("whole", 5_000): near,
        ("streaming", 2_000): near,
        ("streaming", 5_000): near,
    }
    assert [each.rows for each in found.timings if each.what == LINES] == [80, 200]
    assert list(folder.iterdir()) == []


def test_the_criterion_is_the_slowest_attempt_against_the_month(found: IoBenchmark) -> None:
    """The rate is of stored bytes, the slower one of writing and reading."""
    rates = [rate for each in found.sustained for rate in (each.write_rate, each.read_rate)]
    assert len(rates) == 4
    evidence = evidence_of(found)
    assert evidence.reading(DISK).measured == pytest.approx(min(rates) / NEEDED_RATE)
    assert evidence.inputs == {
        f"{rows:,} made rows of golden_depth": digest_of(depth_batches(rows, PROJECT.rows))
        for rows in (2_000, 5_000)
    }
    assert {*MAIN_FIGURES} <= evidence.figures.keys()
    assert all(value > 0 for value in evidence.figures.values())
    assert markdown(found).count("\n") > len(found.timings)


@pytest.mark.parametrize("way", ["write", "read"])
def test_a_medium_below_the_rate_fails(way: str, found: IoBenchmark) -> None:
    """One slow attempt at writing or reading is sufficient."""
    last = found.sustained[-1]
    seconds = last.stored_bytes / (NEEDED_RATE * 0.9)
    slow = replace(last, write_s=seconds) if way == "write" else replace(last, read_s=seconds)
    reading = evidence_of(
        replace(found, timings=[slow if each is last else each for each in found.timings])
    ).reading(DISK)
    assert reading.measured == pytest.approx(0.9)
    assert DISK.verdict(reading.measured) is Verdict.FAIL


def test_the_medium_is_measured_past_the_page_cache_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without O_DIRECT, the pages are dropped, and the report says which way was used."""
    rate = measure_medium(tmp_path, 16 * MIB)
    assert rate.bytes == 16 * MIB
    assert rate.read_rate == rate.bytes / (rate.direct_read_s or rate.read_s)
    assert rate.cached is None or rate.cached < 1
    monkeypatch.setattr(raw_disk, "_DIRECT", 0)
    without = measure_medium(tmp_path, 16 * MIB)
    assert (without.direct_write_s, without.direct_read_s) == (None, None)
    assert without.write_rate == without.bytes / without.write_s
    assert list(tmp_path.iterdir()) == []


def test_pages_that_stay_are_seen(tmp_path: Path) -> None:
    """A file that was just read is in the cache; after dropping its pages it is not."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(4 * MIB))
    left = drop_pages(path)
    if left is None:
        pytest.skip("this kernel does not tell what is cached")
    path.read_bytes()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert raw_disk._probe_cache(descriptor) == 1.0
    finally:
        os.close(descriptor)
    if left == 1.0:
        pytest.skip("this file system keeps its pages")
    again = drop_pages(path)
    assert again is not None
    assert again < 0.5


@pytest.mark.parametrize(("sizes", "repeats"), [((), 1), ((24,), 1), ((100,), 0)])
def test_sizes_that_measure_nothing_are_refused(sizes: tuple[int, ...], repeats: int, tmp_path: Path) -> None:
    """Nothing is written."""
    with pytest.raises(ConfigError, match="measure nothing"):
        measure(tmp_path / "io", sizes, 8 * MIB, repeats)
    with pytest.raises(ConfigError, match="not a positive multiple"):
        measure_medium(tmp_path, 8 * MIB + 1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    """`/dev/full` is used as a full disk; no file remains."""
    path = tmp_path / "one"
    path.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        time_file("what", "whole", path, lambda: WriteResult(path.write_bytes(b"1"), 1), lambda: 1)
    assert list(tmp_path.iterdir()) == []
