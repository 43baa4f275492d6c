"""Comparison of a recorder that gets SIGKILL at random times with an independent observer."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from capture_pipeline.checks.model import Verdict
from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline_tests.soak.observer import Comparison, Observer, compare
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, QUICK, Live

_STREAMS = ["btcusdt@trade", "btcusdt@depth@100ms"]
_CONNECTIONS = 2
_DURATION_S = 86_400.0
_ATTEMPTS = 100_000
_TIMEOUT_S = 60.0
_SHARE_WHILE_RECORDING = 0.75
"""Share of the kills that wait until the recorder records; the others may kill it during its start."""
_COMMAND = [sys.executable, "-c", "from capture_pipeline.cli.main import main; main()"]


@dataclass
class RecorderKills:
    """Results of the test.

    Attributes:
        kills: Number of kills.
        kills_while_recording: Number of kills while the recorder recorded; the others were during a start.
        comparison: Comparison of the recording with the observer.
        gaps: Number of lines of the ledger.
        seconds: Duration.
    """

    kills: int
    kills_while_recording: int
    comparison: Comparison
    gaps: int
    seconds: float

    @property
    def errors(self) -> list[str]:
        """Differences from the expected results."""
        return self.comparison.errors

    def __str__(self) -> str:
        """Return a summary in one line."""
        one = self.comparison
        return (
            f"recorder: {self.kills} kills in {self.seconds:.0f} s, {self.kills_while_recording} while it "
            f"recorded; {one.observed:,} messages observed, {one.recorded:,} recorded byte for byte, "
            f"{one.listed:,} in {self.gaps} gaps of the ledger, {len(one.errors)} errors"
        )


class CommandLineSession(Live):
    """A session that `capture session start` records in the foreground; another start resumes the session."""

    def start(self, **environment: str) -> None:
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
        env = {**os.environ, **self.sandbox.environment(**{**QUICK, **environment})}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def is_recording(self) -> bool:
        """Return whether the status of the present process is `recording`."""
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
        env = {**os.environ, **self.sandbox.environment(**QUICK)}
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=_TIMEOUT_S)
        _, errors = self.process.communicate(timeout=_TIMEOUT_S)
        assert self.process.returncode == 0, errors


def kill_recorder(
    root: Path, *, kills: int, seed: int, speed: float = 20.0, longest_s: float = 4.0
) -> RecorderKills:
    """Record, kill and resume, and compare the recording with the sent messages.

    Args:
        root: Empty folder.
        kills: Number of kills.
        seed: Seed of the random times.
        speed: Sandbox seconds per second.
        longest_s: Maximum seconds between a kill and the start of the process or of its recording.
    """
    start_s, rng, kills_while_recording = time.monotonic(), random.Random(seed), 0  # noqa: S311 - not secret
    config = {"frozen": True, "symbols": [BUSY], "connection_attempts": _ATTEMPTS}
    # A killed recorder connects more often than the limit of the exchange allows.
    with exchange(root, config, CAPTURE_RATE_LIMITS_CONNECTIONS_PER_5_MINUTES=str(_ATTEMPTS)) as sandbox:
        session = CommandLineSession(sandbox, _DURATION_S, ["BTCUSDT"], _CONNECTIONS)
        with Observer(sandbox.url, _STREAMS) as observer:
            try:
                session.start()
                _wait(lambda: _missing_connections(session), session)
                sandbox.clock(speed=speed)
                session.recording()
                for _ in range(kills):
                    if rng.random() < _SHARE_WHILE_RECORDING:
                        _wait(
                            lambda: "" if session.is_recording() else "the recorder does not record", session
                        )
                    time.sleep(rng.uniform(0, longest_s))
                    assert session.process is not None
                    assert session.process.poll() is None, session.process.communicate()
                    kills_while_recording += session.is_recording()
                    session.kill()
                    session.start()
                session.recording()
                sandbox.clock(speed=0)
                _wait(lambda: _missing_messages(session, observer), session)
                session.finish_by_command()
            finally:
                if session.process is not None and session.process.poll() is None:
                    session.kill()
        comparison = compare(observer.messages, session.folder.recording, session.gaps)
        comparison.errors += [observer.failure] if observer.failure else []
        comparison.errors += _validate(session)
        return RecorderKills(
            kills, kills_while_recording, comparison, len(session.gaps), time.monotonic() - start_s
        )


def _missing_connections(session: Live) -> str:
    """Describe missing connections; empty if all are open."""
    count = len(session.connections())
    return "" if count == _CONNECTIONS + 1 else f"{count} connections of the recorder and the observer"


def _missing_messages(session: Live, observer: Observer) -> str:
    """Describe the sent messages that the recorder or the observer lacks; empty if both have all."""
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
        else f"the recorder has the last ids {status and status.last_ids}, the exchange sent {last}"
    )


def _wait(missing: Callable[[], str], session: Live) -> None:
    """Wait until `missing` returns an empty text; fail if the recorder ends before."""
    deadline = time.monotonic() + _TIMEOUT_S
    while text := missing():
        assert session.process is not None
        assert session.process.poll() is None, session.process.communicate()
        assert time.monotonic() < deadline, f"after {_TIMEOUT_S:g} s: {text}"
        time.sleep(0.05)


def _validate(session: Live) -> list[str]:
    """Validate the form, order, ledger and files of the session, and describe the failed checks."""
    left = [f"{path.name} was not removed" for path in session.folder.segments()]
    report = validate(session.folder.path, replace(DEFAULTS, min_messages=0, duration_s=0), book=False)
    names = ("file", "line_form", "capture_order", "duplicates", "overlaps", "ledger", "checksums", "disk")
    failed = [check for name in names if (check := report.check(name)).verdict is not Verdict.PASS]
    return left + [f"validation: {check.spec.name}: {check.reason}" for check in failed]
