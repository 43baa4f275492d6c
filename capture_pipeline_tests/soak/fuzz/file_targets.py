"""Fuzz targets that read files: settings, recordings, tables and session files."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
from pydantic import BaseModel

from capture_pipeline.calendars.irregularities import load_irregularities
from capture_pipeline.calendars.outages import load_calendar
from capture_pipeline.cli.console import _plain
from capture_pipeline.cli.session.view import overview, session_document, session_row, state_lines
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.quality_score import diagnose
from capture_pipeline.golden.scan.scanner import scan_part
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest
from capture_pipeline.lake.parquet import publish_table, read_table, scan_tables
from capture_pipeline.recorder.lifecycle import read_plan
from capture_pipeline.recorder.storage.checkpoint import checkpoint_tracks
from capture_pipeline.recorder.storage.completion import finish_session
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.replay.sources.crypto_lake import CryptoLakeSource
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.tardis import TardisSource
from capture_pipeline.sessions.account import Account, AccountState
from capture_pipeline.sessions.gap_ledger import read_gaps, read_gaps_strictly
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Checkpoint
from capture_pipeline.sessions.recordings.reader import read_lines
from capture_pipeline.settings.loader import load_settings
from capture_pipeline_tests.soak.fuzz.targets import Target
from capture_pipeline_tests.support.deployment import NO_SETTINGS
from capture_pipeline_tests.support.sessions.lines import packed, recording, session, written
from sandbox_exchange.config.models import load_config

_SESSION = "20250803T123000Z_custom_btcusdt"
_SETTINGS = b"""venue: sandbox
interval: 1m
symbols: [BTCUSDT, ETHUSDT]
history: {start: 2024-11-01, end: 2025-02-28}
storage: {root: data}
sessions:
  - {regime: custom, weekday: tue, time: "14:30"}
