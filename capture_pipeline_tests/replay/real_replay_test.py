"""Replay of a real recording from its lines and tables: best prices equal those of the exchange."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import pytest

from capture_pipeline.binance.streams.messages import decode_book_ticker
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.orderbook.compiled.book import LevelArrays, LevelBatch, TickBook
from capture_pipeline.orderbook.levels import to_units
from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.book_lookup import Absence
from capture_pipeline.replay.checkpoints import Checkpoints
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import LAST, Ints, Messages
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource
from capture_pipeline.sessions.recordings.reader import read_lines
from capture_pipeline_tests.support.sessions.eth import SESSION, import_eth

Best = tuple[int, int, int, int]
MIDNIGHT_NS = 1_723_161_600_000_000_000


@pytest.fixture(scope="module")
def recording(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_eth(
        recordings, tmp_path_factory.mktemp("eth") / "ethusdt_capture_20240808T235414Z.jsonl.gz"
    )


@pytest.fixture(scope="module")
def tables(recording: Path) -> GoldenTables:
    convert(recording, SESSION, recording.parent / "lake", block_bytes=1 << 20)
    return GoldenTables(recording.parent / "lake", SESSION)


def replayed(source: Iterable[Messages]) -> tuple[Replay, dict[int, Best]]:
    """Return the replay, and the best prices by update id in units of 1e-8."""
    bests: dict[int, Best] = {}

    def told(messages: Messages, first: int, end: int, found: Ints) -> None:
        tick = int(messages.scale.tick.scaleb(8))
        for at in range(first, end):
            bid, bid_lots, ask, ask_lots = (int(value) for value in found[:, at])
            bests[int(messages.rows[LAST, at])] = bid * tick, bid_lots, ask * tick, ask_lots

    replay = Replay([told])
    for messages in source:
        replay.process(messages)
    return replay, bests


def test_every_best_price_is_the_exchange_s_own(recording: Path, tables: GoldenTables) -> None:
    """All 1,056 best prices at the ids of book tickers are equal, and the book is never crossed.

    Lines and tables give the same best prices throughout.
    """
    replay, bests = replayed(RawSource(recording, block_bytes=1 << 20))
    again, from_tables = replayed(GoldenSource(tables, "ETHUSDT"))
    assert bests == from_tables
    assert replay.counts.checksum == again.counts.checksum
    for one in (replay, again):
        assert (one.state, one.counts.gaps, one.counts.snapshots, one.book.crossed) == (State.SYNCED, 0, 1, 0)
        assert one.counts.messages == 6_471
    tickers = [
        decode_book_ticker(line.data)
        for _, line in read_lines(recording)
        if line.stream == "ethusdt@bookTicker"
    ]
    compared = OrderedDict(
        (
            ticker.update_id,
            tuple(
                to_units(text) for text in (ticker.bid, ticker.bid_quantity, ticker.ask, ticker.ask_quantity)
            ),
        )
        for ticker in tickers
        if ticker.update_id in bests
    )
    assert len(compared) == 1_056
    assert {number: bests[number] for number in compared} == dict(compared)


def test_the_book_is_carried_over_midnight(tables: GoldenTables) -> None:
    """A checkpoint gives the book of a full replay, at midnight and later."""
    checkpoints = Checkpoints(tables, "ETHUSDT")
    assert checkpoints.ensure(60_000_000_000) >= 10
    whole = Replay()
    for messages in GoldenSource(tables, "ETHUSDT"):
        whole.process(messages)
    last = checkpoints.find_book(whole.reached_ns or 0)
    assert (last.absence, last.last_id, last.replay.best()) == (None, whole.last_id, whole.best())
    after = checkpoints.find_book(1 << 62)
    assert (after.absence, after.has_later_messages, after.last_id) == (Absence.END, False, whole.last_id)
    midnight = checkpoints.find_book(MIDNIGHT_NS)
    assert (
        midnight.absence,
        midnight.has_later_messages,
        midnight.state,
        midnight.capture_ns <= MIDNIGHT_NS,
    ) == (
        None,
        True,
        State.SYNCED,
        True,
    )
    assert checkpoints.find_book(0).absence is Absence.NO_SNAPSHOT


def test_a_full_book_of_another_venue_is_loaded_and_queried(recordings: Path) -> None:
    """A Coinbase book of 18,376 bids and 27,017 asks is complete and sorted.

    Its prices range from a cent to millions.
    """
    import json  # noqa: PLC0415 - only this test uses it
    from decimal import Decimal  # noqa: PLC0415 - only this test uses it

    import numpy as np  # noqa: PLC0415 - only this test uses it

    document = json.loads(
        gzip.decompress((recordings / "venue_books" / "coinbase_btcusd_level2_full.json.gz").read_bytes())
    )
    sides = {
        name: {Decimal(level[0]): Decimal(level[1]) for level in document[name]} for name in ("bids", "asks")
    }
    columns = [
        LevelArrays(
            np.array([int(price * 100) for price in sides[name]], np.int64),
            np.array([int(size.scaleb(8)) for size in sides[name].values()]),
        )
        for name in ("bids", "asks")
    ]
    book = TickBook()
    book.load(columns[0], columns[1])
    assert book.level_counts == (18_376, 27_017)
    bids, asks = book.top()
    assert bids[0].tolist() == sorted((int(price * 100) for price in sides["bids"]), reverse=True)
    assert asks[0].tolist() == sorted(int(price * 100) for price in sides["asks"])
    assert all(book.lots(1, int(price * 100)) == int(size.scaleb(8)) for price, size in sides["asks"].items())
    middle = np.array([[0], [1], [1]], np.int64)
    best = int(bids[0][0])
    bests = book.apply(LevelBatch(middle, np.array([best], np.int64), np.array([0], np.int64)))
    assert int(bests[0, 0]) == int(bids[0][1])
