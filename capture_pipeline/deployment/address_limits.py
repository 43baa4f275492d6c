"""The store of an address's limits at one exchange: pauses, and attempts to open stream connections. All processes of a root share it.

Source of the number of attempts: the exchange's page of WebSocket limits, 300 in five minutes per IP.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from capture_pipeline.binance.http.pauses import HostGroup, Pause, affected_hosts
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.periods import MINUTE_US
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.files import file_lock, publish_model, read_model
from capture_pipeline.terminal import logger

WINDOW_US = 5 * MINUTE_US
_LOCK_S = 1.0
"""How long to wait for another process that writes; it needs milliseconds."""
_log = logger(__name__)


class _Record(BaseModel):
    """The content of the store.

    Attributes:
        pauses: By the hosts that they are about.
        attempts_us: Attempts to open stream connections of the last five minutes, microseconds UTC, wall clock.
    """

    pauses: dict[HostGroup, Pause] = {}
    attempts_us: list[Annotated[int, Field(ge=0)]] = []

    def at(self, now_us: int) -> _Record:
        """Return what is in force by the clock of now. Attempts of a clock that was set back since are counted as made now."""
        pauses = {part: pause.at(now_us) for part, pause in self.pauses.items()}
        attempts = [min(each, now_us) for each in self.attempts_us if now_us - each < WINDOW_US]
        return _Record(
            pauses={part: pause for part, pause in pauses.items() if pause.until_us > now_us},
            attempts_us=attempts,
        )


class AddressLimits:
    """A file of the storage root. Where the disk refuses or the file is damaged, this process goes on with what it knows itself."""

    def __init__(self, path: Path, limits: RateLimits, *, now_s: Callable[[], float] = time.time) -> None:
        """Keep the place.

        Args:
            path: The file.
            limits: The number of connection attempts, and the share of it that is used.
            now_s: Wall clock, seconds.
        """
        self._path, self._lock_path = path, path.with_suffix(".lock")
        self._most = max(1, int(limits.connections_per_5_minutes * limits.use_percent / 100))
        self._budget = (
            f"{self._most} of {limits.connections_per_5_minutes} connection attempts in five minutes are used"
        )
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._record = _Record()
        self._unsaved: _Record | None = None
        self._warned = ""

    def pause(self, part: HostGroup) -> Pause | None:
        """Return the pause in force, None where requests may be sent."""
        with self._mutex:
            known, now_us = self._read(), self._now_us()
            record = known.at(now_us)
        if any(
            record.pauses[each] != known.pauses[each] for each in record.pauses
        ):  # the clock was set back: the new end has to last
            with self._exclusive():
                record = self._read().at(now_us)
                self._write(record)
        return record.pauses.get(part)

    def refuse(self, part: HostGroup, status: int, wait_s: float) -> Pause:
        """Record a refusal of the address; a pause that ends later stays.

        Args:
            part: The hosts that refused.
            status: 429, 418 or 403.
            wait_s: Seconds.
        """
        with self._exclusive():
            now_us = self._now_us()
            record = self._read().at(now_us)
            new = Pause(since_us=now_us, until_us=now_us + round(wait_s * 1e6), status=status).at(now_us)
            for each in affected_hosts(status, part):
                if each not in record.pauses or record.pauses[each].until_us < new.until_us:
                    record.pauses[each] = new
            self._write(record)
        return record.pauses[part]

    def count_attempt(self) -> Pause | None:
        """Count an attempt to open a stream connection; the pause in force where it may not be made, and is not counted."""
        with self._exclusive():
            now_us = self._now_us()
            record = self._read().at(now_us)
            if (pause := record.pauses.get(HostGroup.STREAMS)) is not None:
                return pause
            attempts = sorted(record.attempts_us)
            if len(attempts) >= self._most:
                self._write(record)
                return Pause(
                    since_us=now_us,
                    until_us=attempts[-self._most] + WINDOW_US,
                    status=None,
                    detail=self._budget,
                )
            record.attempts_us = [*attempts, now_us]
            self._write(record)
        return None

    def _now_us(self) -> int:
        return round(self._now_s() * 1e6)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other threads and processes from writing; a process that holds the lock for long is not waited for."""
        with self._mutex, contextlib.ExitStack() as stack:
            with contextlib.suppress(CaptureError, OSError):
                stack.enter_context(file_lock(self._lock_path, _LOCK_S))
            yield

    def _read(self) -> _Record:
        """Return the record of the file, with what could not be written to it."""
        try:
            found = self._path.stat()
            seen = found.st_ino, found.st_mtime_ns, found.st_size
            if seen != self._seen:
                self._record, self._seen = read_model(self._path, _Record) or _Record(), seen
        except FileNotFoundError:
            self._record, self._seen = _Record(), None
        except (CaptureError, OSError) as error:
            self._record, self._seen = _Record(), None
            self._warn(f"{error}; limits of the exchange are read anew from its answers")
        return self._record if self._unsaved is None else _joined(self._record, self._unsaved)

    def _write(self, record: _Record) -> None:
        """Publish the record; a pause survives a loss of power, a count of attempts need not."""
        try:
            publish_model(self._path, record, is_durable=bool(record.pauses))
            found = self._path.stat()
        except (CaptureError, OSError) as error:
            self._unsaved = record
            self._warn(f"{error}; other processes do not learn of the exchange's limits")
        else:
            self._record, self._seen = record, (found.st_ino, found.st_mtime_ns, found.st_size)
            self._unsaved, self._warned = None, ""

    def _warn(self, text: str) -> None:
        """Log a trouble of the store once."""
        if text != self._warned:
            self._warned = text
            _log.warning("%s", text)


def _joined(one: _Record, other: _Record) -> _Record:
    """Return the later pause of each part and the longer list of attempts."""
    pauses = dict(one.pauses)
    for part, pause in other.pauses.items():
        if part not in pauses or pauses[part].until_us < pause.until_us:
            pauses[part] = pause
    return _Record(pauses=pauses, attempts_us=max(one.attempts_us, other.attempts_us, key=len))
