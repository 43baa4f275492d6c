"""Composition of a recorder: every part, in the order in which the parts need each other.

A part gets only parts that exist. What a part has to report to later ones is an event of the bus. The log
subscribes first, so an event has its line before other parts react.
"""

from __future__ import annotations

from dataclasses import dataclass

from capture_pipeline.binance.http.pauses import Limits
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import combined_url
from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.tasks import BackgroundTasks
from capture_pipeline.recorder.connections.health import ConnectionHealth, FirstMessage, RestPauses
from capture_pipeline.recorder.connections.supervisor import SlotRules, Supervisor
from capture_pipeline.recorder.events import (
    BookAudited,
    ClockSampled,
    ConnectionOpened,
    DiffMalformed,
    EventBus,
    LoggedEvent,
    RecordingRepaired,
    ReportedEvent,
)
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.pipeline import RecordingPipeline, Stages
from capture_pipeline.recorder.storage.checkpoint import Findings
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting, continue_account
from capture_pipeline.recorder.telemetry.incidents import Incidents
from capture_pipeline.recorder.telemetry.status_publisher import StatusPublisher
from capture_pipeline.sessions.account import AccountFile
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan
from capture_pipeline.settings.sessions import Recording
from capture_pipeline.terminal import report


@dataclass(frozen=True)
class Setup:
    """Inputs of a recorder.

    Attributes:
        folder: Folder of the session.
        plan: Plan of the session.
        settings: Settings of the recording.
        stream_url: URL of the WebSocket host.
        rest: Client for snapshots, refills and samples of the exchange's clock.
        limits: Request limits of this machine's address; None if the exchange has none.
    """

    folder: SessionFolder
    plan: SessionPlan
    settings: Recording
    stream_url: str
    rest: RestClient
    limits: Limits | None = None


@dataclass(frozen=True)
class Parts:
    """Parts of a recorder.

    Attributes:
        setup: Inputs of the recorder.
        events: Bus between the parts.
        clock: Source of the capture times.
        writer: Thread that writes the recording.
        pipeline: Path of the messages from the connections to the writer.
        follower: Live order books of the session.
        accounting: Account of the received messages.
        background: Snapshots, audits, refills and clock samples.
        supervisor: Connections to the exchange.
        health: Latest error of a connection.
        pauses: Pauses of REST requests.
        first: Report of a recorder that receives nothing.
        publisher: Writer of `status.json`.
    """

    setup: Setup
    events: EventBus
    clock: CaptureClock
    writer: Writer
    pipeline: RecordingPipeline
    follower: BookFollower
    accounting: Accounting
    background: BackgroundTasks
    supervisor: Supervisor
    health: ConnectionHealth
    pauses: RestPauses
    first: FirstMessage
    publisher: StatusPublisher


def compose_parts(setup: Setup, resumed: RecoveredSession) -> Parts:
    """Create the parts of a recorder and open the segment to write.

    Raises:
        StorageError: The segment cannot be opened.
    """
    folder, plan, settings = setup.folder, setup.plan, setup.settings
    clock, events = CaptureClock(resumed.last_ns), EventBus()
    events.subscribe(LoggedEvent, EventLog(folder.events, clock.now_ns).write)
    events.subscribe(ReportedEvent, lambda event: report(event.what))
    writer = Writer(
        folder,
        segment=resumed.segment,
        max_waiting_bytes=settings.queue_mb << 20,
        fsync_s=settings.fsync_s,
    )
    follower = BookFollower(plan.symbols, lambda symbol, error: events.publish(DiffMalformed(symbol, error)))
    account = continue_account(resumed)
    findings = Findings(account.processes, list(resumed.checkpoint.audits), list(resumed.checkpoint.clock))
    events.subscribe(BookAudited, findings.add_audit)
    events.subscribe(ClockSampled, findings.add_clock_sample)
    counts = SessionCounts.parse(resumed.checkpoint.counts)
    stages = Stages(Intake(plan.streams, counts, events), counts, clock, writer, follower.apply_diff)
    pipeline = RecordingPipeline(settings, resumed, stages, events, findings)
    Incidents(pipeline, events)
    accounting = Accounting(AccountFile(folder.account, len(plan.streams)), account, pipeline, writer)
    background = BackgroundTasks(setup.rest, settings, pipeline, follower, events)
    background.refills.add(read_gaps(folder.gaps))
    rules = SlotRules(
        plan.connections,
        silence_s=settings.silence_s,
        renew_s=settings.renew_hours * 3600,
        steady_s=settings.steady_s,
        limits=setup.limits,
    )
    supervisor = Supervisor(combined_url(setup.stream_url, plan.streams), rules, pipeline.receive, events)
    health = ConnectionHealth(setup.stream_url.removesuffix("/{route}"), events, report)
    pauses = RestPauses(setup.limits, events)
    publisher = StatusPublisher(
        folder,
        plan,
        pipeline=pipeline,
        writer=writer,
        follower=follower,
        health=health,
        supervisor=supervisor,
        accounting=accounting,
        refills=background.refills,
        pauses=pauses,
    )
    events.subscribe(ConnectionOpened, publisher.begin_rate)
    for line in resumed.repairs:
        events.publish(RecordingRepaired(line))
    return Parts(
        setup=setup,
        events=events,
        clock=clock,
        writer=writer,
        pipeline=pipeline,
        follower=follower,
        accounting=accounting,
        background=background,
        supervisor=supervisor,
        health=health,
        pauses=pauses,
        first=FirstMessage(counts.merge.passed, events),
        publisher=publisher,
    )
