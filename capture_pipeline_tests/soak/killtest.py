"""Program `make killtest`: kill recorders and backfills at random times; exit code 1 after an error.

    make killtest ARGS="--kills 200 --seed 7"

The seed is printed, so that a run can be repeated with the same random times. The state of the processes at
these times is not the same in a repeated run.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from capture_pipeline_tests.soak.kill_backfill import kill_backfill
from capture_pipeline_tests.soak.kill_recorder import kill_recorder

_MAX_SHOWN = 20


def main(arguments: list[str] | None = None) -> int:
    """Run both tests and print their results; return 1 after an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="kills of each kind")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--speed", type=float, default=20.0, help="sandbox seconds per second")
    parser.add_argument(
        "--longest-s", type=float, default=4.0, help="maximum seconds until a kill of a recorder"
    )
    parser.add_argument("--only", choices=("recorder", "backfill"))
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    _print_lines(f"seed {seed}")
    errors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="killtest-", ignore_cleanup_errors=True) as folder:
        if options.only != "backfill":
            recorder = kill_recorder(
                Path(folder) / "recorder",
                kills=options.kills,
                seed=seed,
                speed=options.speed,
                longest_s=options.longest_s,
            )
            _print_lines(recorder)
            errors += recorder.errors
        if options.only != "recorder":
            backfill = kill_backfill(Path(folder) / "backfill", kills=options.kills, seed=seed)
            _print_lines(backfill)
            errors += backfill.errors
    _print_lines(*errors[:_MAX_SHOWN])
    return 1 if errors else 0


def _print_lines(*lines: object) -> None:
    """Write lines to standard output at once."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
