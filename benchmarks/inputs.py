"""What is measured on: zips of the sandbox's synthetic market, and a lake of 600 symbol-months that the package made of such zips.

Everything is a function of the seed, made once and kept in `out/`; it is made again when the package's code has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from isal import isal_zlib
from offline import NOW_US, OfflineWorkspace, Reader, settings_for

from capture_pipeline.binance.periods import Interval, Month, parse_time
from capture_pipeline.binance.urls import ArchiveFile, Market
from capture_pipeline.klines.backfill import backfill
from capture_pipeline.settings.models import DEFAULT_SYMBOLS
from sandbox_exchange.archive.corrupt_zip import Entry, zip_of
from sandbox_exchange.config import SandboxConfig
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.sources.synthetic import SyntheticSource

Deflate = Callable[[bytes], bytes]
OUT = Path(__file__).parent / "out"
ZIPS, LAKE = OUT / "zips", OUT / "lake"
START, END = "2021-01-01", "2025-12-31"
FEW, MANY = 24, 120
SYMBOLS = DEFAULT_SYMBOLS
PARTITIONS = 600
_PACKAGE = Path(__file__).parent.parent / "capture_pipeline"
_MADE_BY = ("lake", "sandbox", "tables")
_PROCESSES = max(1, min(8, os.cpu_count() or 1))


def workspace_of(root: Path, read: Reader, symbols: list[str] = SYMBOLS) -> OfflineWorkspace:
    """The deployment that the benchmarks run: ten symbols, sixty months."""
    return OfflineWorkspace(settings_for(root, symbols, START, END), read)


def ensure_zips() -> Path:
    """The first `MANY` symbol-months, month by month, as the exchange publishes them: deflated by zlib, with checksum files."""
    if _is_stale(ZIPS):
        files = [
            ArchiveFile(Market.SPOT, symbol, Interval.M1, month)
            for month in _months()[: MANY // len(SYMBOLS)]
            for symbol in SYMBOLS
        ]
        _shared_out(_make_zips, [files[number::_PROCESSES] for number in range(_PROCESSES)])
        _keep(ZIPS)
    return ZIPS


def ensure_lake() -> Path:
    """A lake of `SYMBOLS` and sixty months, raw files and ledgers included, made by the package's own backfill."""
    if _is_stale(LAKE):
        _shared_out(_make_lake, [SYMBOLS[number::_PROCESSES] for number in range(_PROCESSES)])
        _keep(LAKE)
    return LAKE


def _make_zips(files: Iterable[ArchiveFile]) -> None:
    source = _source()
    for file in files:
        published = _published(file, _csv(source, file), _deflate)
        if published is None:
            raise LookupError(file.name)
        (ZIPS / file.name).write_bytes(published[0])
        (ZIPS / f"{file.name}.CHECKSUM").write_text(published[1], encoding="ascii")


def _make_lake(symbols: list[str]) -> None:
    source = _source()

    # A file is asked for twice, for its checksum and for itself, and a few files at once.
    @lru_cache(maxsize=8)
    def read(file: ArchiveFile) -> tuple[bytes, str] | None:
        return _published(file, _csv(source, file), _deflate_fast)

    for symbol in symbols:
        workspace = workspace_of(LAKE, read, [symbol])
        for outcome in backfill(workspace, workspace.partitions([symbol], _months()), NOW_US, use_rest=False):
            if outcome.error:
                raise outcome.error


def _published(file: ArchiveFile, csv: bytes | None, deflate: Deflate) -> tuple[bytes, str] | None:
    """A file as the archive would have it: its zip and its checksum file."""
    if csv is None:
        return None
    body = zip_of(Entry(f"{file.stem}.csv", deflate(csv), zlib.crc32(csv), len(csv)))
    return body, f"{hashlib.sha256(body).hexdigest()}  {file.name}\n"


def _deflate(csv: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(csv) + packer.flush()


def _deflate_fast(csv: bytes) -> bytes:
    return bytes(isal_zlib.compress(csv, 3, wbits=-15))


def _source() -> SyntheticSource:
    config = SandboxConfig(listed=parse_time(START))
    return SyntheticSource(SyntheticMarket(config), config)


def _csv(source: SyntheticSource, file: ArchiveFile) -> bytes | None:
    content = source.content(file)
    return content.csv if content else None


def _months() -> list[Month]:
    return Month.range(Month.parse(START[:7]), Month.parse(END[:7]))


def _shared_out(work: Callable[[list[Any]], None], shares: list[list[Any]]) -> None:
    """Do the shares in processes side by side."""
    with get_context("spawn").Pool(len(shares)) as pool:
        pool.map(work, [share for share in shares if share], chunksize=1)


def _is_stale(folder: Path) -> bool:
    """Whether a folder was not made by the code as it is; then it is emptied."""
    stamp = folder.with_suffix(".made-by")
    if stamp.is_file() and folder.is_dir() and stamp.read_text(encoding="ascii") == _fingerprint():
        return False
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def _keep(folder: Path) -> None:
    folder.with_suffix(".made-by").write_text(_fingerprint(), encoding="ascii")


def _fingerprint() -> str:
    sources = [
        Path(__file__),
        *(path for name in _MADE_BY for path in sorted((_PACKAGE / name).rglob("*.py"))),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
