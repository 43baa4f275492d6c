"""Program `make bench`: exit code 1 if a target is missed, 2 if the peers are not installed."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bench_books
import bench_coverage
import bench_frames
import bench_gates
import bench_golden
import bench_memory
import bench_parquet
import bench_recording
import bench_starts
import bench_transport
from facts import describe_machine
from inputs import OUT
from processes import BOOK_PEERS, PEERS, Series
from report import HEADINGS, MISSED, SERIES_HEADINGS, Finding, format_table, publish, series_rows

Measure = Callable[[int], tuple[list[Finding], list[Series]]]
_BENCHMARKS: dict[str, tuple[Measure, int]] = {
    bench_parquet.NAME: (bench_parquet.measure, 5),
    bench_memory.NAME: (bench_memory.measure, 2),
    bench_gates.NAME: (bench_gates.measure, 3),
    bench_starts.NAME: (bench_starts.measure, 1),
    bench_coverage.NAME: (bench_coverage.measure, 3),
    bench_recording.NAME: (bench_recording.measure, 3),
    bench_frames.NAME: (bench_frames.measure, 5),
    bench_transport.NAME: (bench_transport.measure, 5),
    bench_golden.NAME: (bench_golden.measure, 3),
    bench_books.NAME: (bench_books.measure, 5),
}
"""Benchmarks by name, with the default number of repeats."""


def main() -> int:
    """Run the benchmarks, print and write the results."""
    arguments = _arguments()
    if not Path(PEERS).is_file() or not Path(BOOK_PEERS).is_file():
        sys.stderr.write(
            "The peers are not installed; run `make bench`, which installs them into separate environments.\n"
        )
        return 2
    facts = describe_machine()
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    findings: list[Finding] = []
    timed: list[tuple[str, Series]] = []
    for name in arguments.only or _BENCHMARKS:
        measure, repeats = _BENCHMARKS[name]
        started = time.monotonic()
        print(f"{name} …", end=" ", flush=True)
        new_findings, series = measure(arguments.repeats or repeats)
        print(f"{time.monotonic() - started:.0f} s", flush=True)
        findings += new_findings
        timed += [(name, each) for each in series]
    shutil.rmtree(OUT / "work", ignore_errors=True)
    publish(OUT, facts, findings, timed)
    print("\n" + format_table(SERIES_HEADINGS, series_rows(timed)))
    print("\n" + format_table(HEADINGS, [finding.row() for finding in findings]))
    missed = [finding for finding in findings if finding.verdict == MISSED]
    print(f"\n{len(missed)} targets missed; {OUT / 'results.md'}, {OUT / 'results.json'}")
    return int(bool(missed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=list(_BENCHMARKS),
        help="Run this benchmark; may be repeated. Default: all.",
    )
    parser.add_argument(
        "--repeats", type=int, help="Number of rounds. Default: one to five, depending on the benchmark."
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
