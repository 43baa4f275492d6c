"""Program that runs one replay in its own process, measures its memory, and prints its figures as JSON.

    python -m capture_pipeline.feasibility.replay_throughput.worker memory 8000000
    python -m capture_pipeline.feasibility.replay_throughput.worker parquet TABLES SESSION SYMBOL
    python -m capture_pipeline.feasibility.replay_throughput.worker raw RECORDING SYMBOL

With `--cap-mb N` as first arguments, the replay may use at most N MB more memory than the loaded program. If
that is not enough, the program prints one line and ends with exit code 3.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict

from capture_pipeline.errors import CaptureError
from capture_pipeline.feasibility.replay_throughput.synthetic_events import generate_events
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import Messages, copy_slice
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline.terminal import write_json, write_line

OUT_OF_MEMORY = 3
"""Exit code if the memory is not sufficient."""
_SAMPLE_INTERVAL_S = 0.01
_NO_STACK = "can't start new thread"
"""Text of Python's RuntimeError if there is not enough memory for the stack of a thread."""
_MB = 1 << 20


class ReplayRun(BaseModel):
    """Figures of one replay.

    Attributes:
        events: Number of level updates.
        messages: Number of messages.
        seconds: Duration.
        gaps: Number of gaps.
        peak_mb: Largest resident memory.
        p95_mb: 95th percentile of the resident memory.
        samples: Number of samples of the memory.
    """

    model_config = ConfigDict(frozen=True)

    events: int
    messages: int
    seconds: float
    gaps: int
    peak_mb: float
    p95_mb: float
    samples: int

    @property
    def events_per_s(self) -> float:
        """Level updates a second."""
        return self.events / self.seconds


class _Sampler(threading.Thread):
    """Thread that samples the resident memory a hundred times a second."""

    def __init__(self) -> None:
        super().__init__(name="memory", daemon=True)
        self.sizes: list[int] = []
        self._process = psutil.Process()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(_SAMPLE_INTERVAL_S):
            self.take()

    def take(self) -> None:
        self.sizes.append(self._process.memory_info().rss)

    def finish(self) -> None:
        """Take the last sample and end the thread."""
        self._end.set()
        self.join()
        self.take()


def main(arguments: list[str]) -> int:
    """Replay once to compile the kernels, then measure."""
    cap_mb = 0
    if arguments[0] == "--cap-mb":
        cap_mb, arguments = int(arguments[1]), arguments[2:]
    try:
        _warm_up(arguments)
    except CaptureError as error:
        write_line(error, err=True)
        return 2
    if cap_mb:
        limit = psutil.Process().memory_info().vms + cap_mb * _MB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        write_json(_measure(arguments).model_dump_json())
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _NO_STACK not in str(error):
            raise
        write_line(
            f"not enough memory: {cap_mb} MB in addition to the program itself are allowed "
            f"({str(error) or 'no details'})",
            err=True,
        )
        return OUT_OF_MEMORY
    except CaptureError as error:
        write_line(error, err=True)
        return 2
    return 0


def _warm_up(arguments: list[str]) -> None:
    """Compile every kernel that the replay needs."""
    for messages in generate_events(1):
        Replay().process(messages)
    for messages in islice(_open_source(arguments), 1) if arguments[0] != "memory" else ():
        Replay().process(messages)


def _measure(arguments: list[str]) -> ReplayRun:
    source = _open_source(arguments)
    replay, sampler = Replay(), _Sampler()
    sampler.start()
    started = time.perf_counter()
    for messages in source:
        replay.process(messages)
    seconds = time.perf_counter() - started
    sampler.finish()
    sizes = np.array(sampler.sizes) / _MB
    counts = replay.counts
    return ReplayRun(
        events=counts.events,
        messages=counts.messages,
        seconds=seconds,
        gaps=counts.gaps,
        peak_mb=float(sizes.max()),
        p95_mb=float(np.percentile(sizes, 95)),
        samples=len(sizes),
    )


def _open_source(arguments: list[str]) -> Iterable[Messages]:
    kind, *rest = arguments
    if kind == "memory":
        return [copy_slice(messages, 0, len(messages)) for messages in generate_events(int(rest[0]))]
    if kind == "parquet":
        return GoldenSource(GoldenTables(Path(rest[0]), rest[1]), rest[2])
    return RawSource(Path(rest[0]), rest[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
