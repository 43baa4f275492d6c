"""Conversion of a recording to the golden tables, with one file per table, symbol and hour.

The recording is processed in blocks, so that memory does not grow with its length: a thread inflates a block,
the kernel parses it, and its rows become a row group. Files appear when they are complete, hour by hour. The
manifest is written last and lists the valid files. The same recording gives the same bytes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.binance.streams.columns import PADDING
from capture_pipeline.binance.streams.decoders import CompiledDecoder
from capture_pipeline.errors import MalformedDataError, StorageError
from capture_pipeline.golden.conversion.arrow_rows import FileKey, build_tables
from capture_pipeline.golden.tables import HOUR_NS, GoldenFile, GoldenManifest, GoldenTables, format_hour
from capture_pipeline.lake.files import atomic_write, publish_model, sha256_file, storage_errors, unpublish
from capture_pipeline.lake.parquet import encoding_options
from capture_pipeline.sessions.recordings.reader import DECODER_BLOCK_BYTES, Recording
from capture_pipeline.tables.golden.columns import SCALE
from capture_pipeline.tables.registry import SESSION_TABLES
from capture_pipeline.tables.table import Table

_ZSTD_LEVEL = 1
_MAX_OPEN_FILES = 3000
"""Maximum number of open files: three tables of 1,000 symbols."""


def convert(
    recording: Path, session: str, root: Path, *, block_bytes: int = DECODER_BLOCK_BYTES
) -> GoldenManifest:
    """Convert a recording, and replace the tables of an earlier conversion of the session.

    Args:
        recording: A finished `….jsonl.gz`.
        session: Id of the session.
        root: Folder of the lake's tables.
        block_bytes: Inflated bytes per block; the row groups depend on it.

    Returns:
        The published manifest.

    Raises:
        MalformedDataError: A line does not have the format of a recording, or its hour is before the hour of
            an earlier line. The error names file and line.
        StorageError: A file cannot be written. The session has no manifest then, so that its files are
            ignored.
    """
    tables = GoldenTables(root, session)
    unpublish(tables.manifest_path)
    decoder, lines, by_fallback = CompiledDecoder(recording.name), 0, 0
    with (
        Recording(recording, block_bytes, is_strict=True, padding=PADDING) as blocks,
        _Writers(tables, recording.name) as writers,
    ):
        for block in blocks:
            parsed = decoder.decode(block, lines + 1)
            for key, rows in sorted(
                build_tables(parsed.columns, decoder.symbols, lines + 1), key=lambda found: found.key.hour
            ):
                writers.write(key, rows)
            lines, by_fallback = lines + parsed.lines, by_fallback + parsed.by_fallback
    if not lines:
        raise MalformedDataError("contains no line", where=recording.name, remedy="record again")
    for path in tables.find_stale_files({root / file.path for file in writers.files}):
        unpublish(path)
    manifest = GoldenManifest(
        session=session,
        recording=recording.name,
        recording_sha256=blocks.sha256,
        lines=lines,
        fallback_lines=by_fallback,
        messages=decoder.messages,
        rows={
            table.name: sum(file.rows for file in writers.files if file.table == table.name)
            for table in SESSION_TABLES
        },
        files=sorted(writers.files, key=lambda file: file.path),
    )
    publish_model(tables.manifest_path, manifest)
    return manifest


@dataclass
class _OpenFile:
    """A file that is being written."""

    path: Path
    parquet: pq.ParquetWriter
    stack: contextlib.ExitStack
    rows: int = 0


@dataclass
class _Writers:
    """Open files of the current hour. Rows of a later hour publish them.

    Attributes:
        files: Published files.
    """

    tables: GoldenTables
    where: str
    files: list[GoldenFile] = field(default_factory=list)
    _open: dict[FileKey, _OpenFile] = field(default_factory=dict)
    _hour: int = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            for file in self._open.values():
                # `atomic_write` removes the file when it is left with an exception. An error of that is
                # ignored.
                with contextlib.suppress(OSError, StorageError):
                    file.stack.__exit__(GeneratorExit, GeneratorExit(), None)

    def write(self, key: FileKey, rows: pa.Table) -> None:
        """Add rows as one row group."""
        table, symbol, hour = key
        if hour > self._hour:
            self._publish()
            self._hour = hour
        if hour < self._hour:
            line = rows["line"][0].as_py()
            what = (
                f"line {line} was captured in {format_hour(hour * HOUR_NS)}, "
                f"after lines of {format_hour(self._hour * HOUR_NS)}"
            )
            raise MalformedDataError(
                what, where=self.where, remedy="sort the lines by capture time, or record again"
            )
        if key not in self._open:
            self._open[key] = self._open_file(table, symbol, hour)
        with storage_errors(self._open[key].path):
            self._open[key].parquet.write_table(rows, row_group_size=rows.num_rows)
        self._open[key].rows += rows.num_rows

    def _open_file(self, table: Table, symbol: str, hour: int) -> _OpenFile:
        if len(self._open) >= _MAX_OPEN_FILES:
            raise MalformedDataError(
                f"contains more than {_MAX_OPEN_FILES // 3} symbols",
                where=self.where,
                remedy="record fewer symbols in one session",
            )
        path = self.tables.file(table, symbol, format_hour(hour * HOUR_NS))
        schema = table.arrow_schema.with_metadata(
            {"session": self.tables.session, "symbol": symbol, "scale": str(SCALE)}
        )
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(atomic_write(path))
            parquet = stack.enter_context(pq.ParquetWriter(partial, schema, **_options(table)))
            return _OpenFile(path, parquet, stack.pop_all())

    def _publish(self) -> None:
        for (table, symbol, hour), file in sorted(self._open.items(), key=lambda item: str(item[1].path)):
            file.stack.close()
            self.files.append(
                GoldenFile(
                    path=file.path.relative_to(self.tables.root).as_posix(),
                    table=table.name,
                    symbol=symbol,
                    hour=format_hour(hour * HOUR_NS),
                    rows=file.rows,
                    bytes=file.path.stat().st_size,
                    sha256=sha256_file(file.path),
                )
            )
        self._open.clear()


def _options(table: Table) -> dict[str, Any]:
    return {
        "compression": "zstd",
        "compression_level": _ZSTD_LEVEL,
        **encoding_options(table.encodings),
        "write_statistics": [name for name in ("line", "capture_ns", "previous_id") if name in table.schema],
    }
