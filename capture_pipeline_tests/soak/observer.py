"""A client of the exchange's streams that is independent of the recorder, and a comparison of both, message by message."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from capture_pipeline.sessions.models import Gap

Ids = tuple[str, int, int]
"""Stream, first id and last id of a message."""
_SNAPSHOT = "@depthSnapshot"


class Observer:
    """Receives every message of some streams over a connection of its own, from a thread.

    Attributes:
        messages: Messages as they came, in their order.
        failure: How the connection ended before it was closed; empty while it lives.
    """

    def __init__(self, url: str, streams: list[str]) -> None:
        """Connect.

        Args:
            url: Address of the sandbox.
            streams: Names of the streams.
        """
        address = f"{url.replace('http', 'ws', 1)}/stream?streams={'/'.join(streams)}"
        self._stack = ExitStack()
        self._client = self._stack.enter_context(
            connect(address, max_size=None, max_queue=None, compression=None, ping_interval=None)
        )
        self.messages: list[bytes] = []
        self.failure = ""
        self._is_closing = False
        self._thread = threading.Thread(target=self._receive, name="observer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the observer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect; what was received stays."""
        self._is_closing = True
        self._stack.close()
        self._thread.join()

    def _receive(self) -> None:
        try:
            while True:
                self.messages.append(self._client.recv(decode=False))
        except ConnectionClosed as closed:
            self.failure = "" if self._is_closing else f"the observer lost its connection: {closed}"


@dataclass
class Comparison:
    """What a recording has of the observed messages.

    Attributes:
        observed: Messages of the observer.
        recorded: Messages of the recording.
        listed: Observed messages that the recording lacks and whose ids are in the ledger.
        wrong: Everything else, in words.
    """

    observed: int = 0
    recorded: int = 0
    listed: int = 0
    wrong: list[str] = field(default_factory=list)


def compare(messages: Iterable[bytes], recording: Path, gaps: Iterable[Gap]) -> Comparison:
    """Compare observed messages with a recording and its ledger: each message is in exactly one of both, with its bytes unchanged.

    Args:
        messages: Messages of an observer, as they came.
        recording: Finished recording.
        gaps: Its ledger.
    """
    observed = {ids_of(json.loads(message)): message for message in messages}
    found = Comparison(observed=len(observed))
    seen: set[Ids] = set()
    for line in gzip.decompress(recording.read_bytes()).splitlines():
        body = line.partition(b",")[2]
        parsed = json.loads(b"{" + body)
        if parsed["stream"].endswith(_SNAPSHOT):
            continue
        ids = ids_of(parsed)
        found.recorded += 1
        if ids in seen:
            found.wrong.append(f"{ids} is recorded twice")
        seen.add(ids)
        if ids not in observed:
            found.wrong.append(f"{ids} is recorded and was never sent")
        elif observed[ids][1:] != body:
            found.wrong.append(f"{ids} is recorded with other bytes: {body[:80]!r}")
    lacking = sorted(observed.keys() - seen)
    listed = sorted((gap.stream, gap.last_good_id + 1, gap.first_good_id - 1) for gap in gaps)
    found.listed = len(lacking)
    if (missing := joined(lacking)) != (told := joined(listed)):
        found.wrong += [f"{ids} is missing and not in the ledger" for ids in missing if ids not in told]
        found.wrong += [f"{ids} is in the ledger and not missing" for ids in told if ids not in missing]
    return found


def ids_of(message: dict[str, Any]) -> Ids:
    """Return the ids of a message of the combined stream, of trades or diffs."""
    data = message["data"]
    return (
        (message["stream"], data["t"], data["t"])
        if "t" in data
        else (message["stream"], data["U"], data["u"])
    )


def joined(ranges: Iterable[Ids]) -> list[Ids]:
    """Join ranges of ids that follow each other; sorted input."""
    found: list[Ids] = []
    for stream, first, last in ranges:
        if found and found[-1][0] == stream and first == found[-1][2] + 1:
            found[-1] = (stream, found[-1][1], last)
        else:
            found.append((stream, first, last))
    return found
