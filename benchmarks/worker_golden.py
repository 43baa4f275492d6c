"""Ours: validation or conversion of a golden sample with the functions of the commands.

.venv/bin/python benchmarks/worker_golden.py validate|convert RECORDING FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from stopwatch import serve


def main() -> None:
    """Run the stopwatch; the number is not used."""
    task, recording, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

    def work(_: int) -> int:
        return _validate(recording) if task == "validate" else _convert(recording, folder)

    serve(work, prepare=lambda: shutil.rmtree(folder, ignore_errors=True))


def _validate(recording: Path) -> int:
    """Run all checks except the replay of the book."""
    from capture_pipeline.golden.validation.validator import validate  # noqa: PLC0415 - memory is measured

    report = validate(recording, book=False)
    for name in ("continuity", "duplicates"):
        if str(report.check(name).verdict) != "PASS":
            raise RuntimeError(report.check(name).reason)
    return int(report.statistics["messages"])


def _convert(recording: Path, folder: Path) -> int:
    """Convert to exact tables with a manifest."""
    from capture_pipeline.golden.conversion.converter import convert  # noqa: PLC0415 - memory is measured

    return sum(convert(recording, "20260803T123000Z_btcusdt", folder).rows.values())


if __name__ == "__main__":
    main()
