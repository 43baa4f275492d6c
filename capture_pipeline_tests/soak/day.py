"""A day of the market in minutes, recorded by a real process under repeated faults.

There are two days. In the first one, only one connection at a time is lost, and no id may be lost. In the
second one, everything is lost four times. The missing ids must be exactly those of the ledger, and only from
those times.
"""

from __future__ import annotations

import math
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests

from capture_pipeline.binance.periods import iso, parse_time
from capture_pipeline.checks.model import Verdict
from capture_pipeline.checks.recordings import DEFAULTS, SNAPSHOTS, RateRange
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline_tests.support.deployment import NOW, SandboxDeployment
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.contents import read_ids
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

_HOUR_US = 3_600_000_000
_CONNECTIONS = 2
_PATIENCE_S = 60.0
_FLUSH_S = 0.2
_SLACK_NS = round((_FLUSH_S + 1.0) * 1e9)
"""A kill loses unwritten messages, and the first message comes shortly after the connection."""


@dataclass(frozen=True)
class Pace:
    """Length and speed of a day.

    Attributes:
        hours: Hours of the market.
        speed: Sandbox seconds per second.
        cuts: Smallest count of cuts of each connection.
        queue_mb: Limit of the waiting bytes: less than arrives while the disk is full, more than arrives at
            once.
    """

    hours: float
    speed: float
    cuts: int
    queue_mb: int = 16


@dataclass
class Account:
    """Result of one day.

    Attributes:
        name: Name of the day.
        messages: Count of messages in the recording.
        cuts: Count of ended connections, of each of the two.
        outages: Other faults.
        gaps: Count of gaps in the ledger.
        ids_lost: Count of ids in the gaps.
        seconds: Duration.
        wrong: Failed conditions.
    """

    name: str
    messages: int = 0
    cuts: list[int] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    gaps: int = 0
    ids_lost: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def check(self, condition: object, problem: str) -> None:
        """Record an error if a condition is not met."""
        if not condition:
            self.wrong.append(problem)


@dataclass(frozen=True)
class Outage:
    """A period in which all messages were lost on purpose, real nanoseconds."""

    what: str
    start_ns: int
    end_ns: int


def one_at_a_time(root: Path, pace: Pace) -> Account:
    """Cut each connection this many times while the other is open, and announce a close.

    No id may be lost.
    """
    account = Account("one connection at a time")
    begins = parse_time(NOW)
    last = iso(begins + round(pace.hours * _HOUR_US * 0.93))
    every_s = pace.hours * 3600 * 0.93 / (pace.cuts * 1.4)
    faults = [
        {"fault": "ws_cut", "every_s": every_s, "least": 2, "end": last},
        {
            "fault": "ws_shutdown",
            "start": iso(begins + round(pace.hours * _HOUR_US * 0.96)),
            "lag_s": pace.speed / 2,
        },
    ]
    with exchange(root, {"symbols": [BUSY], "frozen": True, "faults": faults}) as sandbox:
        session = _recorded(sandbox, pace, account, lambda _: None)
        ended = Counter(
            _slot_of(session).get(event["connection"]) for event in session.events("connection_ended")
        )
        account.cuts = [ended[0], ended[1]]
        account.check(
            min(account.cuts) >= pace.cuts,
            f"connections were cut {account.cuts} times instead of {pace.cuts} or more each",
        )
        account.check(session.events("serverShutdown"), "no shutdown was announced")
        account.check(not account.gaps, f"{account.gaps} gaps of {account.ids_lost} ids")
    return account


def everything_at_once(root: Path, pace: Pace) -> Account:
    """Kill the recorder twice, fill the disk once, cut both connections once.

    The ledger lists the lost ids.
    """
    account = Account("everything at once")
    outages: list[Outage] = []

    def inject_faults(session: Live) -> None:
        start_us, span_us = parse_time(NOW), pace.hours * _HOUR_US
        for number, hit in enumerate((_kill, _fill_disk, _kill, _cut_both), 1):
            _until_market(session, start_us + round(span_us * number / 5))
            outages.append(hit(session, pace))

    with exchange(root, {"symbols": [BUSY], "frozen": True}) as sandbox:
        session = _recorded(sandbox, pace, account, inject_faults)
        account.outages = [outage.what for outage in outages]
        for gap in session.gaps:
            inside = [
                one
                for one in outages
                if one.start_ns - _SLACK_NS <= gap.start_ns and gap.end_ns <= one.end_ns + _SLACK_NS
            ]
            account.check(inside, f"a gap outside of every outage: {gap.model_dump_json()}")
        account.check(account.gaps, "nothing was lost, so that nothing was tried")
    return account


def _recorded(
    sandbox: SandboxDeployment, pace: Pace, account: Account, inject_faults: Callable[[Live], None]
) -> Live:
    """Record all messages of a period with faults, and compare the recording with the sent messages."""
    began = time.monotonic()
    session = Live(sandbox, 7200, [str(BUSY["symbol"])])
    try:
        _start(session, pace)
        _until(lambda: len(session.connections()) == _CONNECTIONS, "two connections")
        sandbox.clock(speed=pace.speed)
        inject_faults(session)
        _until_market(session, parse_time(NOW) + round(pace.hours * _HOUR_US))
        sandbox.clock(speed=0)
        _until(lambda: _is_drained(session), "the last message")
        sent = session.streams()["streams"]
        session.end()
    finally:
        if session.process is not None and session.process.poll() is None:
            session.kill()
    account.seconds = time.monotonic() - began
    _compare(session, sent, account)
    _validate(session, pace, account)
    return session


