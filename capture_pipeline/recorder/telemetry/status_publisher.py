"""The status of a recorder: collects the figures of its parts and replaces `status.json` each second."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import psutil

from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.refill_requests import Refills
from capture_pipeline.recorder.connections.health import ConnectionHealth, RestPauses
from capture_pipeline.recorder.connections.supervisor import Supervisor
from capture_pipeline.recorder.events import ConnectionOpened
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting
from capture_pipeline.recorder.telemetry.rate import Rate
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan, SessionState
from capture_pipeline.sessions.status import ConnectionStatus, Status, free_bytes, publish_status

_PROCESS = psutil.Process()


@dataclass
class StatusPublisher:
    """Reads the parts of a recorder and writes the status.

    Attributes:
        state: Current activity of the recorder; set by `publish`.
        latest: Last published status; None before the first one.
        rate: Rate of emitted messages.
    """

    folder: SessionFolder
    plan: SessionPlan
    pipeline: RecordingPipeline
    writer: Writer
    follower: BookFollower
    health: ConnectionHealth
    supervisor: Supervisor
    accounting: Accounting
    refills: Refills
    pauses: RestPauses
    state: SessionState = SessionState.STARTING
    latest: Status | None = None
    rate: Rate = field(default_factory=Rate)

    def begin_rate(self, _: ConnectionOpened) -> None:
        """Start to measure the rate at the first open connection."""
        self.rate.begin(time.monotonic(), self.pipeline.merge.counts.passed)

    def publish(self, state: SessionState) -> None:
        """Write the status."""
        self.state = state
        self.latest = self._status()
        publish_status(self.folder.status, self.latest)
        self.rate.add_sample(time.monotonic(), self.pipeline.merge.counts.passed)

    def _status(self) -> Status:
        """Return the current figures."""
        plan, pipeline, now_s = self.plan, self.pipeline, time.monotonic()
        tracks = pipeline.ledger.tracks
        return Status(
            session=plan.session,
            state=self.state,
            pid=os.getpid(),
            updated_ns=time.time_ns(),
            started_us=plan.start_us,
            ends_us=plan.start_us + round(plan.duration_s * 1e6),
            late_s=round(plan.late_s(pipeline.began_ns or time.time_ns()), 3),
            messages=pipeline.messages,
            messages_per_s=self.rate.per_s(now_s, pipeline.merge.counts.passed),
            last_ids={stream: track.last for stream, track in tracks.items()},
            lag_ms=None if plan.venue == "sandbox" else pipeline.lag_ms,
            file_bytes=self.writer.bytes_written,
            waiting_bytes=self.writer.waiting_bytes,
            disk_free_bytes=free_bytes(self.folder.path),
            rss_bytes=_PROCESS.memory_info().rss,
            held=pipeline.merge.held,
            dropped_messages=pipeline.counts.dropped_messages,
            gaps=sum(track.gaps for track in tracks.values()),
            ids_lost=sum(track.lost for track in tracks.values()),
            books=self.follower.states(),
            connections=self._connections(now_s),
            reconnects={str(cause): count for cause, count in pipeline.counts.connection_ends.items()},
            last_error=self.health.current,
            paused=self.pauses.current,
            trouble=self.writer.trouble,
            account=self.accounting.figures(),
            altered=self.accounting.altered,
            refills={str(state): count for state, count in self.refills.counts().items()},
        )

    def _connections(self, now_s: float) -> list[ConnectionStatus]:
        return [
            ConnectionStatus(
                number=one.number,
                slot=one.slot,
                age_s=now_s - one.opened_s,
                messages=one.messages,
                silent_s=now_s - one.last_s,
            )
            for one in self.supervisor.live.values()
            if one.opened_s is not None
        ]
