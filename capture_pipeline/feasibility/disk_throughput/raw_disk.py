"""What the medium itself does: plain bytes written with fsync and read back, past the page cache where the file system allows it.

The cache of a virtual machine's host cannot be dropped from inside: a rate of reading is that of this machine, host included.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capture_pipeline.errors import ConfigError
from capture_pipeline.lake.files import storage_errors

_BLOCK_BYTES = 8 << 20
_DIRECT, _NOWAIT = getattr(os, "O_DIRECT", 0), getattr(os, "RWF_NOWAIT", 0)
_PROBES = 16


@dataclass(frozen=True)
class MediumRate:
    """What plain files reached.

    Attributes:
        bytes: Of the file.
        write_s: Written through the page cache, fsync included.
        read_s: Read after its pages were dropped.
        direct_write_s: Written past the page cache (O_DIRECT), fsync included; None where that is not possible.
        direct_read_s: Read past it; likewise.
        cached: Share of the file that was still in the page cache when `read_s` began; None where it cannot be told.
    """

    bytes: int
    write_s: float
    read_s: float
    direct_write_s: float | None
    direct_read_s: float | None
    cached: float | None

    @property
    def write_rate(self) -> float:
        """Bytes a second, the better of both ways."""
        return self.bytes / min(filter(None, (self.write_s, self.direct_write_s)))

    @property
    def read_rate(self) -> float:
        """Bytes a second, past the page cache where possible."""
        return self.bytes / (self.direct_read_s or self.read_s)


def measure_medium(folder: Path, size: int) -> MediumRate:
    """Write and read a file of random bytes.

    Args:
        folder: On the medium; the file is removed.
        size: Bytes, a multiple of 8 MiB.

    Raises:
        ConfigError: It is none.
        StorageError: The disk refuses.
    """
    if size < _BLOCK_BYTES or size % _BLOCK_BYTES:
        raise ConfigError(
            f"{size:,} bytes are no multiple of {_BLOCK_BYTES:,}", remedy="ask for whole blocks of 8 MiB"
        )
    path = folder / "medium.bin"
    with mmap.mmap(-1, _BLOCK_BYTES) as block, storage_errors(path):  # a map is aligned as O_DIRECT wants it
        block.write(os.urandom(_BLOCK_BYTES))
        try:
            direct_write_s, direct_read_s = _direct(path, block, size)
            write_s = _written(path, block, size, 0)
            left = drop_pages(path)
            return MediumRate(size, write_s, _read(path, block, size, 0), direct_write_s, direct_read_s, left)
        finally:
            path.unlink(missing_ok=True)


def drop_pages(path: Path) -> float | None:
    """Ask the kernel to forget a file's pages.

    Returns:
        Share of probed places that are still cached, None where the kernel does not tell.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return _cached(descriptor)
    finally:
        os.close(descriptor)


def _cached(descriptor: int) -> float | None:
    """Reads that may not wait for the disk succeed only on cached pages."""
    size = os.fstat(descriptor).st_size
    if not _NOWAIT or not size:
        return None
    found = 0
    # Backwards and far apart: one read could make the kernel fetch what follows it.
    for probe in reversed(range(_PROBES)):
        try:
            found += bool(os.preadv(descriptor, [bytearray(1)], probe * size // _PROBES, _NOWAIT))
        except BlockingIOError:
            continue
        except OSError:
            return None
    return found / _PROBES


def _direct(path: Path, block: mmap.mmap, size: int) -> tuple[float | None, float | None]:
    if not _DIRECT:
        return None, None
    try:
        return _written(path, block, size, _DIRECT), _read(path, block, size, _DIRECT)
    except OSError as error:
        if error.errno in {22, 95}:  # EINVAL, EOPNOTSUPP: this file system has no such way
            return None, None
        raise


def _written(path: Path, block: mmap.mmap, size: int, flags: int) -> float:
    path.unlink(missing_ok=True)
    with _opened(path, os.O_WRONLY | os.O_CREAT | flags) as descriptor:
        started = time.perf_counter()
        for _ in range(size // _BLOCK_BYTES):
            _whole(os.write(descriptor, block))
        os.fsync(descriptor)
        return time.perf_counter() - started


def _read(path: Path, block: mmap.mmap, size: int, flags: int) -> float:
    with _opened(path, os.O_RDONLY | flags) as descriptor:
        started = time.perf_counter()
        for _ in range(size // _BLOCK_BYTES):
            _whole(os.readv(descriptor, [block]))
        return time.perf_counter() - started


def _whole(count: int) -> None:
    if count != _BLOCK_BYTES:
        raise OSError(5, f"{count} of {_BLOCK_BYTES} bytes")


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
