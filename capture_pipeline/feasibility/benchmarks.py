"""The benchmarks of decimals, disk and replay. Each measures, publishes its evidence and returns it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from capture_pipeline.feasibility.decimal_precision import benchmark as decimals
from capture_pipeline.feasibility.decimal_precision import report as decimals_report
from capture_pipeline.feasibility.disk_throughput import benchmark as disk
from capture_pipeline.feasibility.disk_throughput import report as disk_report
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.feasibility.replay_throughput import benchmark as replay
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.lake.paths import Lake

_LOCK_TIMEOUT_S = 3600.0


@contextmanager
def benchmark_turn(lake: Lake) -> Iterator[EvidenceStore]:
    """Wait until no other benchmark of the lake runs, and return the store of evidence.

    Two benchmarks at the same time would slow each other down.

    Raises:
        BusyError: Another benchmark ran during the whole wait of an hour.
    """
    with file_lock(lake.state("benchmark.lock"), _LOCK_TIMEOUT_S):
        yield EvidenceStore(lake.reports())


def measure_decimals(lake: Lake, rows: int, block_rows: int, seed: int, repeats: int) -> Evidence:
    """Compare representations of decimals.

    Args:
        lake: Lake in which the evidence is published.
        rows: Number of rows for every representation.
        block_rows: Number of rows of a block; the memory depends on it.
        seed: Seed of the generated rows.
        repeats: Attempts at each block; the fastest one counts.

    Raises:
        StorageError: The evidence cannot be written.
    """
    return _publish(
        lake, lambda: decimals_report.evidence_of(decimals.run_benchmark(rows, block_rows, seed, repeats))
    )


def measure_disk(lake: Lake, rows: list[int], medium_bytes: int, seed: int, repeats: int) -> Evidence:
    """Measure writing and reading on the disk of the lake.

    Args:
        lake: Lake whose disk is measured, and in which the evidence is published.
        rows: Numbers of rows of the tables; the largest table must fit into memory.
        medium_bytes: Size of the plain file that measures the limit of the disk.
        seed: Seed of the generated rows.
        repeats: Attempts with the project's layout; the slowest one counts.

    Raises:
        CaptureError: A size or the number of attempts is too small, or a file cannot be written.
    """
    folder = lake.state("io_benchmark")
    return _publish(
        lake, lambda: disk_report.evidence_of(disk.measure(folder, rows, medium_bytes, repeats, seed))
    )


def measure_replay(lake: Lake, found: replay.ReplayInput, repeats: int, cap_mb: int) -> Evidence:
    """Measure replays of a book.

    Args:
        lake: Lake in which the evidence is published.
        found: Input of the replays.
        repeats: Runs of each kind; the fastest time and the largest memory count.
        cap_mb: Memory in MB that the run with limited memory may use in addition to the program itself.

    Raises:
        CaptureError: A replay failed.
    """
    return _publish(lake, lambda: replay.evidence_of(replay.measure(found, repeats, cap_mb)))


def measure_synthetic_replay(lake: Lake, events: int, repeats: int, cap_mb: int) -> Evidence:
    """Measure replays of `events` generated level updates; see `measure_replay`.

    Raises:
        CaptureError: A replay failed, or a file cannot be written.
    """
    return measure_replay(lake, replay.synthetic_input(lake.state("made_session"), events), repeats, cap_mb)


def _publish(lake: Lake, measure: Callable[[], Evidence]) -> Evidence:
    with benchmark_turn(lake) as store:
        evidence = measure()
        store.publish(evidence)
    return evidence
