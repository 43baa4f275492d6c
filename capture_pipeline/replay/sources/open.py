"""Which source a file or a session is: told from its name, opened only when it is read."""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.replay.messages import Source
from capture_pipeline.replay.sources.crypto_lake import CryptoLakeSource
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline.replay.sources.tardis import TardisSource
from capture_pipeline.sessions.layout import SessionFolder


def source_of(target: str, symbol: str, tables: Path) -> Source:
    """The source that a command names.

    Args:
        target: A recording (`….jsonl.gz`), the folder of a session, the id of a session that has tables, Tardis'
            `incremental_book_L2` (`….csv`, `….csv.gz`) or Crypto Lake's `book_delta_v2` (`….parquet`).
        symbol: In capitals; empty for the only one there is. Files of others hold one.
        tables: Folder of the lake's tables.

    Raises:
        LakeError: There is no such thing.
        MalformedDataError: It holds several symbols and none was named.
    """
    path = Path(target)
    if path.is_dir():
        recording = SessionFolder(path).recording
        if not recording.is_file():
            raise LakeError(
                "holds no finished recording", where=str(path), remedy="finish the session, or name the file"
            )
        return RawSource(recording, symbol)
    if path.is_file():
        return _of_file(path, symbol)
    return GoldenSource(*of_session(target, symbol, tables))


def _of_file(path: Path, symbol: str) -> Source:
    """Told from its name: Tardis' CSV, Crypto Lake's Parquet, a recording otherwise."""
    if path.name.endswith((".csv", ".csv.gz")):
        return TardisSource(path)
    if path.suffix == ".parquet":
        return CryptoLakeSource(path)
    return RawSource(path, symbol)


def of_session(session: str, symbol: str, tables: Path) -> tuple[GoldenTables, str]:
    """The tables of a session, and its symbol.

    Raises:
        LakeError: It has none, or none of this symbol.
        MalformedDataError: It has several symbols and none was named.
    """
    found = GoldenTables(tables, session)
    symbols = found.symbols()
    if symbol and symbol not in symbols:
        raise LakeError(f"has no {symbol}", where=session, remedy=f"name one of {', '.join(symbols)}")
    if not symbol and len(symbols) != 1:
        raise MalformedDataError(
            "holds several symbols", where=session, remedy=f"name one of {', '.join(symbols)}"
        )
    return found, symbol or symbols[0]