def _start(session: Live, pace: Pace) -> None:
    """Start the recorder with a retry time and a queue that suit such a fast market."""
    session.start(
        CAPTURE_RECORDING_SILENCE_S="8",
        CAPTURE_RECORDING_STEADY_S="0.3",
        CAPTURE_RECORDING_FLUSH_S=str(_FLUSH_S),
        CAPTURE_RECORDING_QUEUE_MB=str(pace.queue_mb),
        CAPTURE_RECORDING_AUDIT_MINUTES="0.25",
    )


def _kill(session: Live, pace: Pace) -> Outage:
    start_ns = time.time_ns()
    session.kill()
    _start(session, pace)
    session.recording()
    return Outage("kill -9", start_ns, time.time_ns())


def _fill_disk(session: Live, _: Pace) -> Outage:
    assert session.process is not None
    pid, size, start_ns = session.process.pid, session.folder.growing.stat().st_size, time.time_ns()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
    session.wait(lambda status: status.state == "disk" and status.dropped_messages > 0)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    session.wait(lambda status: status.state == "recording" and not status.waiting_bytes)
    return Outage("disk full", start_ns, time.time_ns())


def _cut_both(session: Live, _: Pace) -> Outage:
    start_ns = time.time_ns()
    session.inject_fault("ws_cut", "all")
    _until(lambda: not session.connections(), "the cut of both connections", every_s=0.002)
    session.recording()
    return Outage("both connections cut", start_ns, time.time_ns())


def _until(
    condition: Callable[[], bool], what: str, *, every_s: float = 0.02, patience_s: float = _PATIENCE_S
) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come in {patience_s:g} s"
        time.sleep(every_s)


def _until_market(session: Live, until_us: int) -> None:
    """Wait for a time of the market; the recorder must not end before."""

    def has_arrived() -> bool:
        assert session.process is not None
        assert session.process.poll() is None, session.process.communicate()
        answer = requests.get(f"{session.sandbox.url}/_sandbox/clock", timeout=30).json()
        return int(answer["now_us"]) >= until_us

    _until(has_arrived, iso(until_us), every_s=0.05, patience_s=3600)


def _is_drained(session: Live) -> bool:
    """Return whether the clock is stopped and the recorder has written all messages."""
    sent_streams, status = session.streams(), session.status()
    now = requests.get(f"{session.sandbox.url}/_sandbox/clock", timeout=30).json()["now"]
    last = {stream: sent["last_id"] for stream, sent in sent_streams["streams"].items()}
    return (
        parse_time(sent_streams["position"]) >= parse_time(now)
        and status is not None
        and status.last_ids == last
    )


def _slot_of(session: Live) -> dict[int, int]:
    return {event["connection"]: event["slot"] for event in session.events("connection_opened")}


def _compare(session: Live, sent: dict[str, Any], account: Account) -> None:
    """Check persisted == sent − ledger for each stream and id."""
    found, wrong = read_ids(session.folder.recording)
    account.wrong += wrong
    account.messages = sum(one.count for one in found.values())
    account.gaps, account.ids_lost = len(session.gaps), sum(gap.ids_lost for gap in session.gaps)
    account.check(found.keys() == sent.keys(), f"recorded {sorted(found)}, sent {sorted(sent)}")
    for stream, one in found.items():
        listed = [
            (gap.last_good_id + 1, gap.first_good_id - 1) for gap in session.gaps if gap.stream == stream
        ]
        account.check(
            one.holes == listed, f"{stream}: the file lacks {one.holes[:5]}, the ledger says {listed[:5]}"
        )
        ends = sent[stream]["first_id"], sent[stream]["last_id"]
        account.check(
            (one.first, one.last) == ends, f"{stream}: recorded {one.first}..{one.last}, sent {ends}"
        )
        if not listed:
            account.check(
                one.count == sent[stream]["count"],
                f"{stream}: {one.count:,} recorded, {sent[stream]['count']:,} sent",
            )


def _validate(session: Live, pace: Pace, account: Account) -> None:
    """Run the validation of the project, without the checks on the share of outages in this short time."""
    outages = bool(account.gaps)
    thresholds = replace(
        DEFAULTS,
        min_messages=0 if outages else round(pace.hours * 41_700),
        end_tolerance_s=math.inf,  # the market is faster than the plan's clock: the session is stopped early
        duration_s=pace.hours * 3600 / pace.speed * 0.9,
        depth_per_s=RateRange(7.0 * pace.speed, 10.5 * pace.speed),
        max_gap_ratio=1.0 if outages else 1e-4,
        min_uptime=0.0 if outages else 0.999,
        min_book_valid=0.3 if outages else 0.98,
    )
    report = validate(session.folder.path, thresholds, book=True)
    # A snapshot that came inside of an outage is followed by no diff.
    account.wrong += [
        f"validation: {check.spec.name}: {check.reason}"
        for check in report.failed
        if not (outages and check.spec == SNAPSHOTS)
    ]
    for name in ("ledger", "checksums"):
        account.check(
            report.check(name).verdict is Verdict.PASS, f"validation: {name}: {report.check(name).reason}"
        )
