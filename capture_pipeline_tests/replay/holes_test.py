"""Tests that no sample and no book is inside a period of missing ids, for all sources."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot
from capture_pipeline.cli.main import main
from capture_pipeline.golden.comparison.book_samples import sample_seconds
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.orderbook.compiled.book import LevelBatch
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.book_lookup import Absence, BookAt, find_book
from capture_pipeline.replay.checkpoints import Checkpoints
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import ROWS, Messages, Scale
from capture_pipeline.replay.sampling import sample_book
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline_tests.support.sessions.lines import written

START_NS = 1_755_000_000_000_000_000
STEP_NS = 100_000_000
EVERY_NS = 2 * STEP_NS
SESSION = "20250812T120000Z_custom_btcusdt_ethusdt"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "streams"


@dataclass(frozen=True)
class Message:
    """A diff that sets the quantity of the best bid to its last id, or a snapshot at an id."""

    capture_ns: int
    symbol: str
    first: int
    last: int
    is_snapshot: bool = False

    @property
    def quantity(self) -> str:
        """Quantity of the best bid."""
        return f"{self.last}.00000000"

    @property
    def line(self) -> bytes:
        """Format the message as a line of a recording."""
        level = f'["10.00000000","{self.quantity}"]'
        data = f'{{"lastUpdateId":{self.last},"bids":[{level}],"asks":[["11.00000000","1.00000000"]]}}'
        if not self.is_snapshot:
            data = (
                f'{{"e":"depthUpdate","E":1,"s":"{self.symbol}","U":{self.first},"u":{self.last},'
                f'"b":[{level}],"a":[]}}'
            )
        stream = f"{self.symbol.lower()}@{'depthSnapshot' if self.is_snapshot else 'depth@100ms'}"
        return f'{{"capture_ns":{self.capture_ns},"stream":"{stream}","data":{data}}}\n'.encode()


@dataclass(frozen=True)
class Recorded:
    """All diffs of the exchange, and the messages of a recorder with outages."""

    sent: list[Message]
    kept: list[Message]

    def of(self, symbol: str) -> list[Message]:
        """Return the recorded messages of a symbol."""
        return [message for message in self.kept if message.symbol == symbol]

    def true_id(self, symbol: str, at_ns: int) -> int:
        """Return the last id that the exchange had sent at a time."""
        return max(
            message.last for message in self.sent if message.symbol == symbol and message.capture_ns <= at_ns
        )

    @property
    def times(self) -> range:
        """Return the times of a grid, from the first message to some time after the last one."""
        first, last = self.kept[0].capture_ns, self.kept[-1].capture_ns
        return range(-(-first // EVERY_NS) * EVERY_NS, last + 3 * EVERY_NS, EVERY_NS)


@st.composite
def recordings(draw: st.DrawFn) -> Recorded:
    """Generate messages of two symbols with losses, outages, repeated diffs and irregular snapshots."""
    sent: list[Message] = []
    kept: list[Message] = []
    reached = dict.fromkeys(SYMBOLS, 0)
    capture_ns, down = START_NS, 0
    for _ in range(draw(st.integers(2, 30))):
        capture_ns += draw(st.sampled_from([1, STEP_NS, STEP_NS, 2 * STEP_NS, 9 * STEP_NS]))
        symbol = draw(st.sampled_from(SYMBOLS))
        event = draw(st.sampled_from(["diff"] * 8 + ["snapshot", "snapshot", "repeat", "outage"]))
        if event == "outage":
            down = draw(st.integers(1, 6))
        elif event == "snapshot" and not down:
            at = max(1, reached[symbol] - draw(st.integers(0, 2)))
            kept.append(Message(capture_ns, symbol, at, at, is_snapshot=True))
        elif (
            event == "repeat"
            and not down
            and (before := [one for one in kept if one.symbol == symbol and not one.is_snapshot])
        ):
            kept.append(Message(capture_ns, symbol, before[-1].first, before[-1].last))
        elif event == "diff":
            first = reached[symbol] + 1
            reached[symbol] = first + draw(st.integers(0, 2))
            sent.append(Message(capture_ns, symbol, first, reached[symbol]))
            kept += [] if down else [sent[-1]]
            down = max(0, down - 1)
    assume(kept)
    return Recorded(sent, kept)


def oracle(messages: list[Message], at_ns: int) -> int | None:
    """Return the update id of the known book at a time, by the exchange's procedure in plain Python."""
    sync, reached_ns = LocalBook(), -1
    for message in messages:
        if message.capture_ns > at_ns and (sync.state is not State.SYNCED or at_ns == reached_ns):
            break
        if message.capture_ns > at_ns:
            if message.is_snapshot or message.last <= sync.last_id:
                continue
            return sync.last_id if message.first <= sync.last_id + 1 else None
        before = sync.last_id
        if message.is_snapshot:
            sync.process_snapshot(DepthSnapshot(message.last, [("10", message.quantity)], [("11", "1")]))
        else:
            sync.process_diff(
                DepthDiff(0, message.symbol, message.first, message.last, [("10", message.quantity)], [])
            )
            reached_ns = message.capture_ns if sync.last_id > before else reached_ns
    return sync.last_id if sync.state is State.SYNCED and at_ns == reached_ns else None


