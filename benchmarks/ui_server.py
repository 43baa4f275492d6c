"""Dagster's webserver and code server as processes that are measured, and the queries of the installed UI."""

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

import requests

LOCATION = {"repositoryLocationName": "capture_pipeline", "repositoryName": "__repository__"}
_TICKS = os.sysconf("SC_CLK_TCK")
_DOCUMENT = re.compile(r"gql`([^`]*)`")
_DEFINED = re.compile(r"\b(?:query|fragment) (\w+)")
_START_S = 300


@dataclass(frozen=True)
class Cost:
    """The cost of one request.

    Attributes:
        cpu_s: Seconds of all cores, of the webserver and the processes that it started.
        wall_s: Seconds on the clock.
        answer: The data of the answer.
    """

    cpu_s: float
    wall_s: float
    answer: Any


@dataclass(frozen=True)
class UiServer:
    """A webserver with its code server.

    Attributes:
        process: The webserver.
        port: Its port.
    """

    process: subprocess.Popen[bytes]
    port: int

    def cost(self, document: str, **variables: object) -> Cost:
        """Send a query, and measure it."""
        cpu, wall = cpu_s(self.process.pid), time.perf_counter()
        answer = self.ask(document, **variables)
        return Cost(cpu_s(self.process.pid) - cpu, time.perf_counter() - wall, answer)

    def ask(self, document: str, **variables: object) -> Any:  # noqa: ANN401 - JSON
        """Send a query: the data of the answer.

        Raises:
            RuntimeError: The answer has errors.
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
        workspace: A workspace file.
        environment: Of the processes.
        log: File for their output.
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
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(server: UiServer) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            nodes = server.ask("{assetNodes {id}}")["assetNodes"]
            if nodes:
                return
        time.sleep(0.5)
    raise TimeoutError(f"the webserver did not load its code location within {_START_S} s")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its descendants, those that ended included."""
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            spent[int(folder.name)] = sum(map(int, fields[11:15])) / _TICKS
    waiting, total = [pid], 0.0
    while waiting:
        each = waiting.pop()
        total += spent.get(each, 0.0)
        waiting += children.get(each, [])
    return total


def documents(*names: str) -> list[str]:
    """The queries of the installed UI with the fragments that they use, from the source maps of its pages.

    Args:
        names: Of queries.

    Raises:
        KeyError: The installed UI has no such query.
    """
    found = find_spec("dagster_webserver")
    if found is None or found.origin is None:
        raise KeyError(names)
    parts: dict[str, str] = {}
    for path in (Path(found.origin).parent / "webapp" / "build").rglob("*.js.map"):
        for source in json.loads(path.read_text(encoding="utf-8")).get("sourcesContent") or []:
            for document in _DOCUMENT.findall(source or ""):
                text = re.sub(r"\$\{\w+\}", "", document)
                for definition in re.split(r"(?m)^(?=\s*(?:query|fragment) \w)", text):
                    if name := _DEFINED.search(definition):
                        parts.setdefault(name[1], definition)
    return [_whole(name, parts) for name in names]


def _whole(name: str, parts: Mapping[str, str]) -> str:
    needed, waiting = {}, [name]
    while waiting:
        each = waiting.pop()
        if each not in needed:
            needed[each] = parts[each]
            waiting += [used for used in re.findall(r"\.\.\.\s*(\w+)", parts[each]) if used != "on"]
    return "\n".join(needed.values())
