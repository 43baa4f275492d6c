"""Tests of the replay against the procedure of the exchange in plain Python, for all kinds of input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot, Level
from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.orderbook.compiled.book import LevelBatch
from capture_pipeline.orderbook.levels import decimal_text, to_units
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.book_lookup import find_book
from capture_pipeline.replay.checkpoints import Checkpoints
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import DIFF, ROWS, SNAPSHOT, Messages, Scale, common_scale
from capture_pipeline.replay.sampling import sample_book, write_samples
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline.tables.golden.samples import wide_samples
from capture_pipeline_tests.support.sessions.lines import START_NS, depth, snapshot, written

LEVELS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), max_size=4)
STEP_NS = 1_000_000_000
SESSION = "20250803T143000Z_custom_btcusdt"


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, int, int, int, list[tuple[int, int]], list[tuple[int, int]]]]:
    """Generate kind, first id, last id, previous id, bids and asks of random diffs and snapshots."""
    made, last, futures = [], draw(st.integers(0, 50)), draw(st.booleans())
    for _ in range(draw(st.integers(1, 25))):
        bids, asks = draw(LEVELS), draw(LEVELS)
        if draw(st.integers(0, 5)) == 0:
            at = max(0, last + draw(st.integers(-8, 8)))
            made.append((SNAPSHOT, at, at, -1, bids, asks))
            continue
        first = max(0, last + draw(st.sampled_from([1, 1, 1, 1, 1, 0, -2, 3])))
        end = first + draw(st.integers(0, 4))
        made.append(
            (DIFF, first + 7 * futures, end + 7 * futures, first - 1 if futures and first else -1, bids, asks)
        )
        last = max(last, end + 7 * futures)
    return made


def pieces(
    made: list[tuple[int, int, int, int, list[tuple[int, int]], list[tuple[int, int]]]], sizes: list[int]
) -> Iterator[Messages]:
    at = 0
    while at < len(made):
        some = made[at : at + sizes[at % len(sizes)]]
        rows = np.zeros((ROWS, len(some)), np.int64)
        for number, (kind, first, last, previous, _, _) in enumerate(some):
            rows[:, number] = [
                kind,
                START_NS + (at + number) * STEP_NS,
                0,
                first,
                last,
                previous,
                at + number,
            ]
        counts = np.array([[len(bids), len(asks)] for *_, bids, asks in some])
        ends = np.cumsum(counts.sum(axis=1))
        starts = ends - counts.sum(axis=1)
        levels = [level for *_, bids, asks in some for level in bids + asks]
        prices, lots = (np.array([level[part] for level in levels], np.int64) for part in (0, 1))
        yield Messages(
            rows,
            LevelBatch(np.stack([starts, starts + counts[:, 0], ends]), prices, lots),
            Scale(Decimal(1), Decimal(1)),
        )
        at += len(some)


def texts(levels: list[tuple[int, int]]) -> list[Level]:
    return [(f"{price}.00000000", decimal_text(lots)) for price, lots in levels]


def all_of(replay: Replay, source: Iterable[Messages]) -> None:
    for messages in source:
        replay.process(messages)


@given(streams(), st.lists(st.integers(1, 9), min_size=1, max_size=4))
@settings(max_examples=300)
def test_a_replay_does_what_the_procedure_says(
    made: list[tuple[int, int, int, int, list[tuple[int, int]], list[tuple[int, int]]]], sizes: list[int]
) -> None:
    """For any pieces of the messages, state, last id and levels are the same."""
    replay, sync = Replay(), LocalBook()
    for messages in pieces(made, sizes):
        replay.process(messages)
    for kind, first, last, previous, bids, asks in made:
        if kind == SNAPSHOT:
            sync.process_snapshot(DepthSnapshot(last, texts(bids), texts(asks)))
        else:
            sync.process_diff(
                DepthDiff(0, "X", first, last, texts(bids), texts(asks), None if previous < 0 else previous)
            )
    assert str(replay.state) == str(sync.state)
    if replay.state is State.SYNCED:
        found = replay.book.top()
        for (prices, lots), side in zip(found, (sync.book.bids, sync.book.asks), strict=True):
            plain = {price // 10**8: to_units(quantity) for price, quantity in side.levels.items()}
            assert dict(zip(prices.tolist(), lots.tolist(), strict=True)) == plain
        assert replay.last_id == sync.last_id


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("0.01", "0.001", "0.001"),
        ("0.02", "0.03", "0.01"),
        ("1e-8", "0.5", "1e-8"),
        ("0.25", "0.1", "0.05"),
        ("7", "7", "7"),
    ],
)
def test_two_scales_have_a_common_one(one: str, other: str, both: str) -> None:
    """The common scale is the coarsest scale that fits both."""
    assert common_scale(Scale(Decimal(one), Decimal(1)), Scale(Decimal(other), Decimal(1))).tick == Decimal(
        both
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a minute of one symbol with a smaller tick in the middle, then missing ids, then a snapshot."""
    lines = [depth(1, 3, START_NS), snapshot(2, START_NS + 1)]
    for second in range(1, 60):
        price = f"{10 - second % 3}.{'05' if second > 30 else '50'}000000"
        first = 3 * second + 1 + (5 if second >= 45 else 0)
        lines.append(depth(first, first + 2, START_NS + second * STEP_NS, f'["{price}","{second}.00000000"]'))
        if second == 50:
            lines.append(snapshot(first + 2, START_NS + second * STEP_NS + 5))
    return written(tmp_path_factory.mktemp("replay") / "btcusdt_capture_20250803T143000Z.jsonl.gz", lines)


