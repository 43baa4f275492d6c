"""Checks before a recording: each passes or fails, with the measured values and a remedy."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import combined_url, list_streams, split_by_route
from capture_pipeline.deployment.rest_client import open_address_limits
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.files import create_folder
from capture_pipeline.recorder.connections.connection import CLOSE_S, Connection
from capture_pipeline.recorder.connections.egress import check_network
from capture_pipeline.recorder.lifecycle import sessions_root
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.preflight.record import ExchangeRecord
from capture_pipeline.sessions.line_format import decode_line, splice_line
from capture_pipeline.sessions.status import free_bytes
from capture_pipeline.settings.models import Settings

_REQUESTS = 10
_MAX_OFFSET_MS, _MAX_ROUND_TRIP_MS, _MAX_JITTER_MS = 1000.0, 2000.0, 500.0
_MIN_FILES = 256
_FSYNCS, _MAX_FSYNC_MS = 20, 100.0


@dataclass(frozen=True)
class PreflightFinding:
    """Result of one check.

    Attributes:
        name: Name of the check.
        passed: Whether the machine and the exchange are fit for a recording in this respect.
        measured: Measured values.
        remedy: Action after a failure.
        is_note: Whether the result is only information and cannot fail the preflight.
    """

    name: str
    passed: bool
    measured: str
    remedy: str = ""
    is_note: bool = False


def preflight(
    settings: Settings, symbols: list[str], *, seconds: float, output: Path | None = None
) -> Iterator[PreflightFinding]:
    """Run all checks in order.

    Args:
        settings: Settings of the deployment.
        symbols: Symbols to record.
        seconds: Length of the test capture.
        output: Folder of sessions, if not below the storage root.
    """
    root = sessions_root(settings, output)
    yield _run_check("free disk", lambda: _check_disk(root, settings.recording.free_disk_gb))
    yield _run_check("fsync latency", lambda: _check_fsync(root))
    yield _run_check("open files", _check_files)
    network = _run_check("network", lambda: _check_network(settings, symbols))
    yield network
    if not network.passed:  # the following checks would only repeat its message
        return
    exchange = ExchangeRecord(settings, symbols)
    yield from _check_rest(settings, symbols, exchange)
    yield _run_check("test capture", lambda: _check_streams(settings, symbols, seconds, exchange))
    yield from (
        PreflightFinding(name, passed=True, measured=text, is_note=True) for name, text in exchange.notes()
    )
    yield _run_check(
        "record",
        lambda: PreflightFinding("record", passed=True, measured=str(exchange.publish(root)), is_note=True),
    )


def _run_check(name: str, check: Callable[[], PreflightFinding]) -> PreflightFinding:
    try:
        return check()
    except CaptureError as error:
        return PreflightFinding(
            name, passed=False, measured=_problem(error), remedy=error.remedy or "see the message"
        )
    except OSError as error:
        return PreflightFinding(
            name,
            passed=False,
            measured=f"{error.filename}: {error.strerror}",
            remedy="repair the disk or its permissions",
        )


def _problem(error: CaptureError) -> str:
    """Return the text of an error without its remedy, which is shown separately."""
    return f"{error.where}: {error.what}" if error.where else error.what


def _check_disk(root: Path, min_gb: float) -> PreflightFinding:
    create_folder(root)
    free = free_bytes(root) / 1e9
    measured = f"{free:,.1f} GB free, {min_gb:g} required"
    return PreflightFinding(
        "free disk", free >= min_gb, measured, "free the disk, or lower recording.free_disk_gb"
    )


def _check_fsync(root: Path) -> PreflightFinding:
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
    measured = f"median {middle:.1f} ms, longest {worst:.1f} ms of {_FSYNCS}"
    return PreflightFinding(
        "fsync latency",
        worst <= _MAX_FSYNC_MS,
        measured,
        f"record to a disk that syncs within {_MAX_FSYNC_MS:g} ms",
    )


def _check_files() -> PreflightFinding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return PreflightFinding(
        "open files", soft >= _MIN_FILES, f"limit {soft:,}", f"ulimit -n {_MIN_FILES} or more"
    )


def _check_network(settings: Settings, symbols: list[str]) -> PreflightFinding:
    ways = check_network(settings, list_streams(symbols, settings.market))
    return PreflightFinding(
        "network", passed=True, measured="; ".join(f"{name}: {egress}" for name, egress in ways.items())
    )


def _check_rest(
    settings: Settings, symbols: list[str], exchange: ExchangeRecord
) -> Iterator[PreflightFinding]:
    """Check answers, clock offset, round trip, symbols and jitter with a series of requests."""
    rest = exchange.rest
    offsets, trips, lost = [], [], 0
    failure, remedy = "", ""
    for _ in range(_REQUESTS):
        before = time.time_ns()
        try:
            server_us = rest.server_time_us()
        except CaptureError as error:
            lost, failure, remedy = lost + 1, _problem(error), error.remedy or "check endpoints and network"
            break
        after = time.time_ns()
        offsets.append((before + after) / 2e6 - server_us / 1e3)
        trips.append((after - before) / 1e6)
    measured = (
        f"{_REQUESTS - lost} of {_REQUESTS} requests answered" if not lost else f"not answered: {failure}"
    )
    yield PreflightFinding("requests", not lost, measured, remedy)
    exchange.send_each_request()
    if not trips:
        return
    offset, trip, jitter = statistics.median(offsets), statistics.median(trips), max(trips) - min(trips)
    has_own_clock = settings.has_own_clock
    measured = f"{offset:+.1f} ms relative to the exchange" + (
        ", which is a sandbox with its own clock" if has_own_clock else ""
    )
    yield PreflightFinding(
        "clock offset", has_own_clock or abs(offset) <= _MAX_OFFSET_MS, measured, "set the clock by NTP"
    )
    yield PreflightFinding(
        "round trip", trip <= _MAX_ROUND_TRIP_MS, f"median {trip:.1f} ms", "record nearer to the exchange"
    )
    yield _run_check("symbols", lambda: _check_symbols(rest, symbols))
    yield PreflightFinding(
        "jitter",
        jitter <= _MAX_JITTER_MS,
        f"{jitter:.1f} ms over {len(trips)} requests",
        "use a network with stable delays",
    )


def _check_symbols(rest: RestClient, symbols: list[str]) -> PreflightFinding:
    error = rest.unknown_symbols(symbols)
    if error is not None:
        return PreflightFinding(
            "symbols", passed=False, measured=error.what, remedy=error.remedy or "check symbols"
        )
    return PreflightFinding("symbols", passed=True, measured=f"{', '.join(symbols)}: listed")


def _check_streams(
    settings: Settings, symbols: list[str], seconds: float, exchange: ExchangeRecord
) -> PreflightFinding:
    """Check that the streams deliver messages in the form that a session records."""
    streams = list_streams(symbols, settings.market)
    urls = split_by_route(combined_url(settings.stream_url, streams))
    kind = partial(Connection, limits=open_address_limits(settings))
    counts, refused = asyncio.run(_sample_streams(kind, urls, streams, seconds, exchange))
    silent = [stream for stream in streams if not counts.get(stream)]
    if refused:
        return PreflightFinding(
            "test capture", passed=False, measured=refused, remedy="check endpoints and network"
        )
    if silent:
        return PreflightFinding(
            "test capture",
            passed=False,
            measured=f"no message of {', '.join(silent)} in {seconds:g} s",
            remedy="check symbols",
        )
    rates = ", ".join(f"{stream} {count / seconds:.1f}/s" for stream, count in counts.items())
    where = ", ".join(url.partition("?")[0] for url in urls)
    return PreflightFinding("test capture", passed=True, measured=f"{where}: {rates}")


async def _sample_streams(
    kind: Callable[..., Connection],
    urls: list[str],
    streams: list[str],
    seconds: float,
    exchange: ExchangeRecord,
) -> tuple[dict[str, int], str]:
    counts: dict[str, int] = {}
    bad: list[str] = []

    def take(number: int, raw: bytes) -> None:
        exchange.frames.take(raw)
        placed = intake.place(number, raw, time.time_ns())
        if placed is not None:
            decode_line(splice_line(time.time_ns(), raw))
            counts[placed.stream] = counts.get(placed.stream, 0) + 1

    intake = Intake(streams, lambda _: None, lambda reason, _: bad.append(reason))
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
    wrong = [f"{urls[0]}: a message has a wrong form: {reason}" for reason in bad]
    return counts, next(iter([*ended, *wrong]), "")
