"""Stream client that is independent of the recorder, and a comparison of their messages."""

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
    """Stream client that receives messages in a thread over a connection of its own.

    Attributes:
        messages: Received messages in order.
        failure: Reason for the loss of the connection; empty without a loss.
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
        """Disconnect and keep the received messages."""
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
    """Comparison of a recording with the observed messages.

    Attributes:
        observed: Number of messages of the observer.
        recorded: Number of messages of the recording.
        listed: Number of observed messages that the recording lacks.
        errors: Descriptions of all differences that the ledger does not contain.
    """

    observed: int = 0
    recorded: int = 0
    listed: int = 0
    errors: list[str] = field(default_factory=list)


def compare(messages: Iterable[bytes], recording: Path, gaps: Iterable[Gap]) -> Comparison:
    """Check that each observed message is either recorded byte for byte or in the ledger.

    Args:
        messages: Messages of an observer.
        recording: Finished recording.
        gaps: Ledger of the recording.
    """
    observed = {ids_of(json.loads(message)): message for message in messages}
    result = Comparison(observed=len(observed))
    recorded_ids: set[Ids] = set()
    for line in gzip.decompress(recording.read_bytes()).splitlines():
        body = line.partition(b",")[2]
        parsed = json.loads(b"{" + body)
        if parsed["stream"].endswith(_SNAPSHOT):
            continue
        ids = ids_of(parsed)
        result.recorded += 1
        if ids in recorded_ids:
            result.errors.append(f"{ids} is recorded twice")
        recorded_ids.add(ids)
        if ids not in observed:
            result.errors.append(f"{ids} is recorded and was never sent")
        elif observed[ids][1:] != body:
            result.errors.append(f"{ids} is recorded with other bytes: {body[:80]!r}")
    missing_ids = sorted(observed.keys() - recorded_ids)
    listed = sorted((gap.stream, gap.last_good_id + 1, gap.first_good_id - 1) for gap in gaps)
    result.listed = len(missing_ids)
    if (missing := join_ranges(missing_ids)) != (ledger := join_ranges(listed)):
        result.errors += [f"{ids} is missing and not in the ledger" for ids in missing if ids not in ledger]
        result.errors += [f"{ids} is in the ledger and not missing" for ids in ledger if ids not in missing]
    return result


def ids_of(message: dict[str, Any]) -> Ids:
    """Return the ids of a trade or diff in the envelope of the combined stream."""
    data = message["data"]
    return (
        (message["stream"], data["t"], data["t"])
        if "t" in data
        else (message["stream"], data["U"], data["u"])
    )


def join_ranges(ranges: Iterable[Ids]) -> list[Ids]:
    """Join contiguous ranges of ids; the input is sorted."""
    joined: list[Ids] = []
    for stream, first, last in ranges:
        if joined and joined[-1][0] == stream and first == joined[-1][2] + 1:
            joined[-1] = (stream, joined[-1][1], last)
        else:
            joined.append((stream, first, last))
    return joined
