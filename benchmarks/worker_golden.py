"""Ours: a golden sample validated or converted, by the functions that the commands call.

.venv/bin/python benchmarks/worker_golden.py validate|convert RECORDING FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from stopwatch import serve


def main() -> None:
    """Serve."""
    what, recording, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

    def work(_: int) -> int:
        return _validated(recording) if what == "validate" else _converted(recording, folder)

    serve(work, before=lambda: shutil.rmtree(folder, ignore_errors=True))


def _validated(recording: Path) -> int:
    """Every check but the replay of the book."""
    from capture_pipeline.golden.validation.validate import validate  # noqa: PLC0415 - each needs its own, and their memory is measured

    report = validate(recording, book=False)
    for name in ("continuity", "duplicates"):
        if str(report.check(name).verdict) != "PASS":
            raise RuntimeError(report.check(name).reason)
    return int(report.statistics["messages"])


def _converted(recording: Path, folder: Path) -> int:
    """Exact, checked, hour by hour, with a manifest."""
    from capture_pipeline.golden.conversion.converter import convert  # noqa: PLC0415 - likewise

    return sum(convert(recording, "20260803T123000Z_btcusdt", folder).rows.values())


if __name__ == "__main__":
    main()
