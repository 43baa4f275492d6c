"""Where the tables of golden samples lie, what was made of which recording, and how they are read.

lake/golden_trades/session=20260803T143000Z_high_volume_btcusdt/symbol=BTCUSDT/hour=2026-08-03T14/trades.parquet
lake/golden_depth/…/depth.parquet  lake/golden_snapshots/…/snapshots.parquet
lake/golden_manifests/session=20260803T143000Z_high_volume_btcusdt/manifest.json      written last: readers trust only what it lists
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
from capture_pipeline.tables.golden import TABLES, GoldenTable

HOUR_NS = 3_600_000_000_000
_REMEDY = "convert the recording again"


class GoldenFile(BaseModel):
    """One published file.

    Attributes:
        path: Below the lake's root, with forward slashes.
        table: golden_trades, golden_depth or golden_snapshots.
        symbol: In capitals.
        hour: Of capture, UTC, `YYYY-MM-DDTHH`.
        rows: Rows in it.
        bytes: Its size.
        sha256: Of it.
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
    """What was made of one recording.

    Attributes:
        session: Its id.
        recording: Name of the file.
        recording_sha256: Of the file.
        lines: Lines in it.
        fallback_lines: Of them, those in another layout than the exchange's compact one, and the first of each stream.
        messages: Lines by stream.
        rows: By table.
        files: Everything published, by path.
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


def hour_of(capture_ns: int) -> str:
    """The hour of a capture time, as it stands in paths: 2026-08-03T14."""
    return datetime.fromtimestamp(capture_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H")


@dataclass(frozen=True)
class GoldenTables:
    """The tables of one session.

    Attributes:
        root: Folder of the lake's tables.
        session: Its id.
    """

    root: Path
    session: str

    @property
    def manifest_path(self) -> Path:
        """The commit point."""
        return self.root / "golden_manifests" / f"session={valid_session(self.session)}" / "manifest.json"

    def folder(self, table: GoldenTable) -> Path:
        """All of a table that is of this session."""
        return self.root / table.name / f"session={valid_session(self.session)}"

    def file(self, table: GoldenTable, symbol: str, hour: str) -> Path:
        """One hour of one symbol."""
        return (
            self.folder(table)
            / f"symbol={validate_symbol(symbol)}"
            / f"hour={hour}"
            / f"{table.name.removeprefix('golden_')}.parquet"
        )

    def stale(self, published: set[Path]) -> list[Path]:
        """Files of this session that are not among those published."""
        return [
            path
            for table in TABLES
            for path in sorted(self.folder(table).rglob("*.parquet"))
            if path not in published
        ]

    def manifest(self) -> GoldenManifest:
        """What was made.

        Raises:
            LakeError: There is none, or it is damaged.
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
        """Its symbols, in order."""
        return sorted({file.symbol for file in self.manifest().files})

    def paths(self, table: GoldenTable, symbol: str) -> list[Path]:
        """The files of a table, by hour.

        Raises:
            LakeError: One is gone, or there is no manifest.
        """
        chosen = [
            self.root / file.path
            for file in self.manifest().files
            if file.table == table.name and file.symbol == symbol
        ]
        for path in chosen:
            with guard_parser(
                str(self.manifest_path), "names a file that there cannot be", kind=LakeError, also=(OSError,)
            ):
                is_there = path.resolve().is_relative_to(self.root.resolve()) and path.is_file()
            if not is_there:
                raise LakeError("is recorded but gone", where=str(path), remedy=_REMEDY)
        return sorted(chosen)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Read what `scan` returned, or a query on it.

        Raises:
            LakeError: A file is damaged.
        """
        with guard_parquet(self.root, remedy=_REMEDY):
            return rows.collect()

    def scan(self, table: GoldenTable, symbol: str) -> pl.LazyFrame:
        """A table of one symbol, rows in the order of the recording.

        Raises:
            LakeError: As of `paths`.
        """
        paths = self.paths(table, symbol)
        if not paths:
            return pl.from_arrow(table.schema.empty_table()).lazy()  # type: ignore[union-attr]
        rows = scan_tables(paths, _REMEDY)
        with guard_parquet(paths[0], remedy=_REMEDY):
            names = set(pq.read_schema(paths[0]).names)
        if table.nullable <= names:
            return rows
        # Made before the table had these columns.
        return rows.with_columns(
            pl.lit(None, table.polars_schema[name]).alias(name) for name in table.nullable
        ).select(*table.columns)
