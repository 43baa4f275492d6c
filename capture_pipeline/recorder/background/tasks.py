"""Tasks that run next to the stream: snapshots for the books, audits, refills of lost trades, clock samples.

All of them send REST requests in threads. A failure is logged as an event and retried later. It never stops
the recording.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import snapshot_stream
from capture_pipeline.errors import CaptureError, RateLimitedError
from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread
from capture_pipeline.recorder.background.refill_requests import Refills
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.sessions.models import Gap
from capture_pipeline.settings.sessions import Recording

_LOOK_S = 0.1
_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0


class BackgroundTasks:
    """Background tasks of a recorder.

    Attributes:
        audits: Results of the audits.
        clock_samples: Offset of the exchange's clock and round trip of each sample.
        refills: Requests for lost trades.
    """

    def __init__(
        self,
        rest: RestClient,
        settings: Recording,
        pipeline: RecordingPipeline,
        follower: BookFollower,
        events: EventLog,
    ) -> None:
        """Create the tasks without starting them."""
        self.audits: list[dict[str, Any]] = []
        self.clock_samples: list[dict[str, Any]] = []
        self.refills = Refills(rest, pipeline, events)
        self._rest, self._settings, self._pipeline, self._follower, self._events = (
            rest,
            settings,
            pipeline,
            follower,
            events,
        )
        self._not_before: dict[str, float] = {}
        self._waits: dict[str, float] = {}
        self._fetching: set[str] = set()

    async def run(self, refilled_file: Path) -> None:
        """Run all tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._snapshots(group))
            group.create_task(self._every(self._settings.audit_minutes * 60, self._follower.begin_audits))
            group.create_task(self._sample_clock_forever())
            group.create_task(self.refills.run(refilled_file))

    def handle_gap(self, gap: Gap) -> None:
        """Handle a written gap: the book of lost diffs needs a new snapshot, lost trades are requested."""
        self._events.write(gap.end_ns, "gap", **gap.model_dump(mode="json"))
        if gap.recoverable:
            self.refills.add([gap])
        else:
            self._follower.invalidate(gap.stream)

    async def _snapshots(self, group: asyncio.TaskGroup) -> None:
        while True:
            now = time.monotonic()
            for symbol in self._follower.list_wanted_symbols():
                if symbol not in self._fetching and now >= self._not_before.get(symbol, 0.0):
                    self._fetching.add(symbol)
                    group.create_task(self._snapshot(symbol))
            for found in self._follower.take_audit_results():
                self.audits.append({"capture_ns": self._pipeline.clock.now_ns(), **found})
                self._events.write(self._pipeline.clock.now_ns(), "audit", **found)
            await asyncio.sleep(_LOOK_S)

    async def _snapshot(self, symbol: str) -> None:
        reason = "audit" if self._follower.is_audit(symbol) else "synchronisation"
        try:
            body = await run_in_daemon_thread(lambda: self._rest.depth(symbol, self._settings.snapshot_limit))
            is_useful = self._follower.apply_snapshot(symbol, body)
            stamp = (
                self._pipeline.record_unframed(snapshot_stream(symbol), body)
                if is_useful
                else self._pipeline.clock.now_ns()
            )
        except CaptureError as error:
            self._events.write(
                self._pipeline.clock.now_ns(),
                "snapshot_failed",
                symbol=symbol,
                reason=reason,
                error=str(error),
            )
            self._put_off(symbol, error.retry_after_s if isinstance(error, RateLimitedError) else 0.0)
        else:
            self._events.write(
                stamp, "snapshot" if is_useful else "snapshot_too_old", symbol=symbol, reason=reason
            )
            self._schedule_retry(symbol)
        finally:
            self._fetching.discard(symbol)

    def _put_off(self, symbol: str, min_s: float = 0.0) -> None:
        wait = self._waits.get(symbol, _FIRST_WAIT_S)
        self._not_before[symbol] = time.monotonic() + min_s + wait
        self._waits[symbol] = min(2 * wait, _MAX_WAIT_S)

    def _schedule_retry(self, symbol: str) -> None:
        """Schedule the next request for a snapshot if this one did not connect to the buffered diffs."""
        if symbol in self._follower.list_wanted_symbols():
            self._put_off(symbol)
        else:
            self._waits.pop(symbol, None)

    async def _sample_clock_forever(self) -> None:
        while True:
            await self._sample_clock()
            await asyncio.sleep(self._settings.clock_minutes * 60)

    async def _sample_clock(self) -> None:
        clock = self._pipeline.clock
        before = clock.now_ns()
        try:
            server_us = await run_in_daemon_thread(self._rest.server_time_us)
        except CaptureError as error:
            self._events.write(clock.now_ns(), "clock_sample_failed", error=str(error))
            return
        after = clock.now_ns()
        sample = {
            "capture_ns": after,
            "offset_ms": round((before + after) / 2e6 - server_us / 1e3, 3),
            "round_trip_ms": round((after - before) / 1e6, 3),
        }
        self.clock_samples.append(sample)
        self._events.write(
            after, "clock_sample", **{key: sample[key] for key in ("offset_ms", "round_trip_ms")}
        )

    @staticmethod
    async def _every(seconds: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            action()
