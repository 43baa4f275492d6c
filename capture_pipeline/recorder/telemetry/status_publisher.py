"""The status of a recorder: collects the figures of its parts and replaces `status.json` each second."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.refill_requests import Refills
from capture_pipeline.recorder.connections.health import ConnectionHealth, RestPauses
from capture_pipeline.recorder.connections.supervisor import Supervisor
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting
from capture_pipeline.recorder.telemetry.incidents import Incidents
from capture_pipeline.recorder.telemetry.rate import Rate
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan
from capture_pipeline.sessions.status import ConnectionStatus, Status, free_bytes, publish_status, rss_bytes


@dataclass
class StatusPublisher:
    """Reads the parts of a recorder and writes the status.

    Attributes:
        state: Current activity of the recorder; set by `publish`.
        rate: Rate of emitted messages.
    """

    folder: SessionFolder
    plan: SessionPlan
    pipeline: RecordingPipeline
    writer: Writer
    follower: BookFollower
    incidents: Incidents
    troubles: ConnectionHealth
    supervisor: Supervisor
    accounting: Accounting
    refills: Refills
    pauses: RestPauses
    state: str = "starting"
    rate: Rate = field(default_factory=Rate)

    def begin(self) -> None:
        """Start to measure the rate; called when the first connection is open."""
        self.rate.begin(time.monotonic(), self.pipeline.merge.counts.passed)

    def publish(self, state: str) -> None:
        """Write the status."""
        self.state = state
        publish_status(self.folder.status, self.status())
        self.rate.add_sample(time.monotonic(), self.pipeline.merge.counts.passed)

    def status(self) -> Status:
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
            rss_bytes=rss_bytes(),
            held=pipeline.merge.held,
            dropped_messages=pipeline.counts["dropped_messages"],
            gaps=sum(track.gaps for track in tracks.values()),
            ids_lost=sum(track.lost for track in tracks.values()),
            books=self.follower.states(),
            connections=self._connections(now_s),
            reconnects=self.incidents.reconnects,
            last_error=self.troubles.current,
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
