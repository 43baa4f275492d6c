"""Tasks that run next to the stream: snapshots for the books, audits, refills of lost trades, clock samples.

All of them send REST requests in threads. A failure is published as an event and retried later. It never
stops the recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import stamina

from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import snapshot_stream
from capture_pipeline.errors import CaptureError, RateLimitedError, TransientError
from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread
from capture_pipeline.recorder.background.refill_requests import Refills
from capture_pipeline.recorder.events import (
    BookAudited,
    ClockSampled,
    ClockSampleFailed,
    EventBus,
    GapFound,
    SnapshotFailed,
    SnapshotOutdated,
    SnapshotRecorded,
)
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.settings.sessions import Recording

_LOOK_S = 0.1
_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0


class BackgroundTasks:
    """Background tasks of a recorder.

    Attributes:
        refills: Requests for lost trades.
    """

    def __init__(
        self,
        rest: RestClient,
        settings: Recording,
        pipeline: RecordingPipeline,
        follower: BookFollower,
        events: EventBus,
    ) -> None:
        """Create the tasks without starting them."""
        self.refills = Refills(rest, pipeline, events)
        self._rest, self._settings, self._pipeline = rest, settings, pipeline
        self._follower, self._events = follower, events
        self._fetching: set[str] = set()
        events.subscribe(GapFound, self._handle_gap)

    async def run(self, refilled_file: Path) -> None:
        """Run all tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._synchronize_books(group))
            group.create_task(self._every(self._settings.audit_minutes * 60, self._follower.begin_audits))
            group.create_task(self._sample_clock_forever())
            group.create_task(self.refills.run(refilled_file))

    def _handle_gap(self, event: GapFound) -> None:
        """Request lost trades; the book of lost diffs needs a new snapshot."""
        if event.gap.recoverable:
            self.refills.add([event.gap])
        else:
            self._follower.invalidate(event.gap.stream)

    async def _synchronize_books(self, group: asyncio.TaskGroup) -> None:
        while True:
            for symbol in self._follower.list_wanted_symbols():
                if symbol not in self._fetching:
                    self._fetching.add(symbol)
                    group.create_task(self._synchronize_book(symbol))
            for found in self._follower.take_audit_results():
                self._events.publish(BookAudited({"capture_ns": self._pipeline.clock.now_ns(), **found}))
            await asyncio.sleep(_LOOK_S)

    async def _synchronize_book(self, symbol: str) -> None:
        """Request snapshots of a book until it needs no further one."""
        try:
            async for attempt in stamina.retry_context(
                on=CaptureError,
                attempts=None,
                timeout=None,
                wait_initial=_FIRST_WAIT_S,
                wait_max=_MAX_WAIT_S,
                wait_jitter=0.0,
            ):
                with attempt:
                    if attempt.num == 1 or symbol in self._follower.list_wanted_symbols():
                        await self._request_snapshot(symbol)
        finally:
            self._fetching.discard(symbol)

    async def _request_snapshot(self, symbol: str) -> None:
        """Request a snapshot, apply it to the book and record it.

        Raises:
            CaptureError: The request failed, or the book needs another snapshot.
        """
        reason = "audit" if self._follower.is_audit(symbol) else "synchronisation"
        try:
            body = await run_in_daemon_thread(lambda: self._rest.depth(symbol, self._settings.snapshot_limit))
            is_useful = self._follower.apply_snapshot(symbol, body)
            if is_useful:
                stamp = self._pipeline.record_unframed(snapshot_stream(symbol), body)
                self._events.publish(SnapshotRecorded(stamp, symbol, reason))
            else:
                self._events.publish(SnapshotOutdated(symbol, reason))
        except CaptureError as error:
            self._events.publish(SnapshotFailed(symbol, reason, str(error)))
            if isinstance(error, RateLimitedError):
                await asyncio.sleep(error.retry_after_s)
            raise
        if symbol in self._follower.list_wanted_symbols():
            raise TransientError("needs another snapshot", where=symbol)

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
            self._events.publish(ClockSampleFailed(str(error)))
            return
        after = clock.now_ns()
        offset_ms = round((before + after) / 2e6 - server_us / 1e3, 3)
        self._events.publish(ClockSampled(after, offset_ms, round((after - before) / 1e6, 3)))

    @staticmethod
    async def _every(seconds: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            action()
