"""`make connection-count`: sessions that may provoke too many connections, and their counts of attempts.

A quiet futures contract: its book changes every 12.5 s, and it trades four times a day. 300 symbols at once:
more than one URL can name. Each session is a real recorder against a sandbox in a separate process. It is
validated and must contain every id, otherwise the exit code is 1.

.venv/bin/python -m capture_pipeline_tests.soak.connection_count --hours 1 --seconds 180
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

_QUIET = {**BUSY, "trades_per_day": 4, "book_interval_s": 12.5}


@dataclass(frozen=True)
class Outcome:
    """Result of one session.

    Attributes:
        name: Name of the session.
        connections: Count of simultaneous connections that the plan needs.
        attempts: Count of requests to open a connection, by the exchange.
        refused: Count of refused requests.
        messages: Count of recorded messages.
        streams: Count of subscribed streams.
        silent: Count of streams without a message.
        ids_lost: Count of ids in the ledger.
        ends: Cause and detail of each connection that ended before the session.
        failed: Failed checks of the validation.
    """

    name: str
    connections: int
    attempts: int
    refused: int
    messages: int
    streams: int
    silent: int
    ids_lost: int
    ends: list[str]
    failed: list[str]

    @property
    def is_right(self) -> bool:
        """Return whether each connection was attempted once and no id is missing; a stream may be silent."""
        failed = [check for check in self.failed if not check.startswith("streams: ")]
        return (self.attempts, self.refused, self.ids_lost, failed) == (self.connections, 0, 0, [])


def quiet_contract(root: Path, *, hours: float, speed: float) -> Outcome:
    """Record a very quiet contract; the recorder's silence limit is scaled with the speed of the market.

    Args:
        root: An empty folder.
        hours: Hours of the market.
        speed: Sandbox seconds per second.
    """
    config = {"frozen": False, "speed": speed, "symbols": [_QUIET]}
    with _session(root, "um", config, ["BTCUSDT"]) as session:
        session.start(CAPTURE_RECORDING_SILENCE_S=str(8 / speed))
        session.wait(lambda status: len(status.connections) == 4)
        time.sleep(hours * 3600 / speed)
        return _outcome(session, f"quiet contract, {hours:g} h at {speed:g} times real speed", 4)


def many_symbols(root: Path, market: str, *, symbols: int, seconds: float, speed: float = 1.0) -> Outcome:
    """Record many symbols in one session with four connections.

    Args:
        root: An empty folder.
        market: spot or um.
        symbols: Count of symbols.
        seconds: Length after the first message of every book.
        speed: Sandbox seconds per second; a slow machine needs less.
    """
    names = [f"SYN{number:03d}USDT" for number in range(symbols)]
    config = {
        "frozen": False,
        "speed": speed,
        "symbols": [{"symbol": name, "trades_per_day": 5760} for name in names],
    }
    with _session(root, market, config, names) as session:
        # A snapshot of 5,000 levels has a weight of 250: 300 books would take the budget of 16 minutes.
        session.start(
            CAPTURE_RECORDING_SILENCE_S="8",
            CAPTURE_RECORDING_AUDIT_MINUTES="60",
            CAPTURE_RECORDING_SNAPSHOT_LIMIT="100",
        )
        session.wait(
            lambda status: sum("@depth" in stream for stream in status.last_ids) == symbols, within_s=240
        )
        time.sleep(seconds)
        return _outcome(session, f"{symbols} symbols of {market}, {seconds:g} s", 4)


@contextmanager
def _session(root: Path, market: str, config: dict[str, Any], symbols: list[str]) -> Iterator[Live]:
    with exchange(root, config, CAPTURE_MARKET=market) as sandbox:
        session = Live(sandbox, 86_400, symbols)
        try:
            yield session
        finally:
            if session.process is not None and session.process.poll() is None:
                session.kill()


def _outcome(session: Live, name: str, connections: int) -> Outcome:
    counted = session.limits()
    streams = {name for one in session.streams()["connections"] for name in one["streams"]}
    ends = [f"{event['cause']}: {event['detail']}" for event in session.events("connection_ended")]
    session.finish()
    report = validate(
        session.folder.path,
        replace(DEFAULTS, min_messages=0, duration_s=0, min_book_valid=0.5, end_tolerance_s=math.inf),
    )
    statistics = session.metadata.statistics
    return Outcome(
        name=name,
        connections=connections,
        attempts=counted["connection_attempts"],
        refused=counted["refused"]["streams"],
        messages=statistics["messages"],
        streams=len(streams),
        silent=len(streams - statistics["messages_by_stream"].keys()),
        ids_lost=statistics["ids_lost"],
        ends=ends,
        failed=[f"{check.spec.name}: {check.reason}" for check in report.failed],
    )


def main() -> int:
    """Record the sessions and report the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=1, help="of the quiet contract's market")
    parser.add_argument(
        "--speed",
        type=float,
        default=1,
        help="sandbox seconds a second, of the quiet contract; the limit of silence is as much shorter",
    )
    parser.add_argument("--symbols", type=int, default=300, help="in one session")
    parser.add_argument("--seconds", type=float, default=180, help="length of the sessions of many symbols")
    parser.add_argument(
        "--many-speed",
        type=float,
        default=1,
        help="sandbox seconds a second, of many symbols; a slow machine needs less",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        outcomes = [quiet_contract(root / "quiet", hours=given.hours, speed=given.speed)]
        many = partial(many_symbols, symbols=given.symbols, seconds=given.seconds, speed=given.many_speed)
        outcomes += [many(root / market, market) for market in ("spot", "um")]
    table = Table(
        "session",
        "messages",
        "streams",
        "silent",
        "ids lost",
        "connections",
        "attempts",
        "refused",
        "ends and failed checks",
    )
    for one in outcomes:
        figures = (
            f"{one.messages:,}",
            str(one.streams),
            str(one.silent),
            f"{one.ids_lost:,}",
            str(one.connections),
            str(one.attempts),
            str(one.refused),
        )
        table.add_row(one.name, *figures, "; ".join(one.ends + one.failed) or "none")
    Console().print(table)
    return int(not all(one.is_right for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
