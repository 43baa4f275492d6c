"""Commands of the project as processes, and the sandbox exchange's limits for their address."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.waits import wait_for

CAPTURE = str(Path(sys.executable).with_name("capture"))
OVER = "banned this address until"


class Process:
    """A command of the project whose standard error is read while it runs."""

    def __init__(self, sandbox: SandboxDeployment, log: Path, *arguments: str, **environment: str) -> None:
        self._log = log
        with log.open("w") as file:
            env = {**os.environ, **sandbox.environment(**environment)}
            self.process = subprocess.Popen(
                [CAPTURE, *arguments], env=env, stdout=subprocess.DEVNULL, stderr=file
            )

    def output(self) -> str:
        """Output so far."""
        return self._log.read_text()

    def wait_for_output(self, text: str) -> None:
        """Wait for an output."""
        wait_for(lambda: text in self.output() or self.process.poll() is not None, 60)
        assert text in self.output(), self.output()

    def end(self) -> int:
        """Wait for the end of the process."""
        return self.process.wait(120)


def limits(sandbox: SandboxDeployment, refuse: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the limits of the exchange after a forced refusal of this address."""
    url = f"{sandbox.url}/_sandbox/limits"
    answer = requests.post(url, json=refuse, timeout=60) if refuse else requests.get(url, timeout=10)
    answer.raise_for_status()
    return dict(answer.json())


@contextmanager
def command(sandbox: SandboxDeployment, log: Path, *arguments: str, **environment: str) -> Iterator[Process]:
    """Run a command, and kill it if the test fails."""
    one = Process(sandbox, log, *arguments, **environment)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
