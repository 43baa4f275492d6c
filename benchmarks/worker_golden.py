"""Ours: validation or conversion of a golden sample with the functions of the commands.

.venv/bin/python benchmarks/worker_golden.py validate|convert RECORDING FOLDER
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from stopwatch import serve


def main() -> None:
    """Run the stopwatch; the number is not used. A task imports only its own modules, unmeasured."""
    task, recording, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    work = _prepare_validation(recording) if task == "validate" else _prepare_conversion(recording, folder)
    serve(work, prepare=lambda: shutil.rmtree(folder, ignore_errors=True))


def _prepare_validation(recording: Path) -> Callable[[int], int]:
    """Return a function that runs all checks except the replay of the book."""
    from capture_pipeline.golden.validation.validator import validate  # noqa: PLC0415 - memory is measured

    def work(_: int) -> int:
        report = validate(recording, book=False)
        for name in ("continuity", "duplicates"):
            if str(report.check(name).verdict) != "PASS":
                raise RuntimeError(report.check(name).reason)
        return int(report.statistics["messages"])

    return work


def _prepare_conversion(recording: Path, folder: Path) -> Callable[[int], int]:
    """Return a function that converts to exact tables with a manifest."""
    from capture_pipeline.golden.conversion.converter import convert  # noqa: PLC0415 - memory is measured

    return lambda _: sum(convert(recording, "20260803T123000Z_btcusdt", folder).rows.values())


if __name__ == "__main__":
    main()
