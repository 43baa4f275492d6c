"""The trades that a session captured: from its tables, or straight from its recording where there are no tables of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.binance.streams.parser import Columns, StreamParser
from capture_pipeline.errors import ConfigError, LakeError
from capture_pipeline.golden.conversion.arrow_rows import tables_of
from capture_pipeline.golden.readers.block_reader import BLOCK_BYTES, Blocks
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.parquet import guard_parquet, scan_tables
from capture_pipeline.sessions.gap_ledger import read_gaps_strictly
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.tables.golden import TRADES

COLUMNS = ("trade_id", "trade_us", "price_e8", "quantity_e8", "buyer_maker", "order_type")


@dataclass(frozen=True)
class Captured:
    """What is to be proved.

    Attributes:
        metadata: Of the session.
        sha256: Of its recording.
        source: `tables` or `recording`.
        trades: By symbol, columns `COLUMNS`; not collected where they come from tables.
        lost: Ids that its gap ledger lists, `first..last`, by symbol.
    """

    metadata: SessionMetadata
    sha256: str
    source: str
    trades: dict[str, pl.LazyFrame]
    lost: dict[str, list[tuple[int, int]]]


def captured(folder: SessionFolder, tables: GoldenTables) -> Captured:
    """The trades of a finished session.

    Raises:
        ConfigError: It is not finished.
        LakeError: A file is damaged or gone.
        MalformedDataError: The recording is none.
    """
    metadata = finished_metadata(folder)
    sha256 = next((file.sha256 for file in metadata.files if file.name == folder.recording.name), "")
    if not sha256:
        raise LakeError("lists no recording", where=str(folder.metadata), remedy="validate the session")
    symbols = sorted(metadata.plan.symbols)
    is_converted = tables.manifest_path.exists() and tables.manifest().recording_sha256 == sha256
    trades = (
        {symbol: tables.scan(TRADES, symbol).select(COLUMNS) for symbol in symbols}
        if is_converted
        else _recorded(folder, symbols)
    )
    return Captured(metadata, sha256, "tables" if is_converted else "recording", trades, _lost(folder))


def finished_metadata(folder: SessionFolder) -> SessionMetadata:
    """The metadata of a session.

    Raises:
        ConfigError: It is not finished.
    """
    metadata = read_model(folder.metadata, SessionMetadata)
    if metadata is None:
        remedy = f"wait for its end, or end it with `capture session stop {folder.session}`"
        raise ConfigError("the session is not finished", where=str(folder.path), remedy=remedy)
    return metadata


def last_trade_us(tables: GoldenTables) -> int | None:
    """Time of the last captured trade, by the exchange's clock; only the last hour of each symbol is read. None without trades.

    Raises:
        LakeError: There are no tables, or a file is gone.
    """
    newest = [tables.paths(TRADES, symbol)[-1:] for symbol in tables.symbols()]
    files = [path for paths in newest for path in paths]
    if not files:
        return None
    with guard_parquet(tables.root, remedy="convert the recording again"):
        found = (
            scan_tables(files, "convert the recording again")
            .select(pl.col("trade_us").max())
            .collect()
            .item()
        )
    return None if found is None else int(found)


def _recorded(
    folder: SessionFolder, symbols: list[str], block_bytes: int = BLOCK_BYTES
) -> dict[str, pl.LazyFrame]:
    parser, columns, line = StreamParser(folder.recording.name), Columns.of_size(block_bytes + 1), 1
    parts: dict[str, list[pa.Table]] = {
        symbol: [TRADES.schema.empty_table().select(COLUMNS)] for symbol in symbols
    }
    for block in Blocks(folder.recording, block_bytes):
        parsed = parser.parse(block.text, block.size, columns, line)
        for (table, symbol, _), rows in tables_of(parsed.columns, parser.symbols, line):
            if table is TRADES and symbol in parts:
                # A copy: the parser writes the next block into the same columns.
                parts[symbol].append(rows.select(COLUMNS).take(np.arange(rows.num_rows)))
        line += parsed.lines
    return {symbol: pl.DataFrame(pa.concat_tables(tables)).lazy() for symbol, tables in parts.items()}


def _lost(folder: SessionFolder) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for gap in read_gaps_strictly(folder.gaps):
        if kind_of(gap.stream) is StreamKind.TRADE:
            found.setdefault(symbol_of(gap.stream), []).append((gap.last_good_id + 1, gap.first_good_id - 1))
    return found
