"""Paths, manifest and reader of the typed tables of a session.

lake/golden_trades/session=20260803T143000Z_high_volume_btcusdt/symbol=BTCUSDT/hour=2026-08-03T14/trades.parquet
lake/golden_depth/…/depth.parquet
lake/golden_snapshots/…/snapshots.parquet
lake/golden_manifests/session=20260803T143000Z_high_volume_btcusdt/manifest.json

The manifest is written last. Readers ignore files that it does not list.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.parquet import guard_parquet, scan_tables
from capture_pipeline.parsing import guard_parser
from capture_pipeline.sessions.layout import valid_session
from capture_pipeline.tables.registry import SESSION_TABLES
from capture_pipeline.tables.table import Table

HOUR_NS = 3_600_000_000_000
_REMEDY = "convert the recording again"


class GoldenFile(BaseModel):
    """A published file.

    Attributes:
        path: Path below the lake's tables, with forward slashes.
        table: golden_trades, golden_depth or golden_snapshots.
        symbol: Symbol in capitals.
        hour: Hour of capture, UTC, `YYYY-MM-DDTHH`.
        rows: Number of rows.
        bytes: Size of the file.
        sha256: Digest of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    table: str
    symbol: str
    hour: str
    rows: int
    bytes: int
    sha256: str


class GoldenManifest(BaseModel):
    """Result of the conversion of one recording.

    Attributes:
        session: Id of the session.
        recording: File name of the recording.
        recording_sha256: Digest of the recording.
        lines: Lines of the recording.
        fallback_lines: Lines that the slower parser read: the first line of each stream, and lines in another
            layout than that of the exchange.
        messages: Number of lines by stream.
        rows: Number of rows by table.
        files: Published files, ordered by path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    session: str
    recording: str
    recording_sha256: str
    lines: int
    fallback_lines: int
    messages: dict[str, int]
    rows: dict[str, int]
    files: list[GoldenFile]


def format_hour(capture_ns: int) -> str:
    """Format the hour of a capture time for paths: 2026-08-03T14."""
    return datetime.fromtimestamp(capture_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H")


@dataclass(frozen=True)
class GoldenTables:
    """Tables of one session.

    Attributes:
        root: Folder of the lake's tables.
        session: Id of the session.
    """

    root: Path
    session: str

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.root / "golden_manifests" / f"session={valid_session(self.session)}" / "manifest.json"

    def folder(self, table: Table) -> Path:
        """Return the folder of a table."""
        return self.root / table.name / f"session={valid_session(self.session)}"

    def file(self, table: Table, symbol: str, hour: str) -> Path:
        """Return the path of the file of one symbol and hour."""
        return (
            self.folder(table)
            / f"symbol={validate_symbol(symbol)}"
            / f"hour={hour}"
            / f"{table.name.removeprefix('golden_')}.parquet"
        )

    def find_stale_files(self, published: set[Path]) -> list[Path]:
        """List files of this session that are not in `published`."""
        return [
            path
            for table in SESSION_TABLES
            for path in sorted(self.folder(table).rglob("*.parquet"))
            if path not in published
        ]

    def manifest(self) -> GoldenManifest:
        """Read the manifest.

        Raises:
            LakeError: The session has no tables, or the manifest is damaged.
        """
        found = read_model(self.manifest_path, GoldenManifest)
        if found is None:
            raise LakeError(
                "the session has no tables",
                where=str(self.manifest_path),
                remedy="convert its recording first",
            )
        return found

    def symbols(self) -> list[str]:
        """List the symbols in alphabetical order."""
        return sorted({file.symbol for file in self.manifest().files})

    def paths(self, table: Table, symbol: str) -> list[Path]:
        """List the files of a table and a symbol, ordered by hour.

        Raises:
            LakeError: A file is missing, or the session has no tables.
        """
        paths = [
            self.root / file.path
            for file in self.manifest().files
            if file.table == table.name and file.symbol == symbol
        ]
        for path in paths:
            with guard_parser(
                str(self.manifest_path), "contains an invalid file name", kind=LakeError, also=(OSError,)
            ):
                is_there = path.resolve().is_relative_to(self.root.resolve()) and path.is_file()
            if not is_there:
                raise LakeError("the file is in the manifest but is missing", where=str(path), remedy=_REMEDY)
        return sorted(paths)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Collect the result of `scan`, or a query on it.

        Raises:
            LakeError: A file is damaged.
        """
        with guard_parquet(self.root, remedy=_REMEDY):
            return rows.collect()

    def scan(self, table: Table, symbol: str) -> pl.LazyFrame:
        """Scan a table of one symbol, with rows in the order of the recording.

        Raises:
            LakeError: See `paths`.
        """
        paths = self.paths(table, symbol)
        if not paths:
            return pl.from_arrow(table.arrow_schema.empty_table()).lazy()  # type: ignore[union-attr]
        rows = scan_tables(paths, _REMEDY)
        with guard_parquet(paths[0], remedy=_REMEDY):
            names = set(pq.read_schema(paths[0]).names)
        if table.optional <= names:
            return rows
        # The file was written before the table had these columns.
        return rows.with_columns(
            pl.lit(None, table.schema[name]).alias(name) for name in table.optional
        ).select(*table.schema)