"""
_OUTAGES = (
    b"outages:\n"
    b"  - {start: 2024-12-05T06:00:00Z, end: 2024-12-05T07:00:00Z, reason: halt, symbols: [BTCUSDT]}\n"
)
_IRREGULAR = (
    b"irregularities:\n"
    b"  - {start: 2024-12-05T06:00:00Z, end: 2024-12-05T07:00:00Z, kinds: [early_close], reason: planned}\n"
)
_SANDBOX = (
    b"seed: 7\nsymbols:\n  - {symbol: BTCUSDT, base_price: 60000, tick_size: 0.01}\n"
    b"now: 2025-02-20T10:30:00Z\nfaults: []\n"
)
_MANIFEST = (
    b'{"files":[{"name":"a.zip","granularity":"daily","start_us":1,"end_us":2,"trust":"ok","url":"u",'
    b'"fetched_at_us":3,"checked_at_us":4}]}'
)
_TARDIS = (
    b"exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    b"binance,BTCUSDT,1722470400000000,1722470400000001,true,bid,64000.5,1.5\n"
    b"binance,BTCUSDT,1722470400100000,1722470400100001,false,ask,64001.5,1e-7\n"
)
_TRADE = (
    b'{"stream":"ethusdt@trade","data":{"e":"trade","E":1723161255612,"s":"ETHUSDT","t":7,'
    b'"p":"1","q":"2","T":1,"m":true,"M":true}}'
)
_HFT = (
    b"1723161254340863867 "
    + _TRADE
    + b'\n1723161254340863868 {"lastUpdateId":39,"bids":[["1.5","2.25"]],"asks":[]}\n'
)
_CRYPTOFEED = (
    b"wss://stream.binance.com:9443/stream?streams=ethusdt@trade <-> 1723161254.34\n"
    b"1723161254.340863: " + _TRADE + b"\n"
    b"https://api.binance.com/api/v3/depth?symbol=ETHUSDT -> 1723161255.1: "
    b'{"lastUpdateId":39,"bids":[["1.5","2.25"]],"asks":[]}\n'
)
_PROCESSOR = (
    b"TimestampOfReceive,Stream,EventType,EventTime,Symbol,FirstUpdateId,FinalUpdateId,IsAsk,Price,Quantity\n"
    b"1723161254340863,ethusdt@depth@100ms,depthUpdate,1723161254339,ETHUSDT,1,3,0,10.5,1e-05\n"
    b"1723161254340863,ethusdt@depth@100ms,depthUpdate,1723161254339,ETHUSDT,1,3,1,11.5,2\n"
)


def _file_target(
    name: str, read: Callable[[Path], object], *, packed: bool = False
) -> Callable[[bytes, Path], None]:
    def run(data: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(gzip.compress(data, 1, mtime=0) if packed else data)
        read(path)

    return run


def _import_reader(origin: Origin) -> Callable[[Path], object]:
    def read(path: Path) -> None:
        root = path.with_name("imported")
        try:
            import_session(origin, [path], root, symbol="ETHUSDT", market="spot", venue="binance")
        finally:
            shutil.rmtree(root, ignore_errors=True)

    return read


def _read_recording(path: Path) -> None:
    scan_part(path)
    for _ in read_lines(path, tolerant=True):
        pass
    convert(path, _SESSION, path.with_name("tables"))


def _consume(source: object) -> None:
    for _ in source:  # type: ignore[attr-defined]
        pass


def _model_reader(kind: type[BaseModel]) -> Callable[[Path], object]:
    return lambda path: read_model(path, kind)


def _build_finished() -> dict[str, bytes]:
    """Build the files of a finished session by name."""
    with tempfile.TemporaryDirectory() as root:
        folder = session(Path(root), recording(30))
        return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}


def _build_growing() -> dict[str, bytes]:
    """Build the files of a session whose recorder was killed, by name."""
    with tempfile.TemporaryDirectory() as root:
        lines = recording(30)
        folder = SessionFolder(Path(root) / _SESSION)
        folder.path.mkdir()
        plan = read_plan(session(Path(root), lines)).model_copy(update={"session": _SESSION})
        folder.plan.write_text(plan.model_dump_json())
        content = build_member(b"".join(lines[:10]), 10)
        folder.growing.write_bytes(content + build_member(b"".join(lines[10:]), len(lines) - 10))
        state = recover_session(folder)
        mark = Checkpoint(offset=len(content), first_ns=state.first_ns, last_ns=state.last_ns, lines=10)
        mark = mark.model_copy(
            update={"tracks": checkpoint_tracks(state.tracks, state.last_times), "counts": {"duplicates": 3}}
        )
        folder.checkpoint.write_text(mark.model_dump_json())
        folder.account.write_text(Account(state=AccountState.OPEN, mark=mark).model_dump_json())
        folder.ending.write_text('{"state":"interrupted"}')
        return {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}


def _seeds(files: dict[str, bytes]) -> tuple[bytes, ...]:
    """Build one seed per file: its name, a line feed and its content."""
    return tuple(name.encode() + b"\n" + content for name, content in files.items())


def _session_target(
    files: dict[str, bytes], read_session: Callable[[SessionFolder], object]
) -> Callable[[bytes, Path], None]:
    """Build a target that replaces one file of a session and reads the session as the commands do."""

    def run(data: bytes, root: Path) -> None:
        name, _, content = data.partition(b"\n")
        if name.decode("latin-1") not in files:
            return
        folder = SessionFolder(root / "custom" / _SESSION)
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True)
        for each, valid in files.items():
            (folder.path / each).write_bytes(content if each.encode() == name else valid)
        read_session(folder)

    return run


def _read_finished(folder: SessionFolder) -> None:
    json.dumps(_plain([session_row(folder), session_document(folder)]), allow_nan=False, default=str)
    state_lines([folder])
    overview([folder])
    diagnose(folder.path)
    validate(folder.path)
    read_gaps_strictly(folder.gaps)


def _read_growing(folder: SessionFolder) -> None:
    json.dumps(_plain([session_row(folder), session_document(folder)]), allow_nan=False, default=str)
    state_lines([folder])
    overview([folder])
    read_gaps(folder.gaps)
    plan = read_plan(folder)
    recover_session(folder)
    finish_session(folder, plan)
    session_row(folder)


def _build_crypto_lake() -> bytes:
    rows = 5
    frame = pl.DataFrame(
        {
            "origin_time": pl.Series(
                [1_769_817_600_000_000_000 + each for each in range(rows)], dtype=pl.Datetime("ns")
            ),
            "received_time": pl.Series(
                [1_769_817_600_000_000_000 + each for each in range(rows)], dtype=pl.Datetime("ns")
            ),
            "sequence_number": list(range(rows)),
            "side_is_bid": [True, False, True, False, True],
            "price": [84_000.5 + each for each in range(rows)],
            "size": [0.5] * rows,
        }
    )
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


def _build_published() -> bytes:
    """Build a table with the encodings that the project writes: delta integers, decimals and dictionaries."""
    rows = range(50)
    frame = pl.DataFrame(
        {"time": rows, "price": [Decimal(each) / 8 for each in rows], "side": ["buy", "sell"] * 25}
    )
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "table.parquet"
        publish_table(frame.with_columns(pl.col("price").cast(pl.Decimal(18, 8))), path)
        return path.read_bytes()


def _query(path: Path) -> None:
    with duckdb.connect() as connection, contextlib.suppress(duckdb.Error):
        connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()


def _build_golden() -> dict[str, bytes]:
    """Build the tables of a session and their manifest, by path."""
    with tempfile.TemporaryDirectory() as root:
        path = written(Path(root) / "r.jsonl.gz", recording(30))
        convert(path, _SESSION, Path(root) / "tables")
        base = Path(root) / "tables"
        return {str(each.relative_to(base)): each.read_bytes() for each in base.rglob("*") if each.is_file()}


def _tables_target(files: dict[str, bytes]) -> Callable[[bytes, Path], None]:
    def run(data: bytes, root: Path) -> None:
        name, _, content = data.partition(b"\n")
        for each, valid in files.items():
            path = root / "golden" / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if each.encode() == name else valid)
        _consume(GoldenSource(GoldenTables(root / "golden", _SESSION), "BTCUSDT"))

    return run


FINISHED, GROWING, GOLDEN = _build_finished(), _build_growing(), _build_golden()
_LINES = b"".join(recording(8))
FILE_TARGETS: dict[str, Target] = {
    "settings": Target(_file_target("pipeline.yaml", lambda path: load_settings(path, {})), (_SETTINGS,), 60),
    "settings of the environment": Target(
        lambda data, _: load_settings(NO_SETTINGS, {"CAPTURE_SESSIONS": data.decode("latin-1")}),
        (b'[{regime: custom, weekday: tue, time: "14:30"}]',),
        60,
    ),
    "outage calendar": Target(_file_target("outages.yaml", load_calendar), (_OUTAGES,), 30),
    "irregularity calendar": Target(_file_target("irregular.yaml", load_irregularities), (_IRREGULAR,), 30),
    "sandbox settings": Target(_file_target("sandbox.yaml", load_config), (_SANDBOX,), 60),
    "manifests": Target(_file_target("manifest.json", _model_reader(ArchivesManifest)), (_MANIFEST,)),
    "recording, plain": Target(_file_target("r.jsonl", _read_recording), (_LINES,), 60),
    "recording, packed": Target(_file_target("r.jsonl.gz", _read_recording), (packed(recording(8), 4),), 60),
    "recording, damaged inside": Target(
        _file_target("r.jsonl.gz", _read_recording, packed=True), (_LINES,), 60
    ),
    **{
        f"import of {origin}": Target(_file_target("source.txt", _import_reader(origin)), (seed,), 30)
        for origin, seed in (
            (Origin.HFTBACKTEST, _HFT),
            (Origin.CRYPTOFEED, _CRYPTOFEED),
            (Origin.PROCESSOR, _PROCESSOR),
            (Origin.CAPTURE, _LINES),
        )
    },
    "Tardis": Target(_file_target("t.csv", lambda path: _consume(TardisSource(path))), (_TARDIS,), 40),
    "Tardis, packed": Target(
        _file_target("t.csv.gz", lambda path: _consume(TardisSource(path))),
        (gzip.compress(_TARDIS, mtime=0),),
        40,
    ),
    "Crypto Lake": Target(
        _file_target("c.parquet", lambda path: _consume(CryptoLakeSource(path))), (_build_crypto_lake(),), 100
    ),
    "published tables": Target(_file_target("p.parquet", read_table), (_build_crypto_lake(),), 100),
    "published tables, scanned": Target(
        _file_target("p.parquet", lambda path: scan_tables([path], "").collect()), (_build_published(),), 100
    ),
    "published tables, by SQL": Target(_file_target("p.parquet", _query), (_build_published(),), 100),
    "tables of a session": Target(_tables_target(GOLDEN), _seeds(GOLDEN), 60),
    "session, finished": Target(_session_target(FINISHED, _read_finished), _seeds(FINISHED), 50),
    "session, growing": Target(_session_target(GROWING, _read_growing), _seeds(GROWING), 50),
}
"""Targets that read files, by name."""
