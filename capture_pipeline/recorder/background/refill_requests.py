"""REST requests for lost trades during the recording.

Each gap is requested page by page and retried, until its ids are complete or the archive publishes their day.
A gap has its state in the ledger (`RefillState`) and its trades in `refilled_trades.jsonl`. A later process
continues from both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import stamina

from capture_pipeline.binance.archive.protocol import due_us
from capture_pipeline.binance.periods import from_us
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.errors import AccessDeniedError, CaptureError, RequestRefusedError, TransientError
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread
from capture_pipeline.recorder.background.trade_backfill import Refill
from capture_pipeline.recorder.events import EventBus, RefillAttempted, RefillEnded, RefillFailed
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.sessions.models import Gap, RefillCount, RefillState, count_refills

_FIRST_WAIT_S, _MAX_WAIT_S = 3.0, 900.0
_SHARE = 0.25
"""Largest share of the request weight that refills use; snapshots of the books need the rest."""


class Refills:
    """Gaps whose ids are requested from REST, one page at a time."""

    def __init__(self, rest: RestClient, pipeline: RecordingPipeline, events: EventBus) -> None:
        """Start without gaps."""
        self._rest, self._pipeline, self._events = rest, pipeline, events
        self._gaps: dict[tuple[str, int], Gap] = {}
        self._new: asyncio.Queue[Gap] = asyncio.Queue()
        self._request_lock = asyncio.Lock()

    def add(self, gaps: Iterable[Gap]) -> None:
        """Add gaps, also those of an earlier process; gaps that need no request are only counted."""
        for gap in gaps:
            if not gap.recoverable:
                continue
            self._gaps[gap.stream, gap.last_good_id] = gap
            if gap.filled_by is None and gap.refill in {None, RefillState.PENDING}:
                self._new.put_nowait(gap)

    def counts(self) -> dict[RefillState, RefillCount]:
        """Count the gaps by state."""
        return count_refills(self._gaps.values())

    async def run(self, path: Path) -> None:
        """Request the ids of every added gap until cancelled.

        Args:
            path: `refilled_trades.jsonl` of the session.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._fill(await self._new.get(), path))

    async def _fill(self, gap: Gap, path: Path) -> None:
        # Trades reach REST with some delay ("Database" as the source in the exchange's documentation).
        await asyncio.sleep(_FIRST_WAIT_S)
        async for attempt in stamina.retry_context(
            on=(CaptureError, OSError),
            attempts=None,
            timeout=None,
            wait_initial=_FIRST_WAIT_S,
            wait_max=_MAX_WAIT_S,
        ):
            with attempt:
                try:
                    await self._attempt(gap, path)
                except (CaptureError, OSError) as error:
                    if (state := self._final_state(error, gap)) is None:
                        raise
                    self._finish_gap(self._gaps[gap.stream, gap.last_good_id], state)

    async def _attempt(self, gap: Gap, path: Path) -> None:
        """Request all pages from the first missing id on.

        Raises:
            CaptureError: A request fails, or ids are still missing at the end.
            OSError: `refilled_trades.jsonl` cannot be written.
        """
        refill = await run_in_daemon_thread(lambda: Refill(gap, path))
        try:
            refill.begin()
            while refill.has_next_page:
                async with self._request_lock:
                    await run_in_daemon_thread(lambda: refill.request_page(self._rest))
                    self._update_progress(gap, refill.ids_refilled)
                    await asyncio.sleep(self._rest.agg_trades_pause_s(_SHARE))
        except (CaptureError, OSError) as error:
            self._events.publish(RefillFailed(gap.stream, gap.last_good_id, str(error)))
            raise
        self._events.publish(
            RefillAttempted(gap.stream, gap.last_good_id, refill.is_complete, refill.ids_refilled)
        )
        if not refill.is_complete:
            raise TransientError(
                f"{gap.ids_lost - refill.ids_refilled:,} of {gap.ids_lost:,} lost ids are still missing",
                where=gap.stream,
            )
        self._finish_gap(self._update_progress(gap, refill.ids_refilled), RefillState.COMPLETE, path.name)

    def _final_state(self, error: Exception, gap: Gap) -> RefillState | None:
        """Return the final state of a gap after an error, or None if the gap is retried.

        A refusal with a code of the exchange is final, for instance -4166 of USD-M futures for trades older
        than two days.
        """
        if (
            isinstance(error, RequestRefusedError)
            and not isinstance(error, AccessDeniedError)
            and error.code is not None
        ):
            return RefillState.REFUSED
        newest = self._pipeline.newest
        end_us = gap.end_event_us or gap.end_ns // 1000
        is_due = newest is not None and event_us(newest.event_time) >= due_us(from_us(end_us).date())
        return RefillState.OVERDUE if is_due else None

    def _update_progress(self, gap: Gap, ids_refilled: int) -> Gap:
        known = self._gaps[gap.stream, gap.last_good_id].model_copy(update={"ids_refilled": ids_refilled})
        self._gaps[gap.stream, gap.last_good_id] = known
        return known

    def _finish_gap(self, gap: Gap, state: RefillState, filled_by: str | None = None) -> None:
        final = gap.model_copy(update={"refill": state, "filled_by": filled_by})
        self._gaps[gap.stream, gap.last_good_id] = final
        self._pipeline.write_gap_update(final)
        if state is not RefillState.COMPLETE:
            self._events.publish(RefillEnded(gap.stream, gap.last_good_id, state, gap.ids_refilled))