@pytest.fixture(scope="module")
def tables(recording: Path) -> GoldenTables:
    convert(recording, SESSION, recording.parent / "lake", block_bytes=1 << 12)
    return GoldenTables(recording.parent / "lake", SESSION)


@pytest.mark.parametrize("kind", ["raw", "tables"])
def test_a_gap_leaves_no_book_until_the_next_snapshot(
    recording: Path, tables: GoldenTables, kind: str
) -> None:
    """The gap is reported with its ids; a smaller tick changes only the scale."""
    replay = Replay()
    for messages in (
        RawSource(recording, block_bytes=1 << 12) if kind == "raw" else GoldenSource(tables, "BTCUSDT")
    ):
        replay.process(messages)
    assert [(one.last_good_id, one.first_good_id) for one in replay.counts.discontinuities] == [(135, 141)]
    assert (replay.state, replay.counts.gaps, replay.counts.snapshots) == (State.SYNCED, 1, 2)
    assert replay.scale == Scale(Decimal("0.05"), Decimal("1e-8"))
    assert replay.best() == (Decimal("10.05"), Decimal(57), Decimal(11), Decimal(1))


def test_samples_stand_only_where_there_was_a_book(recording: Path, tmp_path: Path) -> None:
    """Every second with a valid book has a sample; the wide and the long table have equal values."""
    paths = {is_long: tmp_path / f"{is_long}.parquet" for is_long in (False, True)}
    for is_long, path in paths.items():
        samples = sample_book(Replay(), RawSource(recording, block_bytes=1 << 12), STEP_NS, 3)
        assert write_samples(samples, path, "BTCUSDT", 3, is_long=is_long) == 52
    wide, long = pq.read_table(paths[False]), pq.read_table(paths[True]).to_pylist()
    assert wide.schema.equals(wide_samples(3).arrow_schema)
    seconds = [(stamp - START_NS) // STEP_NS for stamp in wide["sampled_ns"].to_pylist()]
    assert seconds == [*range(1, 45), *range(51, 59)]
    first = [row for row in long if row["sampled_ns"] == wide["sampled_ns"][10].as_py()]
    assert [
        (row["side"], row["level"], row["price_e8"], row["quantity_e8"])
        for row in first
        if row["side"] == "bid"
    ] == [
        (
            "bid",
            level,
            wide[f"bid_{level}_price_e8"][10].as_py(),
            wide[f"bid_{level}_quantity_e8"][10].as_py(),
        )
        for level in (1, 2, 3)
    ]
    assert wide["ask_2_price_e8"][10].as_py() is None


def test_the_book_at_any_time_is_that_of_a_replay_up_to_it(tables: GoldenTables, recording: Path) -> None:
    """A checkpoint gives the book of a full replay; other tables have other checkpoints."""
    checkpoints = Checkpoints(tables, "BTCUSDT")
    assert checkpoints.ensure(10 * STEP_NS) >= 5
    for second in range(-1, 61):
        at_ns = START_NS + second * STEP_NS
        at, plain = checkpoints.find_book(at_ns), find_book(GoldenSource(tables, "BTCUSDT"), at_ns)
        assert replace(at, replay=plain.replay) == plain
        assert at.absence is not None or at.replay.best() == plain.replay.best()
    written(recording, [depth(1, 3, START_NS), snapshot(2, START_NS + 1)])
    convert(recording, SESSION, tables.root)
    assert checkpoints.ensure(10 * STEP_NS) == 1


def test_what_cannot_be_replayed_is_told(tmp_path: Path) -> None:
    """Several symbols without a name, an unknown symbol, and an empty recording are errors."""
    both = written(
        tmp_path / "both.jsonl.gz", [depth(1, 3, START_NS), depth(1, 3, START_NS, symbol="ethusdt")]
    )
    for symbol, what in (("", "several symbols"), ("SOLUSDT", "no book of SOLUSDT")):
        with pytest.raises(MalformedDataError, match=what):
            list(RawSource(both, symbol))
    with pytest.raises(LakeError):
        list(RawSource(tmp_path / "none.jsonl.gz"))


def test_a_recording_cut_at_any_byte_ends_in_a_defined_way(tmp_path: Path) -> None:
    """Messages before the damage are replayed; then the damage is reported."""
    lines = [depth(1, 3, START_NS), snapshot(2, START_NS + 1)]
    lines += [
        depth(3 * at + 1, 3 * at + 3, START_NS + at * STEP_NS, f'["{at}.50000000","1.00000000"]')
        for at in range(1, 13)
    ]
    whole = written(tmp_path / "whole.jsonl.gz", lines).read_bytes()
    path = tmp_path / "cut.jsonl.gz"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        replay = Replay()
        if size == len(whole):
            all_of(replay, RawSource(path, block_bytes=1 << 12))
        else:
            with pytest.raises(MalformedDataError, match=r"cut\.jsonl\.gz"):
                all_of(replay, RawSource(path, block_bytes=1 << 12))
        assert set(replay.book.top()[0][0].tolist()) <= {20, *range(3, 26, 2)}
