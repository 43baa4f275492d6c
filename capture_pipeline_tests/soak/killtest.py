"""`make killtest`: kill recorders and backfills at random instants; exit code 1 if a message or a file is not accounted for.

    make killtest ARGS="--kills 200 --seed 7"

The seed is printed, so that a run can be repeated; what the machine does at an instant is not repeated with it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from capture_pipeline_tests.soak.kill_backfill import kill_backfill
from capture_pipeline_tests.soak.kill_recorder import kill_recorder

_MOST_SHOWN = 20


def main(arguments: list[str] | None = None) -> int:
    """Kill both, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="of each")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--speed", type=float, default=20.0, help="seconds of the market a second")
    parser.add_argument("--longest-s", type=float, default=4.0, help="a recorder records at most so long")
    parser.add_argument("--only", choices=("recorder", "backfill"))
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    _say(f"seed {seed}")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="killtest-", ignore_cleanup_errors=True) as folder:
        if given.only != "backfill":
            recorder = kill_recorder(
                Path(folder) / "recorder",
                kills=given.kills,
                seed=seed,
                speed=given.speed,
                longest_s=given.longest_s,
            )
            _say(recorder)
            wrong += recorder.wrong
        if given.only != "recorder":
            backfill = kill_backfill(Path(folder) / "backfill", kills=given.kills, seed=seed)
            _say(backfill)
            wrong += backfill.wrong
    _say(*wrong[:_MOST_SHOWN])
    return 1 if wrong else 0


def _say(*lines: object) -> None:
    """Write lines to standard output at once."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
