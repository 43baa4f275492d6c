"""Store of the limits of this IP address at one exchange: pauses, and attempts to open stream connections.

All processes with the same storage root share the store. Binance allows 300 connection attempts in five
minutes per IP address (source: its documentation of WebSocket limits).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field

from capture_pipeline.binance.http.pauses import HostGroup, Pause, affected_hosts
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.periods import MINUTE_US
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.terminal import logger

WINDOW_US = 5 * MINUTE_US
_LOCK_S = 1.0
"""Longest wait for the lock; another process needs it for milliseconds."""
_log = logger(__name__)


class _Record(BaseModel):
    """The content of the store.

    Attributes:
        pauses: Pause of each group of hosts.
        attempts_us: Times of the attempts to open stream connections in the last five minutes, wall clock,
            UTC.
    """

    pauses: dict[HostGroup, Pause] = {}
    attempts_us: list[Annotated[int, Field(ge=0)]] = []

    def at(self, now_us: int) -> _Record:
        """Return the pauses and attempts that count at a time.

        An attempt with a later time, from before the clock was set back, counts as an attempt at `now_us`.
        """
        pauses = {part: pause.at(now_us) for part, pause in self.pauses.items()}
        attempts = [min(each, now_us) for each in self.attempts_us if now_us - each < WINDOW_US]
        return _Record(
            pauses={part: pause for part, pause in pauses.items() if pause.until_us > now_us},
            attempts_us=attempts,
        )


class AddressLimits:
    """Pauses and connection attempts, stored in a file of the storage root.

    If the file is damaged or cannot be read or written, this process continues with the limits that it knows
    itself.
    """

    def __init__(self, path: Path, limits: RateLimits, *, now_s: Callable[[], float] = time.time) -> None:
        """Set the file; nothing is read or written yet.

        Args:
            path: The file.
            limits: The number of connection attempts, and the share of it that may be used.
            now_s: Wall clock, seconds.
        """
        self._path, self._lock_path = path, path.with_suffix(".lock")
        self._max_attempts = max(1, int(limits.connections_per_5_minutes * limits.use_percent / 100))
        total = limits.connections_per_5_minutes
        self._detail = f"{self._max_attempts} of {total} connection attempts in five minutes are used"
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._signature: _FileSignature | None = None
        self._record = _Record()
        self._unsaved: _Record | None = None
        self._last_warning = ""

    def pause(self, part: HostGroup) -> Pause | None:
        """Return the current pause of a group of hosts, or None if requests may be sent."""
        with self._mutex:
            stored, now_us = self._read(), self._now_us()
            record = stored.at(now_us)
        # A pause differs if the clock was set back. Its new end is stored, so that it does not move again.
        if any(record.pauses[each] != stored.pauses[each] for each in record.pauses):
            with self._lock_store():
                record = self._read().at(now_us)
                self._write(record)
        return record.pauses.get(part)

    def refuse(self, part: HostGroup, status: int, wait_s: float) -> Pause:
        """Record that the exchange refused this address. A stored pause with a later end is kept.

        Args:
            part: Group of the host that refused.
            status: 429, 418 or 403.
            wait_s: Length of the pause, seconds.
        """
        with self._lock_store():
            now_us = self._now_us()
            record = self._read().at(now_us)
            new = Pause(since_us=now_us, until_us=now_us + round(wait_s * 1e6), status=status).at(now_us)
            for each in affected_hosts(status, part):
                if each not in record.pauses or record.pauses[each].until_us < new.until_us:
                    record.pauses[each] = new
            self._write(record)
        return record.pauses[part]

    def count_attempt(self) -> Pause | None:
        """Count an attempt to open a stream connection.

        Returns:
            None if the connection may be opened. Otherwise the current pause; the attempt is not counted.
        """
        with self._lock_store():
            now_us = self._now_us()
            record = self._read().at(now_us)
            if (pause := record.pauses.get(HostGroup.STREAMS)) is not None:
                return pause
            attempts = sorted(record.attempts_us)
            if len(attempts) >= self._max_attempts:
                self._write(record)
                return Pause(
                    since_us=now_us,
                    until_us=attempts[-self._max_attempts] + WINDOW_US,
                    status=None,
                    detail=self._detail,
                )
            record.attempts_us = [*attempts, now_us]
            self._write(record)
        return None

    def _now_us(self) -> int:
        return round(self._now_s() * 1e6)

    @contextlib.contextmanager
    def _lock_store(self) -> Iterator[None]:
        """Lock the store. Continue without the lock if another process keeps it for longer than `_LOCK_S`."""
        with self._mutex, contextlib.ExitStack() as stack:
            with contextlib.suppress(CaptureError, OSError):
                stack.enter_context(file_lock(self._lock_path, _LOCK_S))
            yield

    def _read(self) -> _Record:
        """Return the record of the file, merged with a record that could not be written."""
        try:
            signature = _file_signature(self._path)
            if signature != self._signature:
                self._record, self._signature = read_model(self._path, _Record) or _Record(), signature
        except FileNotFoundError:
            self._record, self._signature = _Record(), None
        except (CaptureError, OSError) as error:
            self._record, self._signature = _Record(), None
            self._warn(f"{error}; limits are unknown until the next answer of the exchange")
        return self._record if self._unsaved is None else _merge(self._record, self._unsaved)

    def _write(self, record: _Record) -> None:
        """Publish the record; flush it to the disk only if it has a pause. A power cut may lose attempts."""
        try:
            publish_model(self._path, record, is_durable=bool(record.pauses))
            signature = _file_signature(self._path)
        except (CaptureError, OSError) as error:
            self._unsaved = record
            self._warn(f"{error}; other processes do not see the new limits of the exchange")
        else:
            self._record, self._signature = record, signature
            self._unsaved, self._last_warning = None, ""

    def _warn(self, text: str) -> None:
        """Log a problem of the store once."""
        if text != self._last_warning:
            self._last_warning = text
            _log.warning("%s", text)


class _FileSignature(NamedTuple):
    """Values that differ between two versions of a file."""

    inode: int
    modified_ns: int
    size: int


def _file_signature(path: Path) -> _FileSignature:
    found = path.stat()
    return _FileSignature(found.st_ino, found.st_mtime_ns, found.st_size)


def _merge(one: _Record, other: _Record) -> _Record:
    """Return the later pause of each group of hosts, and the longer list of attempts."""
    pauses = dict(one.pauses)
    for part, pause in other.pauses.items():
        if part not in pauses or pauses[part].until_us < pause.until_us:
            pauses[part] = pause
    return _Record(pauses=pauses, attempts_us=max(one.attempts_us, other.attempts_us, key=len))