def shown(found: BookAt, lots: int) -> int | None:
    """Return the update id of a book, which equals the quantity of its best bid."""
    if found.absence is not None:
        return None
    assert int(found.replay.book.top()[0][1][0]) == found.last_id * lots
    return found.last_id


def pieces(messages: list[Message], sizes: list[int]) -> list[Messages]:
    """Yield messages in pieces of the given sizes, as a source does."""
    made: list[Messages] = []
    at = 0
    while at < len(messages):
        some = messages[at : at + sizes[len(made) % len(sizes)]]
        rows = np.full((ROWS, len(some)), -1, np.int64)
        for number, message in enumerate(some):
            rows[:, number] = [
                message.is_snapshot,
                message.capture_ns,
                0,
                message.first,
                message.last,
                -1,
                at + number,
            ]
        counts = np.array([2 if message.is_snapshot else 1 for message in some])
        starts = np.cumsum(counts) - counts
        levels = [
            level for message in some for level in [(10, message.last), (11, 1)][: 1 + message.is_snapshot]
        ]
        prices, lots = (np.array([level[part] for level in levels], np.int64) for part in (0, 1))
        run = LevelBatch(np.stack([starts, starts + 1, starts + counts]), prices, lots)
        made.append(Messages(rows, run, Scale(Decimal(1), Decimal(1))))
        at += len(some)
    return made


def expected(recorded: Recorded, symbol: str) -> dict[int, int]:
    """Return the known books at the times of the grid."""
    messages = recorded.of(symbol)
    return {at_ns: found for at_ns in recorded.times if (found := oracle(messages, at_ns)) is not None}


@given(recordings(), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.data())
@settings(max_examples=60)
def test_what_is_shown_was_so(recorded: Recorded, sizes: list[int], data: st.DataObject) -> None:
    """For any pieces, each sample is the book of the exchange at that time, and no known time lacks one."""
    for symbol in SYMBOLS:
        messages, known = recorded.of(symbol), expected(recorded, symbol)
        if not messages:
            continue
        found = {
            sample.sampled_ns: sample.last_id
            for sample in sample_book(Replay(), pieces(messages, sizes), EVERY_NS, 1)
        }
        assert found == {at_ns: number for at_ns, number in known.items() if at_ns < messages[-1].capture_ns}
        assert all(number == recorded.true_id(symbol, at_ns) for at_ns, number in known.items())
        for at_ns in data.draw(st.lists(st.sampled_from(recorded.times), max_size=4)):
            assert shown(find_book(pieces(messages, sizes), at_ns), 1) == known.get(at_ns)


@pytest.mark.parametrize(("next_id", "samples"), [(3, 4), (4, 0)])
def test_a_sample_that_waits_for_the_next_piece_lies_in_no_hole(next_id: int, samples: int) -> None:
    """Only the second piece shows a loss of ids, because the first one ends with a repeated diff."""
    times = [(0, 1, True), (1, 2, False), (9, 2, False), (10, next_id, False)]
    messages = [
        Message(START_NS + at * STEP_NS, "BTCUSDT", number, number, is_snapshot)
        for at, number, is_snapshot in times
    ]
    found = {
        sample.sampled_ns: sample.last_id
        for sample in sample_book(Replay(), pieces(messages, [3, 1]), EVERY_NS, 1)
    }
    assert found == {
        at: number
        for at, number in expected(Recorded([], messages), "BTCUSDT").items()
        if at < messages[-1].capture_ns
    }
    assert len(found) == samples


