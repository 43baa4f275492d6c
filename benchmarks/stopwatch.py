"""Protocol of the measured processes: numbers on standard input, times and peak memory on standard output.

This module uses the standard library only, because the peers run in separate environments.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_KB_PER_MB = 1024


def serve(work: Callable[[int], int], prepare: Callable[[], None] | None = None) -> None:
    """Call `work` for each line of standard input and write the times as a line of JSON.

    Args:
        work: Function from the number of inputs to process to the number of rows.
        prepare: Function that is called before `work` and not measured.
    """
    for line in sys.stdin:
        if prepare is not None:
            prepare()
        wall, cpu = time.perf_counter(), time.process_time()
        rows = work(int(line))
        answer: dict[str, Any] = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "rows": rows,
        }
        sys.stdout.write(json.dumps({**answer, "peak_mb": peak_mb()}) + "\n")
        sys.stdout.flush()


def peak_mb() -> float:
    """Return the peak resident memory of this process so far.

    `/proc` is preferred, because on Linux the value of `getrusage` includes the peak of the parent process.
    """
    if _STATUS.is_file():
        line = next(
            line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) / _KB_PER_MB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_KB_PER_MB * _KB_PER_MB if sys.platform == "darwin" else _KB_PER_MB)


def parse_folders() -> tuple[list[Path], Path]:
    """Parse the arguments of a worker: a folder, whose zips are returned by month, and the output folder."""
    source, into = (Path(argument) for argument in sys.argv[1:3])
    into.mkdir(parents=True, exist_ok=True)
    return sorted(source.glob("*.zip"), key=lambda path: (path.stem[-7:], path.stem)), into
