"""Selection of the source for the file or the session that a command names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.replay.messages import Source
from capture_pipeline.replay.sources.crypto_lake import CryptoLakeSource
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline.replay.sources.tardis import TardisSource
from capture_pipeline.sessions.layout import SessionFolder


def open_source(target: str, symbol: str, tables: Path) -> Source:
    """Return the source for a target. Files are opened later, by the iteration.

    Args:
        target: A recording (`….jsonl.gz`), the folder of a session, the id of a session that has tables,
            Tardis' `incremental_book_L2` (`….csv`, `….csv.gz`) or Crypto Lake's `book_delta_v2`
            (`….parquet`).
        symbol: Symbol in capitals; empty for the only symbol. Files of Tardis and Crypto Lake contain one
            symbol.
        tables: Folder of the lake's tables.

    Raises:
        LakeError: The target does not exist, or the session has no recording or no tables of the symbol.
        MalformedDataError: The session has several symbols and `symbol` is empty.
    """
    path = Path(target)
    if path.is_dir():
        recording = SessionFolder(path).recording
        if not recording.is_file():
            raise LakeError(
                "contains no finished recording",
                where=str(path),
                remedy="finish the session, or name the file of a recording",
            )
        return RawSource(recording, symbol)
    if path.is_file():
        return _open_file(path, symbol)
    return GoldenSource(*open_session_tables(target, symbol, tables))


def _open_file(path: Path, symbol: str) -> Source:
    """Select by the file name: CSV is Tardis, Parquet is Crypto Lake, all others are recordings."""
    if path.name.endswith((".csv", ".csv.gz")):
        return TardisSource(path)
    if path.suffix == ".parquet":
        return CryptoLakeSource(path)
    return RawSource(path, symbol)


class SymbolTables(NamedTuple):
    """Tables of a session, and the symbol to read."""

    tables: GoldenTables
    symbol: str


def open_session_tables(session: str, symbol: str, tables: Path) -> SymbolTables:
    """Return the tables of a session for one symbol.

    Raises:
        LakeError: The session has no tables, or none of this symbol.
        MalformedDataError: The session has several symbols and `symbol` is empty.
    """
    found = GoldenTables(tables, session)
    symbols = found.symbols()
    if symbol and symbol not in symbols:
        raise LakeError(
            f"has no tables of {symbol}", where=session, remedy=f"name one of {', '.join(symbols)}"
        )
    if not symbol and len(symbols) != 1:
        raise MalformedDataError(
            "contains several symbols", where=session, remedy=f"name one of {', '.join(symbols)}"
        )
    return SymbolTables(found, symbol or symbols[0])
