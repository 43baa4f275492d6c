"""`make accelerated-day`: a day of the market in minutes, under repeated faults, with every id accounted for.

Exit code 1 if an id is not accounted for.

    .venv/bin/python -m capture_pipeline_tests.soak.accelerated_day --hours 24 --speed 400
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from capture_pipeline_tests.soak.day import Account, Pace, everything_at_once, one_at_a_time


def main() -> int:
    """Record both days and report the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=24, help="of the market")
    parser.add_argument(
        "--speed", type=float, default=400, help="sandbox seconds a second; a slow machine needs less"
    )
    parser.add_argument("--cuts", type=int, default=20, help="of each connection, at least")
    parser.add_argument("--only", choices=["a", "b"], help="one of the two days")
    given = parser.parse_args()
    pace = Pace(given.hours, given.speed, given.cuts)
    accounts = []
    with tempfile.TemporaryDirectory() as folder:
        for name, record in (("a", one_at_a_time), ("b", everything_at_once)):
            if given.only in {None, name}:
                sys.stderr.write(
                    f"{given.hours:g} hours of the market at {given.speed:g} times real speed: "
                    f"{record.__name__}\n"
                )
                accounts.append(record(Path(folder) / name, pace))
    Console().print(_table(accounts))
    wrong = [f"{account.name}: {problem}" for account in accounts for problem in account.wrong]
    sys.stdout.write(
        "".join(f"WRONG {line}\n" for line in wrong)
        or "Persisted is what was sent less what the ledger says, id by id.\n"
    )
    return int(bool(wrong))


def _table(accounts: list[Account]) -> Table:
    table = Table("day", "messages", "cuts of each", "outages", "gaps", "ids lost", "seconds")
    for account in accounts:
        cuts, outages = " + ".join(map(str, account.cuts)), ", ".join(account.outages)
        table.add_row(
            account.name,
            f"{account.messages:,}",
            cuts,
            outages,
            str(account.gaps),
            f"{account.ids_lost:,}",
            f"{account.seconds:.0f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
