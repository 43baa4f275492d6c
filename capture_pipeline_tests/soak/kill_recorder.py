"""A recorder killed with -9 at random instants and started again, against an observer of its own: every message is accounted for."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from capture_pipeline.golden.validation.report import Thresholds, Verdict
from capture_pipeline.golden.validation.validate import validate
from capture_pipeline_tests.recorder.exchange import exchange
from capture_pipeline_tests.recorder.live import BUSY, QUICK, Live
from capture_pipeline_tests.soak.observer import Comparison, Observer, compare

_STREAMS = ["btcusdt@trade", "btcusdt@depth@100ms"]
_CONNECTIONS = 2
_DURATION_S = 86_400.0
_ATTEMPTS = 100_000
_PATIENCE_S = 60.0
_SHARE_RECORDING = 0.75
"""Share of the kills that wait until the recorder records; the others may hit its start."""
_COMMAND = [sys.executable, "-c", "from capture_pipeline.cli.main import main; main()"]


@dataclass
class RecorderKills:
    """What came of it.

    Attributes:
        kills: How often the recorder was killed.
        while_recording: How many of the kills hit it while it recorded; the others hit a start.
        compared: The recording against the observer.
        gaps: Lines of the ledger.
        seconds: Duration.
    """

    kills: int
    while_recording: int
    compared: Comparison
    gaps: int
    seconds: float

    @property
    def wrong(self) -> list[str]:
        """Everything that does not hold."""
        return self.compared.wrong

    def __str__(self) -> str:
        """One line."""
        one = self.compared
        return (
            f"recorder: {self.kills} kills in {self.seconds:.0f} s, {self.while_recording} while it recorded; {one.observed:,} messages "
            f"observed, {one.recorded:,} recorded byte for byte, {one.listed:,} in {self.gaps} gaps of the ledger, {len(one.wrong)} wrong"
        )


class CommandLineSession(Live):
    """A session that `capture session start` records in the foreground, and resumes when it is called again."""

    def start(self, **environment: str) -> None:
        """Start the command."""
        command = [
            *_COMMAND,
            "session",
            "start",
            "--symbol",
            "btcusdt",
            "--regime",
            "custom",
            "--duration",
            "24h",
        ]
        env = {**os.environ, **self.deployment.environment(**{**QUICK, **environment})}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def is_recording(self) -> bool:
        """Whether the process that runs now has said that it records."""
        status = self.status()
        return (
            status is not None
            and self.process is not None
            and status.pid == self.process.pid
            and status.state == "recording"
        )

    def finish_by_command(self) -> None:
        """Finish the session with `capture session stop`."""
        assert self.process is not None
        command = [*_COMMAND, "session", "stop", self.folder.session]
        env = {**os.environ, **self.deployment.environment(**QUICK)}
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=_PATIENCE_S)
        _, told = self.process.communicate(timeout=_PATIENCE_S)
        assert self.process.returncode == 0, told


def kill_recorder(
    root: Path, *, kills: int, seed: int, speed: float = 20.0, longest_s: float = 4.0
) -> RecorderKills:
    """Record, kill and resume, and compare what is recorded with what was sent.

    Args:
        root: Empty folder.
        kills: How often to kill.
        seed: Of the instants.
        speed: Seconds of the market a second.
        longest_s: A kill comes at most so many seconds after the start of the process, or after it began to record.
    """
    began, instants, while_recording = time.monotonic(), random.Random(seed), 0  # noqa: S311 - instants, no secret
    config = {"frozen": True, "symbols": [BUSY], "connection_attempts": _ATTEMPTS}
    # A killed recorder connects more often than the exchange lets an address connect.
    with exchange(root, config, CAPTURE_RATE_LIMITS_CONNECTIONS_PER_5_MINUTES=str(_ATTEMPTS)) as deployment:
        session = CommandLineSession(deployment, _DURATION_S, ["BTCUSDT"], _CONNECTIONS)
        with Observer(deployment.url, _STREAMS) as observer:
            try:
                session.start()
                _wait(lambda: _unconnected(session), session)
                deployment.clock(speed=speed)
                session.recording()
                for _ in range(kills):
                    if instants.random() < _SHARE_RECORDING:
                        _wait(
                            lambda: "" if session.is_recording() else "the recorder does not record", session
                        )
                    time.sleep(instants.uniform(0, longest_s))
                    assert session.process is not None
                    assert session.process.poll() is None, session.process.communicate()
                    while_recording += session.is_recording()
                    session.kill()
                    session.start()
                session.recording()
                deployment.clock(speed=0)
                _wait(lambda: _lacking(session, observer), session)
                session.finish_by_command()
            finally:
                if session.process is not None and session.process.poll() is None:
                    session.kill()
        compared = compare(observer.messages, session.folder.recording, session.gaps)
        compared.wrong += [observer.failure] if observer.failure else []
        compared.wrong += _faults(session)
        return RecorderKills(kills, while_recording, compared, len(session.gaps), time.monotonic() - began)


def _unconnected(session: Live) -> str:
    """Name the connections that are not open yet."""
    count = len(session.connections())
    return "" if count == _CONNECTIONS + 1 else f"{count} connections of the recorder and the observer"


def _lacking(session: Live, observer: Observer) -> str:
    """Name what recorder or observer do not have of what was sent, or the exchange has not sent."""
    sent, status = session.streams()["streams"], session.status()
    last, count = (
        {stream: one["last_id"] for stream, one in sent.items()},
        sum(one["count"] for one in sent.values()),
    )
    if len(observer.messages) != count:
        return f"the observer has {len(observer.messages):,} messages of {count:,}"
    return (
        ""
        if status is not None and status.last_ids == last
        else f"the recorder stands at {status and status.last_ids}, sent was {last}"
    )


def _wait(missing: Callable[[], str], session: Live) -> None:
    """Wait until nothing is missing; the recorder has to live until then."""
    deadline = time.monotonic() + _PATIENCE_S
    while what := missing():
        assert session.process is not None
        assert session.process.poll() is None, session.process.communicate()
        assert time.monotonic() < deadline, f"after {_PATIENCE_S:g} s: {what}"
        time.sleep(0.05)


def _faults(session: Live) -> list[str]:
    """Return what the project's own validation finds in the form, the order, the ledger and the files of the session."""
    left = [f"{path.name} was left" for path in session.folder.segments()]
    report = validate(session.folder.path, Thresholds(min_messages=0, duration_s=0), book=False)
    names = ("file", "line_form", "capture_order", "duplicates", "overlaps", "ledger", "checksums", "disk")
    failed = [check for name in names if (check := report.check(name)).verdict is not Verdict.PASS]
    return left + [f"validation: {check.name}: {check.reason}" for check in failed]
