"""A whole deployment for tests: a sandbox exchange, a temporary lake and quick retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.settings.loader import load_settings
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

NOW = "2025-02-20T10:30:00Z"
NO_SETTINGS = Path(__file__).with_name("empty.yaml")
QUICK = {
    "CAPTURE_VENUE": "sandbox",
    "CAPTURE_INTERVAL": "1h",
    "CAPTURE_SYMBOLS": "BTCUSDT",
    "CAPTURE_HISTORY_START": "2025-01-01",
    "CAPTURE_HTTP_BACKOFF_INITIAL_S": "0.01",
    "CAPTURE_HTTP_BACKOFF_MAX_S": "0.05",
    "CAPTURE_HTTP_READ_TIMEOUT_S": "30",
    "CAPTURE_HTTP_ATTEMPTS": "4",
}
# For an exchange that does not answer. Elsewhere a busy machine must not look like one.
SHORT_READ_TIMEOUT = {"CAPTURE_HTTP_READ_TIMEOUT_S": "1.5"}


class SandboxDeployment:
    """A sandbox exchange with control of its faults and clock, and a deployment that uses it."""

    def __init__(self, url: str, root: Path, **environment: str) -> None:
        """Set the addresses of the deployment to those of the exchange."""
        self.url = url
        self.root = root
        self._environment = environment
        self.deployment = self.reopened()

    def reopened(self, **environment: str) -> Deployment:
        """Return the deployment as a new process loads it, with additional settings."""
        return Deployment(load_settings(environ=self.environment(**environment), path=NO_SETTINGS))

    def environment(self, **environment: str) -> dict[str, str]:
        """Return the variables by which another process finds this deployment."""
        here = {
            "CAPTURE_CONFIG": str(NO_SETTINGS),
            "CAPTURE_SANDBOX_URL": self.url,
            "CAPTURE_STORAGE_ROOT": str(self.root),
        }
        return {**QUICK, **here, **self._environment, **environment}

    def faults(self, *rules: dict[str, Any]) -> None:
        """Replace the fault script."""
        self._send("PUT", "faults", list(rules))

    def injected(self) -> int:
        """Return the number of injections of each rule since the script was set."""
        return sum(rule["injected"] for rule in self._send("GET", "faults")["faults"])

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests since the log was cleared."""
        return list(self._send("GET", "requests"))

    def forget_requests(self) -> None:
        """Clear the log of requests."""
        self._send("DELETE", "requests")

    def clock(self, **change: object) -> None:
        """Set, advance or accelerate the clock of the exchange."""
        self._send("POST", "clock", change)

    def republish(self, key: str) -> None:
        """Publish a new version of a file."""
        self._send("POST", "republish", {"key": key})

    def _send(self, method: str, what: str, document: object = None) -> Any:
        answer = requests.request(method, f"{self.url}/_sandbox/{what}", json=document, timeout=60)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def run_sandbox_deployment(
    root: Path, config: dict[str, Any] | None = None, **environment: str
) -> Iterator[SandboxDeployment]:
    """Start an exchange for one test."""
    with SandboxServer(
        SandboxConfig.model_validate({"now": NOW, "frozen": True, **(config or {})})
    ) as server:
        yield SandboxDeployment(server.url, root, **environment)