@given(recordings())
@settings(max_examples=4, phases=[Phase.generate])
def test_lines_tables_and_checkpoints_show_the_same(recorded: Recorded) -> None:
    """Two symbols of one recording, from lines, tables, checkpoints and the comparison."""
    with tempfile.TemporaryDirectory() as name:
        path = written(
            Path(name) / "both_capture_20250812T120000Z.jsonl.gz", [message.line for message in recorded.kept]
        )
        convert(path, SESSION, Path(name) / "lake", block_bytes=1 << 10)
        tables = GoldenTables(Path(name) / "lake", SESSION)
        for symbol in tables.symbols():
            messages, known = recorded.of(symbol), expected(recorded, symbol)
            for source in (RawSource(path, symbol, block_bytes=1 << 10), GoldenSource(tables, symbol)):
                found = {
                    sample.sampled_ns: sample.last_id for sample in sample_book(Replay(), source, EVERY_NS, 1)
                }
                assert found == {
                    at_ns: number for at_ns, number in known.items() if at_ns < messages[-1].capture_ns
                }
            checkpoints = Checkpoints(tables, symbol)
            checkpoints.ensure(2 * STEP_NS)
            for at_ns in recorded.times[::5]:
                assert shown(checkpoints.find_book(at_ns), 10**8) == known.get(at_ns)
            for number in sample_seconds(tables, symbol)["second"]:
                assert oracle(messages, (number + 1) * 10**9 - 1) is not None


def hole(numbers: list[int]) -> list[Message]:
    """Generate ten diffs per second without the lost ones, and snapshots at 1 and at 60."""
    diffs = [
        Message(START_NS + number * STEP_NS, "BTCUSDT", number, number)
        for number in range(1, 100)
        if number not in numbers
    ]
    snapshots = [
        Message(START_NS + number * STEP_NS + 1, "BTCUSDT", number, number, is_snapshot=True)
        for number in (1, 60)
    ]
    return sorted([*diffs, *snapshots], key=lambda message: message.capture_ns)


def second(number: float) -> int:
    return START_NS + round(number * 10**9)


@pytest.mark.parametrize(
    ("at_s", "absence", "last_id", "between"),
    [
        (0.05, Absence.NO_SNAPSHOT, -1, (None, second(0.2))),
        (2.0, None, 20, (None, None)),
        (2.000000001, Absence.MISSING_IDS, 20, (second(2), second(6.1))),
        (3.5, Absence.MISSING_IDS, 20, (second(2), second(6.1))),
        (4.05, Absence.MISSING_IDS, 20, (second(2), second(6.1))),
        (6.05, Absence.MISSING_IDS, 60, (second(2), second(6.1))),
        (6.1, None, 61, (None, None)),
        (9.9, None, 99, (None, None)),
        (9.95, Absence.END, 99, (second(9.9), None)),
    ],
)
def test_a_hole_is_named(
    tmp_path: Path, at_s: float, absence: Absence | None, last_id: int, between: tuple[int | None, int | None]
) -> None:
    """No book is known from the last diff before missing ids to the next valid book, and after the end."""
    path = written(
        tmp_path / "btcusdt_capture_20250812T120000Z.jsonl.gz",
        [message.line for message in hole(list(range(21, 41)))],
    )
    found = find_book(RawSource(path, block_bytes=1 << 12), second(at_s))
    assert found.absence is absence
    assert (found.from_ns, found.to_ns) == between
    assert absence is Absence.NO_SNAPSHOT or found.last_id == last_id
    if absence is Absence.MISSING_IDS:
        assert found.missing is not None
        assert (found.missing.last_good_id, found.missing.first_good_id) == (20, 41)


def test_a_second_hole_before_the_snapshot_belongs_to_the_first(tmp_path: Path) -> None:
    """There is one period without a book; both places of missing ids are listed."""
    path = written(tmp_path / "x.jsonl.gz", [message.line for message in hole([*range(21, 41), 45])])
    found = find_book(RawSource(path, block_bytes=1 << 12), second(5))
    assert (found.from_ns, found.to_ns) == (second(2), second(6.1))


def test_seconds_of_a_comparison_lie_in_no_hole(tmp_path: Path) -> None:
    """The second in which ids go missing has no spread, because the book at its end is not known."""
    path = written(tmp_path / "x.jsonl.gz", [message.line for message in hole(list(range(25, 41)))])
    convert(path, SESSION, tmp_path / "lake")
    seconds = (
        sample_seconds(GoldenTables(tmp_path / "lake", SESSION), "BTCUSDT")["second"] - START_NS // 10**9
    )
    assert seconds.to_list() == [0, 1, 6, 7, 8]


def test_the_recorded_hole_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording without ten seconds has samples before and after them, and none between."""
    if not CASES.is_dir():
        pytest.skip(f"no cases at {CASES}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("{}\n")
    out = tmp_path / "levels.parquet"
    asked = [
        "session",
        "replay",
        str(CASES / "c20_hole.jsonl.gz"),
        "--every",
        "1s",
        "--depth",
        "1",
        "--out",
        str(out),
    ]
    assert CliRunner().invoke(main, asked).exit_code == 0
    seconds = (pl.read_parquet(out)["sampled_ns"] - 1_757_000_000_000_000_000) // 10**9
    assert seconds.to_list() == [1, 2, 13, 14]
