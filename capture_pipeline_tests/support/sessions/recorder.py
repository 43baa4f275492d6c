"""A recorder as a real process against the sandbox, with faults, kills and checks of its files."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.lifecycle import create_plan, prepare, read_plan, sessions_root
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap, SessionMetadata
from capture_pipeline.sessions.status import Status, read_status
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

BUSY = {
    "symbol": "BTCUSDT",
    "base_price": 60000,
    "tick_size": 0.01,
    "lot_size": 0.00001,
    "trades_per_day": 400_000,
}
QUICK = {
    "CAPTURE_RECORDING_FREE_DISK_GB": "0.01",
    "CAPTURE_RECORDING_SILENCE_S": "1.5",
    "CAPTURE_RECORDING_AUDIT_MINUTES": "0.05",
    "CAPTURE_RECORDING_FLUSH_S": "0.2",
}
_WAIT_S = 40.0


class Live:
    """One session and its recorder."""

    def __init__(
        self, sandbox: SandboxDeployment, seconds: float, symbols: list[str], connections: int = 2
    ) -> None:
        """Prepare the session without starting the recorder."""
        self.sandbox = sandbox
        settings = sandbox.deployment.settings
        plan = create_plan(settings, symbols, "custom", seconds).model_copy(
            update={"connections": connections}
        )
        self.folder: SessionFolder = prepare(sessions_root(settings), plan)
        self.process: subprocess.Popen[str] | None = None

    def plan(self, **change: object) -> None:
        """Change the plan before the start."""
        publish_model(self.folder.plan, read_plan(self.folder).model_copy(update=change))

    def start(self, **environment: str) -> None:
        """Start the recorder."""
        command = [sys.executable, "-m", "capture_pipeline.recorder", str(self.folder.path)]
        env = {**os.environ, **self.sandbox.environment(**{**QUICK, **environment})}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for_end(self) -> tuple[int, str]:
        """Wait for the end of the recorder; return the exit code and the output."""
        assert self.process is not None
        _, output = self.process.communicate(timeout=60)
        return self.process.returncode, output

    def finish(self) -> dict[str, list[tuple[int, int]]]:
        """End the session and check it; return the ids by stream as `check_ids` does."""
        self.end()
        return self.check_ids()

    def end(self) -> None:
        """End the session for good."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        code, output = self.wait_for_end()
        assert code == 0, output
        # Only reports about connections and REST are expected.
        assert all(
            re.match(
                r"\S+Z  (cannot connect to |connection to |every connection |"
                r"REST: |no message was received within 10 s: )",
                line,
            )
            for line in output.splitlines()
        ), output

    def kill(self) -> None:
        """Kill the recorder with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def status(self) -> Status | None:
        """Read the status of the recorder."""
        return read_status(self.folder.status)

    def wait(self, condition: Callable[[Status], bool], within_s: float = _WAIT_S) -> Status:
        """Wait until the status fulfils the condition."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            status = self.status()
            is_own = status is not None and self.process is not None and status.pid == self.process.pid
            if status is not None and is_own and condition(status):
                return status
            assert self.process is None or self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        raise AssertionError(f"not in {within_s} s: {self.status()}")

    def recording(self, connections: int = 2) -> Status:
        """Wait until the recorder receives messages over this many connections."""
        now = time.time_ns()

        def is_recording(status: Status) -> bool:
            awake = [one for one in status.connections if one.messages and one.silent_s < 1]
            return status.updated_ns > now and status.state == "recording" and len(awake) == connections

        return self.wait(is_recording)

    def streams(self) -> dict[str, Any]:
        """Return the exchange's view of its connections and of the sent messages."""
        answer: dict[str, Any] = requests.get(f"{self.sandbox.url}/_sandbox/streams", timeout=60).json()
        return answer

    def limits(self) -> dict[str, Any]:
        """Return the exchange's counts for this address: connection attempts and refusals."""
        answer: dict[str, Any] = requests.get(f"{self.sandbox.url}/_sandbox/limits", timeout=60).json()
        return answer

    def inject_fault(self, fault: str, connection: int | str, **parameters: object) -> None:
        """Inject a fault into a connection, by its number at the exchange."""
        document = {"connection": connection, "fault": fault, **parameters}
        requests.post(f"{self.sandbox.url}/_sandbox/streams", json=document, timeout=60).raise_for_status()

    def connections(self) -> list[int]:
        """Return the exchange's numbers of all open connections, oldest first."""
        return sorted(one["number"] for one in self.streams()["connections"])

    @property
    def metadata(self) -> SessionMetadata:
        """Return the metadata of the finished session."""
        return SessionMetadata.model_validate_json(self.folder.metadata.read_bytes())

    @property
    def gaps(self) -> list[Gap]:
        """Return the ledger of the session."""
        return read_gaps(self.folder.gaps)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind."""
        events = [json.loads(line) for line in self.folder.events.read_text().splitlines()]
        return [event for event in events if event["event"] == kind]

    def check_ids(self) -> dict[str, list[tuple[int, int]]]:
        """Return the persisted ids by stream; check that they and the ledger cover each id exactly once."""
        ranges: dict[str, list[tuple[int, int]]] = {}
        stamps = []
        for line in gzip.decompress(self.folder.recording.read_bytes()).splitlines():
            parsed = json.loads(line)
            stamps.append(parsed["capture_ns"])
            data = parsed["data"]
            if "t" in data:
                ranges.setdefault(parsed["stream"], []).append((data["t"], data["t"]))
            elif "U" in data:
                ranges.setdefault(parsed["stream"], []).append(
                    (data["pu"] + 1 if "pu" in data else data["U"], data["u"])
                )
            elif data.get("e") == "aggTrade":
                ranges.setdefault(parsed["stream"], []).append((data["a"], data["a"]))
        assert stamps == sorted(set(stamps))
        for stream, found in ranges.items():
            lost = [
                (gap.last_good_id + 1, gap.first_good_id - 1) for gap in self.gaps if gap.stream == stream
            ]
            whole = sorted([*found, *lost])
            assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(whole)), stream
        subprocess.run(
            ["sha256sum", "-c", "--quiet", self.folder.checksums.name], cwd=self.folder.path, check=True
        )
        return ranges


@contextmanager
def live(
    root: Path,
    *,
    speed: float = 20,
    seconds: float = 600,
    connections: int = 2,
    config: dict[str, Any] | None = None,
) -> Iterator[Live]:
    """Prepare a session on a market that runs at `speed` times the real speed."""
    settings = {"frozen": False, "speed": speed, "symbols": [BUSY], **(config or {})}
    with run_sandbox_deployment(root, settings) as sandbox:
        one = Live(sandbox, seconds, ["BTCUSDT"], connections)
        try:
            yield one
        finally:
            if one.process is not None and one.process.poll() is None:
                one.kill()
