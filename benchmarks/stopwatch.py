"""What every measured process has in common: orders by standard input, times and peak memory by standard output.

Standard library only, since the peers run in an environment of their own.
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


def serve(work: Callable[[int], int], before: Callable[[], None] | None = None) -> None:
    """Do `work` once for each line of standard input and answer each with a line of JSON.

    Args:
        work: Takes the number on the line, which says how much of its input it is to work through; returns the rows it made.
        before: Called before each piece of work, outside its time.
    """
    for line in sys.stdin:
        if before is not None:
            before()
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
    """Peak resident memory of this process so far.

    Where /proc is there it is asked, because on Linux the figure of `getrusage` begins with that of the parent.
    """
    if _STATUS.is_file():
        line = next(
            line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) / _KB_PER_MB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_KB_PER_MB * _KB_PER_MB if sys.platform == "darwin" else _KB_PER_MB)


def folders() -> tuple[list[Path], Path]:
    """The two arguments of a worker: the zips of a folder, by month and then by symbol, and the folder to write into."""
    source, into = (Path(argument) for argument in sys.argv[1:3])
    into.mkdir(parents=True, exist_ok=True)
    return sorted(source.glob("*.zip"), key=lambda path: (path.stem[-7:], path.stem)), into
