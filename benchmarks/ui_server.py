"""Webserver and code server of Dagster as measured processes, and the queries of the installed UI."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import requests

LOCATION = {"repositoryLocationName": "capture_pipeline", "repositoryName": "__repository__"}
_DOCUMENT = re.compile(r"gql`([^`]*)`")
_DEFINITION = re.compile(r"\b(?:query|fragment) (\w+)")
_START_S = 300


@dataclass(frozen=True)
class Cost:
    """Cost of one request.

    Attributes:
        cpu_s: CPU seconds of the webserver and its child processes.
        wall_s: Wall-clock seconds.
        answer: Data of the response.
    """

    cpu_s: float
    wall_s: float
    answer: Any


@dataclass(frozen=True)
class UiServer:
    """Webserver with its code server.

    Attributes:
        process: Process of the webserver.
        port: Port on 127.0.0.1.
    """

    process: subprocess.Popen[bytes]
    port: int

    def measure_query(self, document: str, **variables: object) -> Cost:
        """Send a query and measure its cost."""
        cpu, wall = cpu_s(self.process.pid), time.perf_counter()
        answer = self.query(document, **variables)
        return Cost(cpu_s(self.process.pid) - cpu, time.perf_counter() - wall, answer)

    def query(self, document: str, **variables: object) -> Any:  # noqa: ANN401 - JSON
        """Send a query and return the data of the response.

        Raises:
            RuntimeError: The response contains errors.
        """
        body = {"query": document, "variables": variables}
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=1800).json()
        if "errors" in answer:
            raise RuntimeError(answer["errors"])
        return answer["data"]


@contextlib.contextmanager
def ui_server(workspace: Path, environment: Mapping[str, str], log: Path) -> Iterator[UiServer]:
    """Start the webserver and wait until its code location is loaded.

    Args:
        workspace: Workspace file of Dagster.
        environment: Additional environment variables of the processes.
        log: File for the output of the processes.
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "capture_pipeline.webserver",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-w",
        str(workspace),
    ]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output) as process,
    ):
        try:
            server = UiServer(process, port)
            _wait(server)
            yield server
        finally:
            process.terminate()


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(server: UiServer) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            nodes = server.query("{assetNodes {id}}")["assetNodes"]
            if nodes:
                return
        time.sleep(0.5)
    raise TimeoutError(f"the webserver did not load its code location within {_START_S} s")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants, including those that ended."""
    process, total = psutil.Process(pid), 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def read_queries(*names: str) -> list[str]:
    """Read queries of the installed UI, with their fragments, from the source maps of its pages.

    Args:
        names: Names of queries.

    Raises:
        KeyError: The installed UI does not have a query of this name.
    """
    spec = find_spec("dagster_webserver")
    if spec is None or spec.origin is None:
        raise KeyError(names)
    parts: dict[str, str] = {}
    for path in (Path(spec.origin).parent / "webapp" / "build").rglob("*.js.map"):
        for source in json.loads(path.read_text(encoding="utf-8")).get("sourcesContent") or []:
            for document in _DOCUMENT.findall(source or ""):
                text = re.sub(r"\$\{\w+\}", "", document)
                for definition in re.split(r"(?m)^(?=\s*(?:query|fragment) \w)", text):
                    if name := _DEFINITION.search(definition):
                        parts.setdefault(name[1], definition)
    return [_with_fragments(name, parts) for name in names]


def _with_fragments(name: str, parts: Mapping[str, str]) -> str:
    needed, waiting = {}, [name]
    while waiting:
        each = waiting.pop()
        if each not in needed:
            needed[each] = parts[each]
            waiting += [used for used in re.findall(r"\.\.\.\s*(\w+)", parts[each]) if used != "on"]
    return "\n".join(needed.values())
