"""Checkpoints of a session: the whole book every few minutes, so that a replay can start near any time.

The file is `lake/golden_checkpoints/session=…/symbol=BTCUSDT/checkpoints.parquet`, with one row group per
checkpoint. The first query writes it. It is written again when the recording was converted again.

A checkpoint may lie between the last diff before missing ids and the first diff after them. Its book is known
up to `reached_ns`; after that the following messages decide (see `engine`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import atomic_write, storage_errors
from capture_pipeline.lake.parquet import column_statistics, guard_parquet
from capture_pipeline.orderbook.compiled.book import LevelArrays
from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.book_lookup import BookAt, find_book
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import CAPTURE, E8, Scale, slice_view
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.sessions.layout import valid_session
from capture_pipeline.tables.golden.checkpoints import CHECKPOINT_HEAD, CHECKPOINT_LEVEL, CHECKPOINTS

EVERY_NS = 600_000_000_000
"""Ten minutes, about 6,000 diffs."""
_LAYOUT = 2
"""Version of the file layout. Files of another version are written again."""


class _StartedReplay(NamedTuple):
    """Replay at a checkpoint, and the messages after it."""

    replay: Replay
    source: GoldenSource


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of one symbol of a session.

    Attributes:
        tables: Typed tables of the session.
        symbol: Symbol in capitals.
    """

    tables: GoldenTables
    symbol: str

    @property
    def path(self) -> Path:
        """The file, which may not exist yet."""
        folder = self.tables.root / "golden_checkpoints" / f"session={valid_session(self.tables.session)}"
        return folder / f"symbol={validate_symbol(self.symbol)}" / "checkpoints.parquet"

    def ensure(self, every_ns: int = EVERY_NS) -> int:
        """Write the checkpoints, unless the file exists and belongs to the present tables.

        Returns:
            The number of checkpoints.

        Raises:
            MalformedDataError: A table is damaged.
            LakeError: The session has no tables, or the checkpoint file is damaged.
            StorageError: The file cannot be written.
        """
        origin = self._origin()
        if self.path.is_file():
            with self._guard(), pq.ParquetFile(self.path) as file:
                if (file.schema_arrow.metadata or {}).get(b"origin") == origin:
                    return int(file.num_row_groups)
        return self._write(every_ns, origin)

    def find_book(self, at_ns: int) -> BookAt:
        """Find the book at a time, from the checkpoint before it.

        Raises:
            MalformedDataError: See `ensure`.
            LakeError: See `ensure`.
            StorageError: See `ensure`.
        """
        replay, source = self._start_replay(at_ns)
        return find_book(source, at_ns, replay)

    def _start_replay(self, at_ns: int) -> _StartedReplay:
        """Load the last checkpoint up to a time."""
        self.ensure()
        replay, line = Replay(), 0
        with self._guard(), pq.ParquetFile(self.path) as file:
            heads = [_read_head(file, group) for group in range(file.num_row_groups)]
            earlier = [group for group, (capture_ns, *_) in enumerate(heads) if capture_ns <= at_ns]
            if earlier:
                replay.capture_ns, line, last_id, reached_ns = heads[earlier[-1]]
                _seed(replay, file, earlier[-1], last_id, reached_ns)
        return _StartedReplay(replay, GoldenSource(self.tables, self.symbol, line))

    def _guard(self) -> AbstractContextManager[None]:
        return guard_parquet(self.path, remedy="remove the file; it is written again")

    def _write(self, every_ns: int, origin: bytes) -> int:
        schema = CHECKPOINTS.arrow_schema.with_metadata({"origin": origin})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replay, due, count = Replay(), -1, 0
        with (
            storage_errors(self.path),
            atomic_write(self.path) as partial,
            pq.ParquetWriter(partial, schema, compression="zstd") as file,
        ):
            for messages in GoldenSource(self.tables, self.symbol):
                times, at = np.maximum.accumulate(messages.rows[CAPTURE]), 0
                while at < len(messages):
                    stop = (
                        len(messages) if due < 0 else max(at, int(np.searchsorted(times, due, side="left")))
                    )
                    stop = min(max(stop, at + 1), len(messages))
                    replay.process(slice_view(messages, at, stop))
                    replay.capture_ns = max(replay.capture_ns, int(times[stop - 1]))
                    at = stop
                    if replay.state is State.SYNCED and replay.capture_ns >= due:
                        file.write_table(_table(replay, schema))
                        due, count = replay.capture_ns + every_ns, count + 1
        return count

    def _origin(self) -> bytes:
        return f"{self.tables.manifest().recording_sha256} {_LAYOUT}".encode()


def _table(replay: Replay, schema: pa.Schema) -> pa.Table:
    if replay.scale is None or replay.reached_ns is None or replay.scale.lot != E8:
        raise MalformedDataError(
            "the quantities are not in units of 1e-8", where=schema.metadata[b"origin"].decode()
        )
    tick = int(replay.scale.tick / E8)
    (bids, bid_lots), (asks, ask_lots) = replay.book.top()
    sides = np.repeat(np.array([0, 1], np.int8), [bids.size, asks.size])
    heads = (replay.capture_ns, replay.position, replay.last_id, replay.reached_ns)
    columns = [np.full(sides.size, head, np.int64) for head in heads]
    return pa.Table.from_arrays(
        [
            pa.array(column)
            for column in (
                *columns,
                sides,
                np.concatenate([bids, asks]) * tick,
                np.concatenate([bid_lots, ask_lots]),
            )
        ],
        schema=schema,
    )


def _read_head(file: pq.ParquetFile, group: int) -> list[int]:
    """Read the values of `CHECKPOINT_HEAD` of a checkpoint from the statistics of its row group."""
    found = [column_statistics(file, group, name) for name in CHECKPOINT_HEAD]
    return [int(each.max) for each in found if each is not None]


def _seed(replay: Replay, file: pq.ParquetFile, group: int, last_id: int, reached_ns: int) -> None:
    table = file.read_row_group(group, columns=list(CHECKPOINT_LEVEL))
    side, price, quantity = (table[name].to_numpy() for name in CHECKPOINT_LEVEL)
    tick = int(np.gcd.reduce(price)) or 1
    bids, asks = (LevelArrays(price[side == number] // tick, quantity[side == number]) for number in (0, 1))
    replay.seed(bids, asks, last_id, Scale(E8 * tick, E8), reached_ns)
