"""Rates of the disk itself: plain bytes are written with fsync and read, without the page cache if possible.

The cache of a virtual machine's host cannot be dropped from inside, so a rate of reading may include that
cache.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.errors import ConfigError
from capture_pipeline.lake.files import storage_errors

_BLOCK_BYTES = 8 << 20
_DIRECT, _NOWAIT = getattr(os, "O_DIRECT", 0), getattr(os, "RWF_NOWAIT", 0)
_PROBES = 16


@dataclass(frozen=True)
class MediumRate:
    """Times of a plain file.

    Attributes:
        bytes: Size of the file.
        write_s: Seconds to write the file through the page cache, including fsync.
        read_s: Seconds to read the file after its pages were dropped.
        direct_write_s: Seconds to write the file without the page cache (O_DIRECT), including fsync; None if
            that is not possible.
        direct_read_s: Seconds to read the file without the page cache; None if that is not possible.
        cached: Share of the file that was still in the page cache before the read of `read_s`; None if it is
            unknown.
    """

    bytes: int
    write_s: float
    read_s: float
    direct_write_s: float | None
    direct_read_s: float | None
    cached: float | None

    @property
    def write_rate(self) -> float:
        """Bytes written per second, through the page cache or without it, whichever is faster."""
        return self.bytes / min(filter(None, (self.write_s, self.direct_write_s)))

    @property
    def read_rate(self) -> float:
        """Bytes read per second, without the page cache if possible."""
        return self.bytes / (self.direct_read_s or self.read_s)


def measure_medium(folder: Path, size: int) -> MediumRate:
    """Write and read a file of random bytes.

    Args:
        folder: Folder on the disk; the file is removed.
        size: Size in bytes, a multiple of 8 MiB.

    Raises:
        ConfigError: `size` is not a positive multiple of 8 MiB.
        StorageError: The file cannot be written.
    """
    if size < _BLOCK_BYTES or size % _BLOCK_BYTES:
        raise ConfigError(
            f"{size:,} bytes are not a positive multiple of {_BLOCK_BYTES:,}",
            remedy="request whole blocks of 8 MiB",
        )
    path = folder / "medium.bin"
    with mmap.mmap(-1, _BLOCK_BYTES) as block, storage_errors(path):  # O_DIRECT needs the alignment of a map
        block.write(os.urandom(_BLOCK_BYTES))
        try:
            direct = _time_direct(path, block, size)
            write_s = _time_write(path, block, size, 0)
            cached = drop_pages(path)
            read_s = _time_read(path, block, size, 0)
            return MediumRate(size, write_s, read_s, direct.write_s, direct.read_s, cached)
        finally:
            path.unlink(missing_ok=True)


def drop_pages(path: Path) -> float | None:
    """Drop the pages of a file from the page cache.

    Returns:
        Share of probed positions that are still cached; None if the kernel does not report it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return _probe_cache(descriptor)
    finally:
        os.close(descriptor)


def _probe_cache(descriptor: int) -> float | None:
    """Return the cached share of a file. Reads with RWF_NOWAIT succeed only on cached pages."""
    size = os.fstat(descriptor).st_size
    if not _NOWAIT or not size:
        return None
    found = 0
    # The probes go backwards and are far apart, because the kernel may read ahead after each.
    for probe in reversed(range(_PROBES)):
        try:
            found += bool(os.preadv(descriptor, [bytearray(1)], probe * size // _PROBES, _NOWAIT))
        except BlockingIOError:
            continue
        except OSError:
            return None
    return found / _PROBES


class _DirectTimes(NamedTuple):
    """Seconds of a write and of a read with O_DIRECT; None without support."""

    write_s: float | None
    read_s: float | None


def _time_direct(path: Path, block: mmap.mmap, size: int) -> _DirectTimes:
    if not _DIRECT:
        return _DirectTimes(None, None)
    try:
        return _DirectTimes(_time_write(path, block, size, _DIRECT), _time_read(path, block, size, _DIRECT))
    except OSError as error:
        if error.errno in {22, 95}:  # EINVAL, EOPNOTSUPP: the file system does not support O_DIRECT
            return _DirectTimes(None, None)
        raise


def _time_write(path: Path, block: mmap.mmap, size: int, flags: int) -> float:
    path.unlink(missing_ok=True)
    with _open(path, os.O_WRONLY | os.O_CREAT | flags) as descriptor:
        started = time.perf_counter()
        for _ in range(size // _BLOCK_BYTES):
            _check_complete(os.write(descriptor, block))
        os.fsync(descriptor)
        return time.perf_counter() - started


def _time_read(path: Path, block: mmap.mmap, size: int, flags: int) -> float:
    with _open(path, os.O_RDONLY | flags) as descriptor:
        started = time.perf_counter()
        for _ in range(size // _BLOCK_BYTES):
            _check_complete(os.readv(descriptor, [block]))
        return time.perf_counter() - started


def _check_complete(count: int) -> None:
    if count != _BLOCK_BYTES:
        raise OSError(5, f"{count} of {_BLOCK_BYTES} bytes")


@contextlib.contextmanager
def _open(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
