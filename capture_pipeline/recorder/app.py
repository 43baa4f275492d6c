"""The process that records a session: one event loop that runs the parts of `factory`.

SIGTERM and SIGINT interrupt the recorder. Everything received is then on the disk, and the session can be
resumed until its planned end. SIGUSR1 ends the session. A recorder that is started before a planned session
waits. It records from `LEAD_S` before the planned start, so that the books are synchronized at the start.
This module imports neither Dagster nor polars.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from wsgiref.simple_server import WSGIServer

from capture_pipeline.deployment.rest_client import create_rest_client, open_address_limits
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread
from capture_pipeline.recorder.connections.egress import check_network
from capture_pipeline.recorder.events import (
    ClockStepped,
    EndRequested,
    MetricsFailed,
    Outcome,
    RecorderStarted,
)
from capture_pipeline.recorder.factory import Parts, Setup, compose_parts
from capture_pipeline.recorder.lifecycle import is_ending, read_plan
from capture_pipeline.recorder.shutdown import end_recording
from capture_pipeline.recorder.storage.completion import finish_session
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.recorder.telemetry.incidents import publish_file_faults
from capture_pipeline.recorder.telemetry.metrics import serve_metrics
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import session_lock
from capture_pipeline.sessions.models import Ending, SessionMetadata, SessionPlan, SessionState
from capture_pipeline.settings.models import Settings

LEAD_S = 10.0
"""Seconds between the start of the recording and the planned start: time to connect and to sync books."""
_BEAT_S = 0.05
_SIGNALS = {
    signal.SIGTERM: Outcome.INTERRUPTED,
    signal.SIGINT: Outcome.INTERRUPTED,
    signal.SIGUSR1: Outcome.STOPPED,
}


@dataclass(frozen=True)
class RecorderResult:
    """Result of a recorder.

    Attributes:
        folder: Folder of the session.
        metadata: Metadata of the finished session; None if it was interrupted and can be resumed.
    """

    folder: SessionFolder
    metadata: SessionMetadata | None


class Recorder:
    """Records one session until its deadline or a signal.

    Attributes:
        parts: Parts of the recorder.
    """

    def __init__(self, parts: Parts) -> None:
        """Store the parts; `run` starts them."""
        self.parts = parts
        self._plan, self._settings, self._folder = parts.setup.plan, parts.setup.settings, parts.setup.folder
        self._outcome, self._end = Outcome.COMPLETE, asyncio.Event()

    async def run(self) -> Outcome:
        """Record until the end of the session.

        Raises:
            StorageError: The disk has no room at the start, or cannot store the last messages at the end.
        """
        parts = self.parts
        parts.accounting.begin()
        for number, outcome in _SIGNALS.items():
            asyncio.get_running_loop().add_signal_handler(number, self.end, outcome)
        server = self._serve_metrics()
        if behind_ns := parts.clock.behind_ns:
            parts.events.publish(ClockStepped(-behind_ns / 1e6, "the recorder before"))
        parts.events.publish(RecorderStarted(os.getpid(), self._plan.connections))
        tasks = [
            asyncio.create_task(self._run_when_due(parts.supervisor.run)),
            asyncio.create_task(self._run_when_due(partial(parts.background.run, self._folder.refilled))),
            asyncio.create_task(self._flush_regularly()),
            asyncio.create_task(self._update_each_second()),
        ]
        parts.writer.start()
        ended = asyncio.create_task(self._wait_for_end())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        parts.publisher.state = SessionState.FINISHING
        await parts.supervisor.stop()
        until_ns = parts.clock.now_ns()
        for task in (*tasks, ended):
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
        if server is not None:
            await run_in_daemon_thread(server.shutdown)
            server.server_close()
        await end_recording(parts, self._outcome, until_ns)
        for task in done:
            task.result()
        return self._outcome

    def end(self, outcome: Outcome) -> None:
        """Request the end of the recording, with this outcome; only the first request counts."""
        if not self._end.is_set():
            self._outcome = outcome
            self._end.set()
            self.parts.events.publish(EndRequested(outcome))

    def _serve_metrics(self) -> WSGIServer | None:
        """Serve metrics. A port that is in use is logged as an event, and the recording continues."""
        port = self._settings.metrics_port
        if not port:
            return None
        try:
            return serve_metrics(port, lambda: self.parts.publisher.latest)
        except OSError as error:
            self.parts.events.publish(MetricsFailed(port, error.strerror))
            return None

    @property
    def _due_in_s(self) -> float:
        """Seconds until recording begins; negative after that time."""
        return (self._plan.start_us * 1000 - self.parts.clock.now_ns()) / 1e9 - LEAD_S

    async def _run_when_due(self, work: Callable[[], Awaitable[None]]) -> None:
        while (remaining_s := self._due_in_s) > 0:  # noqa: ASYNC110 - the wall clock may be set
            await asyncio.sleep(min(remaining_s, 1.0))
        await work()

    async def _wait_for_end(self) -> None:
        await self._end.wait()

    async def _flush_regularly(self) -> None:
        while True:
            self.parts.pipeline.flush_due()
            if self.parts.writer.failure is not None:
                raise self.parts.writer.failure
            await asyncio.sleep(_BEAT_S)

    async def _update_each_second(self) -> None:
        following = time.monotonic()
        while True:
            if self._folder.ending.exists():
                self.end(Outcome.STOPPED)
            self._report_changes()
            self.parts.publisher.publish(self._activity())
            remaining_s = (self._plan.end_ns - self.parts.clock.now_ns()) / 1e9
            if remaining_s <= 0:
                self.end(Outcome.COMPLETE)
            following += 1
            await asyncio.sleep(max(0.01, min(following - time.monotonic(), remaining_s)))

    def _report_changes(self) -> None:
        parts = self.parts
        publish_file_faults(parts.writer, parts.accounting, parts.events)
        if step_ns := parts.clock.step_ns(round(self._settings.clock_step_ms * 1e6)):
            parts.events.publish(ClockStepped(step_ns / 1e6))
        parts.pauses.report_changes()
        parts.health.report_changes(is_whole=parts.supervisor.is_whole)
        parts.first.report_changes(
            parts.pipeline.merge.counts.passed, is_due=self._due_in_s <= 0, trouble=parts.health.current
        )

    def _activity(self) -> SessionState:
        if self.parts.writer.trouble:
            return SessionState.DISK
        if self.parts.supervisor.live:
            return SessionState.RECORDING
        return SessionState.WAITING if self._due_in_s > 0 else SessionState.CONNECTING


def record(
    settings: Settings, folder: SessionFolder, on_begin: Callable[[SessionPlan], None] = lambda _: None
) -> RecorderResult:
    """Record a prepared session until its planned end or a signal; call it in the main thread of a process.

    Once the end of a session is decided, nothing is recorded into it; the next start only finishes it.

    Args:
        settings: Settings of the deployment.
        folder: The session.
        on_begin: Receives the plan when this process has the session's lock and is about to record.

    Raises:
        BusyError: Another recorder of the session is running.
        ConfigError: The environment names an unusable proxy or certificate file; the session is unchanged.
        StorageError: The recording cannot be written; the session can be resumed.
    """
    with _stop_signal_ignored(), session_lock(folder):
        plan = read_plan(folder)
        if folder.metadata.exists():
            return RecorderResult(folder, read_model(folder.metadata, SessionMetadata))
        if not is_ending(folder, plan):
            check_network(settings, plan.streams)
            on_begin(plan)
            outcome = asyncio.run(_run_recorder(settings, folder, plan))
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the end of the loop restored the default action
            if outcome is Outcome.INTERRUPTED and not folder.ending.exists():
                return RecorderResult(folder, None)
            if not folder.ending.exists():
                is_complete = outcome is Outcome.COMPLETE
                state = SessionState.COMPLETE if is_complete else SessionState.INTERRUPTED
                publish_model(folder.ending, Ending(state=state))
        return RecorderResult(folder, finish_session(folder, plan, settings))


@contextlib.contextmanager
def _stop_signal_ignored() -> Iterator[None]:
    """Ignore SIGUSR1 while no event loop handles it; `stop` also writes the request to a file."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


async def _run_recorder(settings: Settings, folder: SessionFolder, plan: SessionPlan) -> Outcome:
    resumed = await asyncio.to_thread(recover_session, folder)
    # The recorder retries by itself; a request that waits for the end of a ban would distort a clock sample.
    rest = create_rest_client(settings, max_wait_s=0.0)
    setup = Setup(folder, plan, settings.recording, settings.stream_url, rest, open_address_limits(settings))
    return await Recorder(compose_parts(setup, resumed)).run()
