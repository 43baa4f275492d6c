"""Reader of the trades of a session, from its tables or from its recording if there are no tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from capture_pipeline.binance.streams.columns import PADDING
from capture_pipeline.binance.streams.decoders import CompiledDecoder
from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.errors import ConfigError, LakeError
from capture_pipeline.golden.conversion.arrow_rows import build_tables
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.parquet import guard_parquet, scan_tables
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.gap_ledger import read_gaps_strictly
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.sessions.recordings.reader import DECODER_BLOCK_BYTES, Recording
from capture_pipeline.tables.golden.trades import TRADES

COLUMNS = ("trade_id", "trade_us", "price_e8", "quantity_e8", "buyer_maker", "order_type")


@dataclass(frozen=True)
class CapturedTrades:
    """Captured trades of a session.

    Attributes:
        metadata: Metadata of the session.
        sha256: Digest of the recording.
        source: `tables` or `recording`.
        trades: Trades by symbol, with the columns `COLUMNS`.
        lost: Ids that the gap ledger lists, by symbol.
    """

    metadata: SessionMetadata
    sha256: str
    source: str
    trades: dict[str, pl.LazyFrame]
    lost: dict[str, list[IdRange]]


def load_captured(folder: SessionFolder, tables: GoldenTables) -> CapturedTrades:
    """Load the trades of a finished session.

    Raises:
        ConfigError: The session is not finished.
        LakeError: A file is damaged or missing.
        MalformedDataError: The file is not a recording.
    """
    metadata = read_finished_metadata(folder)
    sha256 = next((file.sha256 for file in metadata.files if file.name == folder.recording.name), "")
    if not sha256:
        raise LakeError(
            "does not list the recording", where=str(folder.metadata), remedy="validate the session"
        )
    symbols = sorted(metadata.plan.symbols)
    is_converted = tables.manifest_path.exists() and tables.manifest().recording_sha256 == sha256
    trades = (
        {symbol: tables.scan(TRADES, symbol).select(COLUMNS) for symbol in symbols}
        if is_converted
        else _read_recording(folder, symbols)
    )
    return CapturedTrades(
        metadata, sha256, "tables" if is_converted else "recording", trades, _read_lost_ids(folder)
    )


def read_finished_metadata(folder: SessionFolder) -> SessionMetadata:
    """Read the metadata of a finished session.

    Raises:
        ConfigError: The session is not finished.
    """
    metadata = read_model(folder.metadata, SessionMetadata)
    if metadata is None:
        remedy = f"wait for its end, or end it with `capture session stop {folder.session}`"
        raise ConfigError("the session is not finished", where=str(folder.path), remedy=remedy)
    return metadata


def last_trade_us(tables: GoldenTables) -> int | None:
    """Return the time of the last captured trade, by the exchange's clock; None without trades.

    Only the last hour of each symbol is read.

    Raises:
        LakeError: The session has no tables, or a file is missing.
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


def _read_recording(
    folder: SessionFolder, symbols: list[str], block_bytes: int = DECODER_BLOCK_BYTES
) -> dict[str, pl.LazyFrame]:
    decoder, line = CompiledDecoder(folder.recording.name), 1
    parts: dict[str, list[pa.Table]] = {
        symbol: [TRADES.arrow_schema.empty_table().select(COLUMNS)] for symbol in symbols
    }
    with Recording(folder.recording, block_bytes, is_strict=True, padding=PADDING) as blocks:
        for block in blocks:
            parsed = decoder.decode(block, line)
            for key, rows in build_tables(parsed.columns, decoder.symbols, line):
                if key.table is TRADES and key.symbol in parts:
                    # `take` copies the rows, because the decoder writes the next block into the same columns.
                    parts[key.symbol].append(rows.select(COLUMNS).take(np.arange(rows.num_rows)))
            line += parsed.lines
    return {symbol: pl.DataFrame(pa.concat_tables(tables)).lazy() for symbol, tables in parts.items()}


def _read_lost_ids(folder: SessionFolder) -> dict[str, list[IdRange]]:
    found: dict[str, list[IdRange]] = {}
    for gap in read_gaps_strictly(folder.gaps):
        if kind_of(gap.stream) is StreamKind.TRADE:
            lost = IdRange(gap.last_good_id + 1, gap.first_good_id - 1)
            found.setdefault(symbol_of(gap.stream), []).append(lost)
    return found
