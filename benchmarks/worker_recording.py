"""Ours: the complete recorder, from its connections to the synced file, with prepared frames.

All parts of a session run: connections, intake, merge, capture times, books, ledger, writer and status. Only
REST is replaced: it returns a small snapshot for each book, and the time. The run ends when all messages are
recorded, and fails if a message was dropped.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

from frames_file import FIRST_UPDATE, symbol_names
from stopwatch import serve

from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import list_streams
from capture_pipeline.recorder.app import Recorder
from capture_pipeline.recorder.events import Outcome
from capture_pipeline.recorder.factory import Setup, compose_parts
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan
from capture_pipeline.settings.sessions import Recording

_SNAPSHOT = (
    b'{"lastUpdateId":%d,"bids":[["1.00000000","1.00000000"]],"asks":[["9999999.00000000","1.00000000"]]}'
)
_QUEUE_MB = 4096


class Rest:
    """Replacement of the REST client."""

    def depth(self, symbol: str, limit: int) -> bytes:
        """Return a snapshot that precedes the first diff."""
        return _SNAPSHOT % (FIRST_UPDATE - 1)

    def server_time_us(self) -> int:
        """Return the time of this machine."""
        return time.time_ns() // 1000


def main() -> None:
    """Run the stopwatch; each input line is the port of a server that waits for two connections."""
    symbols, messages = symbol_names(int(sys.argv[1])), int(sys.argv[2])
    root = Path(tempfile.mkdtemp(dir=sys.argv[3]))

    def work(port: int) -> int:
        folder = SessionFolder(root / "20260803T143000Z_bench")
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True)
        return asyncio.run(_record(folder, symbols, messages, Recording(queue_mb=_QUEUE_MB), port))

    serve(work)
    shutil.rmtree(root)


async def _record(
    folder: SessionFolder, symbols: list[str], messages: int, settings: Recording, port: int
) -> int:
    plan = SessionPlan(
        session=folder.session,
        venue="sandbox",
        market="spot",
        symbols=symbols,
        streams=list_streams(symbols),
        regime="custom",
        start_us=time.time_ns() // 1000,
        duration_s=3600,
        connections=2,
    )
    setup = Setup(folder, plan, settings, f"ws://127.0.0.1:{port}", cast("RestClient", Rest()))
    parts = compose_parts(setup, RecoveredSession())
    recorder, counts = Recorder(parts), parts.pipeline.counts.merge

    async def end() -> None:
        while counts.passed < messages or counts.duplicates < messages:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
        recorder.end(Outcome.STOPPED)

    ending = asyncio.create_task(end())
    await recorder.run()
    await ending
    books = parts.follower.states()
    if (
        parts.pipeline.counts.dropped_messages
        or counts.passed != messages
        or set(books.values()) != {"synced"}
    ):
        raise RuntimeError(f"{counts}, {parts.pipeline.counts}, {books}")
    return counts.passed


if __name__ == "__main__":
    main()
