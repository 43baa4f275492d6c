"""Inputs of the benchmarks: zips of the synthetic market, and a lake of 600 symbol-months.

All inputs depend only on the seed. They are stored in `out/` and built again after a change of the code of
the package.
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
from offline import NOW_US, OfflineDeployment, Reader, create_settings

from capture_pipeline.binance.periods import Interval, Month, parse_time
from capture_pipeline.binance.urls import ArchiveFile, Market
from capture_pipeline.klines.backfill import backfill
from capture_pipeline.settings.models import DEFAULT_SYMBOLS
from sandbox_exchange.archive.corrupt_zip import ZipEntry, build_zip
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.sources.synthetic import SyntheticSource

Deflate = Callable[[bytes], bytes]
OUT = Path(__file__).parent / "out"
ZIPS, LAKE = OUT / "zips", OUT / "lake"
START, END = "2021-01-01", "2025-12-31"
FEW, MANY = 24, 120
SYMBOLS = DEFAULT_SYMBOLS
PARTITIONS = 600
_ROOT = Path(__file__).parent.parent
_SOURCE_FOLDERS = (
    "capture_pipeline/lake",
    "capture_pipeline/tables",
    "capture_pipeline/klines",
    "sandbox_exchange",
)
_PROCESSES = max(1, min(8, os.cpu_count() or 1))


def create_deployment(root: Path, read: Reader, symbols: list[str] = SYMBOLS) -> OfflineDeployment:
    """Create the deployment of the benchmarks: ten symbols and sixty months."""
    return OfflineDeployment(create_settings(root, symbols, START, END), read)


def ensure_zips() -> Path:
    """Build the zips and checksum files of the first `MANY` symbol-months if needed; return their folder."""
    if _prepare_if_stale(ZIPS):
        files = [
            ArchiveFile(Market.SPOT, symbol, Interval.M1, month)
            for month in _months()[: MANY // len(SYMBOLS)]
            for symbol in SYMBOLS
        ]
        _run_parallel(_make_zips, [files[number::_PROCESSES] for number in range(_PROCESSES)])
        _mark_current(ZIPS)
    return ZIPS


def ensure_lake() -> Path:
    """Build a lake of `SYMBOLS` and sixty months by a backfill if needed; return its folder."""
    if _prepare_if_stale(LAKE):
        _run_parallel(_make_lake, [SYMBOLS[number::_PROCESSES] for number in range(_PROCESSES)])
        _mark_current(LAKE)
    return LAKE


def _make_zips(files: Iterable[ArchiveFile]) -> None:
    source = _source()
    for file in files:
        published = _build_published(file, _csv(source, file), _deflate)
        if published is None:
            raise LookupError(file.name)
        (ZIPS / file.name).write_bytes(published[0])
        (ZIPS / f"{file.name}.CHECKSUM").write_text(published[1], encoding="ascii")


def _make_lake(symbols: list[str]) -> None:
    source = _source()

    # Each file is requested twice, for its checksum and its content, and a few files are requested in
    # parallel.
    @lru_cache(maxsize=8)
    def read(file: ArchiveFile) -> tuple[bytes, str] | None:
        return _build_published(file, _csv(source, file), _deflate_fast)

    for symbol in symbols:
        deployment = create_deployment(LAKE, read, [symbol])
        for outcome in backfill(
            deployment, deployment.partitions([symbol], _months()), NOW_US, use_rest=False
        ):
            if outcome.error:
                raise outcome.error


def _build_published(file: ArchiveFile, csv: bytes | None, deflate: Deflate) -> tuple[bytes, str] | None:
    """Build the zip and the checksum file of an archive file."""
    if csv is None:
        return None
    body = build_zip(ZipEntry(f"{file.stem}.csv", deflate(csv), zlib.crc32(csv), len(csv)))
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


def _run_parallel(work: Callable[[list[Any]], None], shares: list[list[Any]]) -> None:
    """Process the shares in parallel processes."""
    with get_context("spawn").Pool(len(shares)) as pool:
        pool.map(work, [share for share in shares if share], chunksize=1)


def _prepare_if_stale(folder: Path) -> bool:
    """Return whether a folder is not from the present code; a stale folder is emptied."""
    stamp = folder.with_suffix(".made-by")
    if stamp.is_file() and folder.is_dir() and stamp.read_text(encoding="ascii") == _fingerprint():
        return False
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def _mark_current(folder: Path) -> None:
    folder.with_suffix(".made-by").write_text(_fingerprint(), encoding="ascii")


def _fingerprint() -> str:
    sources = [
        Path(__file__),
        *(path for name in _SOURCE_FOLDERS for path in sorted((_ROOT / name).rglob("*.py"))),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
