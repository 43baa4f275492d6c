"""Ours: the whole recorder, from its connections to the synced file, against prepared frames.

Everything runs that runs in a session: connections, intake, merge, stamps, books, ledger, writer, status. Only REST is answered in the
process: a small snapshot for each book, and the time. It does not end while a message is missing, and it fails if one was dropped.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

from frames_file import FIRST_UPDATE, symbols_of
from stopwatch import serve

from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import streams_of
from capture_pipeline.recorder.app import STOPPED, Recorder, Setup
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan
from capture_pipeline.settings.sessions import Recording

_SNAPSHOT = (
    b'{"lastUpdateId":%d,"bids":[["1.00000000","1.00000000"]],"asks":[["9999999.00000000","1.00000000"]]}'
)
_QUEUE_MB = 4096


class Rest:
    """What the exchange answers."""

    def depth(self, symbol: str, limit: int) -> bytes:
        """A book that the first diff continues."""
        return _SNAPSHOT % (FIRST_UPDATE - 1)

    def server_time_us(self) -> int:
        """Ours."""
        return time.time_ns() // 1000


def main() -> None:
    """Serve; each line of input is the port of a server that waits for two connections."""
    symbols, messages = symbols_of(int(sys.argv[1])), int(sys.argv[2])
    root = Path(tempfile.mkdtemp(dir=sys.argv[3]))

    def work(port: int) -> int:
        folder = SessionFolder(root / "20260803T143000Z_bench")
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True)
        return asyncio.run(_recorded(folder, symbols, messages, Recording(queue_mb=_QUEUE_MB), port))

    serve(work)
    shutil.rmtree(root)


async def _recorded(
    folder: SessionFolder, symbols: list[str], messages: int, settings: Recording, port: int
) -> int:
    plan = SessionPlan(
        session=folder.session,
        venue="sandbox",
        market="spot",
        symbols=symbols,
        streams=streams_of(symbols),
        regime="custom",
        start_us=time.time_ns() // 1000,
        duration_s=3600,
        connections=2,
    )
    recorder = Recorder(
        Setup(folder, plan, settings, f"ws://127.0.0.1:{port}", cast("RestClient", Rest())),
        RecoveredSession(),
    )
    counts = recorder.pipeline.merge.counts

    async def end() -> None:
        while counts.passed < messages or counts.duplicates < messages:  # noqa: ASYNC110 - the merge counts, and tells nobody
            await asyncio.sleep(0.005)
        recorder.end(STOPPED)

    ending = asyncio.create_task(end())
    await recorder.run()
    await ending
    books = recorder.follower.states()
    if (
        recorder.pipeline.counts["dropped_messages"]
        or counts.passed != messages
        or set(books.values()) != {"synced"}
    ):
        raise RuntimeError(f"{counts}, {recorder.pipeline.counts}, {books}")
    return counts.passed


if __name__ == "__main__":
    main()
