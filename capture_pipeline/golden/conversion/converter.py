"""A recording to typed Parquet: `golden_trades`, `golden_depth`, `golden_snapshots`, an hour of a symbol a file.

Block after block, so that memory does not grow with the recording: inflate (isal, its own thread), parse (the kernel), write a row group.
Files appear whole, hour by hour; the manifest, written last, says which of them count. The same recording gives the same bytes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.binance.streams.parser import Columns, StreamParser
from capture_pipeline.errors import MalformedDataError, StorageError
from capture_pipeline.golden.conversion.arrow_rows import Key, tables_of
from capture_pipeline.golden.readers.block_reader import BLOCK_BYTES, Blocks
from capture_pipeline.golden.tables import HOUR_NS, GoldenFile, GoldenManifest, GoldenTables, hour_of
from capture_pipeline.lake.files import atomic_write, publish_model, sha256_file, storage_errors, unpublish
from capture_pipeline.tables.golden import SCALE, TABLES, GoldenTable

_ZSTD_LEVEL = 1
_MOST_OPEN = 3000
"""Files of one hour; more symbols than that are no golden sample."""


def convert(recording: Path, session: str, root: Path, *, block_bytes: int = BLOCK_BYTES) -> GoldenManifest:
    """Convert a recording; what an earlier run made of the session is replaced.

    Args:
        recording: A finished `….jsonl.gz`.
        session: Its id.
        root: Folder of the lake's tables.
        block_bytes: Plain bytes worked on at once; row groups depend on it.

    Returns:
        The manifest, as published.

    Raises:
        MalformedDataError: A line is not one of a recording, or its hour precedes that of a line before; file and line are named.
        StorageError: The disk refused; the session then has no manifest, its files do not count.
    """
    tables = GoldenTables(root, session)
    unpublish(tables.manifest_path)
    parser, columns, blocks = (
        StreamParser(recording.name),
        Columns.of_size(block_bytes + 1),
        Blocks(recording, block_bytes),
    )
    lines = by_fallback = 0
    with _Writers(tables, recording.name) as writers:
        for block in blocks:
            parsed = parser.parse(block.text, block.size, columns, lines + 1)
            for key, rows in sorted(
                tables_of(parsed.columns, parser.symbols, lines + 1), key=lambda found: found[0][2]
            ):
                writers.write(key, rows)
            lines, by_fallback = lines + parsed.lines, by_fallback + parsed.by_fallback
    if not lines:
        raise MalformedDataError("contains no line", where=recording.name, remedy="record again")
    for path in tables.stale({root / file.path for file in writers.files}):
        unpublish(path)
    manifest = GoldenManifest(
        session=session,
        recording=recording.name,
        recording_sha256=blocks.sha256,
        lines=lines,
        fallback_lines=by_fallback,
        messages=parser.messages,
        rows={
            table.name: sum(file.rows for file in writers.files if file.table == table.name)
            for table in TABLES
        },
        files=sorted(writers.files, key=lambda file: file.path),
    )
    publish_model(tables.manifest_path, manifest)
    return manifest


@dataclass
class _Open:
    """A file that is being written."""

    path: Path
    parquet: pq.ParquetWriter
    stack: contextlib.ExitStack
    rows: int = 0


@dataclass
class _Writers:
    """The files of the hour at hand; a later hour's rows publish them.

    Attributes:
        files: What was published.
    """

    tables: GoldenTables
    where: str
    files: list[GoldenFile] = field(default_factory=list)
    _open: dict[Key, _Open] = field(default_factory=dict)
    _hour: int = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            for file in self._open.values():
                # Leaving by an exception is what tells `atomic_write` to drop the file; that the disk refuses even this changes nothing.
                with contextlib.suppress(OSError, StorageError):
                    file.stack.__exit__(GeneratorExit, GeneratorExit(), None)

    def write(self, key: Key, rows: pa.Table) -> None:
        """Add rows as one row group."""
        table, symbol, hour = key
        if hour > self._hour:
            self._publish()
            self._hour = hour
        if hour < self._hour:
            what = f"line {rows['line'][0].as_py()} was captured in {hour_of(hour * HOUR_NS)}, after lines of {hour_of(self._hour * HOUR_NS)}"
            raise MalformedDataError(
                what, where=self.where, remedy="capture times never decrease in a recording; sort the import"
            )
        if key not in self._open:
            self._open[key] = self._begin(table, symbol, hour)
        with storage_errors(self._open[key].path):
            self._open[key].parquet.write_table(rows, row_group_size=rows.num_rows)
        self._open[key].rows += rows.num_rows

    def _begin(self, table: GoldenTable, symbol: str, hour: int) -> _Open:
        if len(self._open) >= _MOST_OPEN:
            raise MalformedDataError(
                f"holds more than {_MOST_OPEN // 3} symbols",
                where=self.where,
                remedy="record fewer symbols in a session",
            )
        path = self.tables.file(table, symbol, hour_of(hour * HOUR_NS))
        schema = table.schema.with_metadata(
            {"session": self.tables.session, "symbol": symbol, "scale": str(SCALE)}
        )
        with contextlib.ExitStack() as stack:
            beside = stack.enter_context(atomic_write(path))
            parquet = stack.enter_context(pq.ParquetWriter(beside, schema, **_options(table)))
            return _Open(path, parquet, stack.pop_all())

    def _publish(self) -> None:
        for (table, symbol, hour), file in sorted(self._open.items(), key=lambda item: str(item[1].path)):
            file.stack.close()
            self.files.append(
                GoldenFile(
                    path=file.path.relative_to(self.tables.root).as_posix(),
                    table=table.name,
                    symbol=symbol,
                    hour=hour_of(hour * HOUR_NS),
                    rows=file.rows,
                    bytes=file.path.stat().st_size,
                    sha256=sha256_file(file.path),
                )
            )
        self._open.clear()


def _options(table: GoldenTable) -> dict[str, Any]:
    return {
        "compression": "zstd",
        "compression_level": _ZSTD_LEVEL,
        "use_dictionary": [name for name, how in table.encodings.items() if how is None],
        "column_encoding": {name: how for name, how in table.encodings.items() if how is not None},
        "write_statistics": [name for name in ("line", "capture_ns", "previous_id") if name in table.columns],
    }
