"""Checks before a recording: each passes or fails, with the measured values and a remedy."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import combined_url, list_streams, split_by_route
from capture_pipeline.checks import preflight as checks
from capture_pipeline.checks.model import CheckResult, CheckSpec, Verdict
from capture_pipeline.deployment.rest_client import open_address_limits
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.files import create_folder
from capture_pipeline.recorder.connections.connection import CLOSE_S, Connection
from capture_pipeline.recorder.connections.egress import check_network
from capture_pipeline.recorder.events import EventBus, MessageRejected
from capture_pipeline.recorder.lifecycle import sessions_root
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.preflight.record import ExchangeRecord, Note
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.line_format import decode_line, splice_line
from capture_pipeline.sessions.status import free_bytes
from capture_pipeline.settings.models import Settings

_REQUESTS = 10
_FSYNCS = 20


def preflight(
    settings: Settings, symbols: list[str], *, seconds: float, output: Path | None = None
) -> Iterator[CheckResult | Note]:
    """Run all checks in order, and list observations of the exchange.

    Args:
        settings: Settings of the deployment.
        symbols: Symbols to record.
        seconds: Length of the test capture.
        output: Folder of sessions, if not below the storage root.
    """
    root = sessions_root(settings, output)
    yield _run_check(checks.FREE_DISK, lambda: _check_disk(root, settings.recording.free_disk_gb))
    yield _run_check(checks.FSYNC, lambda: _check_fsync(root))
    yield _run_check(checks.OPEN_FILES, _check_files)
    network = _run_check(checks.NETWORK, lambda: _check_network(settings, symbols))
    yield network
    if not network.passed:  # the following checks would only repeat its message
        return
    exchange = ExchangeRecord(settings, symbols)
    yield from _check_rest(settings, symbols, exchange)
    yield _run_check(checks.TEST_CAPTURE, lambda: _check_streams(settings, symbols, seconds, exchange))
    yield from exchange.notes()
    record = _run_check(
        checks.RECORD, lambda: checks.RECORD.pass_if(is_good=True, reason=str(exchange.publish(root)))
    )
    yield Note(checks.RECORD.name, record.reason) if record.passed else record


def _run_check(spec: CheckSpec, check: Callable[[], CheckResult]) -> CheckResult:
    """Run a check; an error of the machine or of the exchange fails it."""
    try:
        return check()
    except CaptureError as error:
        return replace(spec.fail(_problem(error)), remedy=error.remedy or "see the message")
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
        return replace(spec.fail(problem), remedy="repair the disk or its permissions")


def _problem(error: CaptureError) -> str:
    """Return the text of an error without its remedy, which is shown separately."""
    return f"{error.where}: {error.what}" if error.where else error.what


def _check_disk(root: Path, min_gb: float) -> CheckResult:
    create_folder(root)
    free = free_bytes(root) / 1e9
    return checks.FREE_DISK.pass_if(free >= min_gb, f"{free:,.1f} GB free, {min_gb:g} required")


def _check_fsync(root: Path) -> CheckResult:
    create_folder(root)
    probe = root / f".preflight-{os.getpid()}"
    times = []
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for _ in range(_FSYNCS):
            os.write(descriptor, b"x" * 65536)
            before = time.perf_counter()
            os.fsync(descriptor)
            times.append((time.perf_counter() - before) * 1000)
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    worst, middle = max(times), statistics.median(times)
    return checks.FSYNC.judge(worst, f"median {middle:.1f} ms, longest {worst:.1f} ms of {_FSYNCS}")


def _check_files() -> CheckResult:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return checks.OPEN_FILES.judge(soft, f"limit {soft:,}")


def _check_network(settings: Settings, symbols: list[str]) -> CheckResult:
    ways = check_network(settings, list_streams(symbols, settings.market))
    return checks.NETWORK.pass_if(
        is_good=True, reason="; ".join(f"{name}: {egress}" for name, egress in ways.items())
    )


def _check_rest(settings: Settings, symbols: list[str], exchange: ExchangeRecord) -> Iterator[CheckResult]:
    """Check answers, clock offset, round trip, symbols and jitter with a series of requests."""
    rest = exchange.rest
    offsets, trips = [], []
    requests = checks.REQUESTS.pass_if(is_good=True, reason=f"{_REQUESTS} of {_REQUESTS} requests answered")
    for _ in range(_REQUESTS):
        before = time.time_ns()
        try:
            server_us = rest.server_time_us()
        except CaptureError as error:
            failure = checks.REQUESTS.fail(f"not answered: {_problem(error)}")
            requests = replace(failure, remedy=error.remedy or "check endpoints and network")
            break
        after = time.time_ns()
        offsets.append((before + after) / 2e6 - server_us / 1e3)
        trips.append((after - before) / 1e6)
    yield requests
    exchange.send_each_request()
    if not trips:
        return
    offset, trip, jitter = statistics.median(offsets), statistics.median(trips), max(trips) - min(trips)
    clock = checks.CLOCK_OFFSET.judge(abs(offset), f"{offset:+.1f} ms relative to the exchange")
    if settings.has_own_clock:
        reason = f"{clock.reason}, which is a sandbox with its own clock"
        clock = replace(clock, verdict=Verdict.PASS, reason=reason)
    yield clock
    yield checks.ROUND_TRIP.judge(trip, f"median {trip:.1f} ms")
    yield _run_check(checks.SYMBOLS, lambda: _check_symbols(rest, symbols))
    yield checks.JITTER.judge(jitter, f"{jitter:.1f} ms over {len(trips)} requests")


def _check_symbols(rest: RestClient, symbols: list[str]) -> CheckResult:
    error = rest.unknown_symbols(symbols)
    if error is not None:
        return replace(checks.SYMBOLS.fail(error.what), remedy=error.remedy or "check symbols")
    return checks.SYMBOLS.pass_if(is_good=True, reason=f"{', '.join(symbols)}: listed")


def _check_streams(
    settings: Settings, symbols: list[str], seconds: float, exchange: ExchangeRecord
) -> CheckResult:
    """Check that the streams deliver messages in the form that a session records."""
    streams = list_streams(symbols, settings.market)
    urls = split_by_route(combined_url(settings.stream_url, streams))
    kind = partial(Connection, limits=open_address_limits(settings))
    counts, refused = asyncio.run(_sample_streams(kind, urls, streams, seconds, exchange))
    silent = [stream for stream in streams if not counts.get(stream)]
    if refused:
        return replace(checks.TEST_CAPTURE.fail(refused), remedy="check endpoints and network")
    if silent:
        reason = f"no message of {', '.join(silent)} in {seconds:g} s"
        return replace(checks.TEST_CAPTURE.fail(reason), remedy="check symbols")
    rates = ", ".join(f"{stream} {count / seconds:.1f}/s" for stream, count in counts.items())
    where = ", ".join(url.partition("?")[0] for url in urls)
    return checks.TEST_CAPTURE.pass_if(is_good=True, reason=f"{where}: {rates}")


class _Sample(NamedTuple):
    """Numbers of messages by stream, and the first problem of the connections; empty if there is none."""

    counts: dict[str, int]
    problem: str


async def _sample_streams(
    kind: Callable[..., Connection],
    urls: list[str],
    streams: list[str],
    seconds: float,
    exchange: ExchangeRecord,
) -> _Sample:
    counts: dict[str, int] = {}
    rejected: list[MessageRejected] = []

    def take(number: int, raw: bytes) -> None:
        exchange.frames.take(raw)
        placed = intake.place(number, raw, time.time_ns())
        if placed is not None:
            decode_line(splice_line(time.time_ns(), raw))
            counts[placed.stream] = counts.get(placed.stream, 0) + 1

    events = EventBus()
    events.subscribe(MessageRejected, rejected.append)
    intake = Intake(streams, SessionCounts(), events)
    connections = [kind(number, 0, take) for number in range(1, len(urls) + 1)]
    tasks = [
        asyncio.create_task(one.run(url, lambda _: None)) for one, url in zip(connections, urls, strict=True)
    ]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    ended = [
        f"{url}: {one.detail}" for url, one, task in zip(urls, connections, tasks, strict=True) if task.done()
    ]
    await asyncio.gather(*(one.close() for one in connections))
    # A connection that is still being opened cannot be closed.
    _, opening = await asyncio.wait(tasks, timeout=CLOSE_S)
    for task in opening:
        task.cancel()
    await asyncio.gather(*(task for task in tasks if task not in opening))
    exchange.note_connections(urls, connections)
    wrong = [f"{urls[0]}: a message has a wrong form: {one.reason}" for one in rejected]
    return _Sample(counts, next(iter([*ended, *wrong]), ""))
