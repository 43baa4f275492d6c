"""The three benchmarks of the verdict that need no session, one at a time: each measures, publishes its evidence and returns it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from capture_pipeline.errors import BusyError
from capture_pipeline.feasibility.decimal_precision import benchmark as decimals
from capture_pipeline.feasibility.decimal_precision import report as decimals_report
from capture_pipeline.feasibility.disk_throughput import benchmark as disk
from capture_pipeline.feasibility.disk_throughput import report as disk_report
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.feasibility.replay_throughput import benchmark as replay
from capture_pipeline.lake.files import file_lock
from capture_pipeline.lake.paths import Lake

_PATIENCE_S, _LOOK_S = 3600.0, 0.5


@contextmanager
def benchmark_turn(lake: Lake) -> Iterator[EvidenceStore]:
    """Wait until no other benchmark of the lake runs, since two would measure each other; return the store of evidence.

    Raises:
        BusyError: Another benchmark has run for longer than an hour.
    """
    until = time.monotonic() + _PATIENCE_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(file_lock(lake.state("benchmark.lock")))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)
        yield EvidenceStore(lake.reports())


def measure_decimals(lake: Lake, rows: int, block_rows: int, seed: int, repeats: int) -> Evidence:
    """Compare representations of decimals.

    Args:
        lake: Receives the evidence.
        rows: Rows that every representation works on.
        block_rows: Rows of a block; memory depends on this number alone.
        seed: Of the generated rows.
        repeats: Attempts at each block; the fastest counts.

    Raises:
        StorageError: The disk refuses.
    """
    return _publish(
        lake, lambda: decimals_report.evidence_of(decimals.benchmark(rows, block_rows, seed, repeats))
    )


def measure_disk(lake: Lake, rows: list[int], medium_bytes: int, seed: int, repeats: int) -> Evidence:
    """Write and read on the medium of the lake.

    Args:
        lake: Receives the evidence; its disk is measured.
        rows: Numbers of rows of the tables; the largest table is held in memory.
        medium_bytes: Size of the plain file that measures the limit of the disk.
        seed: Of the generated rows.
        repeats: Attempts with the layout of the project; the slowest counts.

    Raises:
        CaptureError: The sizes measure nothing, or the disk refuses.
    """
    folder = lake.state("io_benchmark")
    return _publish(
        lake, lambda: disk_report.evidence_of(disk.measure(folder, rows, medium_bytes, repeats, seed))
    )


def measure_replay(lake: Lake, found: replay.Input, repeats: int, cap_mb: int) -> Evidence:
    """Replay a book.

    Args:
        lake: Receives the evidence.
        found: What is replayed.
        repeats: Runs of each kind; the fastest and the largest memory count.
        cap_mb: Memory in MB that the run with limited memory may use besides the program itself.

    Raises:
        CaptureError: A replay could not run.
    """
    return _publish(lake, lambda: replay.evidence_of(replay.measure(found, repeats, cap_mb)))


def measure_synthetic_replay(lake: Lake, events: int, repeats: int, cap_mb: int) -> Evidence:
    """Replay generated level updates, `events` of them; see `measure_replay` for the rest.

    Raises:
        CaptureError: A replay could not run, or the disk refuses.
    """
    return measure_replay(lake, replay.made_input(lake.state("made_session"), events), repeats, cap_mb)


def _publish(lake: Lake, measure: Callable[[], Evidence]) -> Evidence:
    with benchmark_turn(lake) as store:
        evidence = measure()
        store.publish(evidence)
    return evidence
