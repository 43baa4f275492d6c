"""Generator of diffs as rows of `golden_depth` and as lines of a recording, the same for the same seed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from capture_pipeline.tables.golden.depth import DEPTH

LEVELS_A_MESSAGE = 25
_START_NS, _STEP_NS, _SPREAD_NS = 1_764_547_200_000_000_000, 100_000_000, 3_000_000
_MIDDLE, _TICK_E8, _LOT_E8 = 6_400_000, 1_000_000, 1_000
_MAX_LOTS, _REMOVED = 300_000, 0.3
_DISTANCE = 400.0


def depth_batches(rows: int, batch_rows: int, seed: int = 7) -> Iterator[pa.Table]:
    """Generate rows of diffs like those of a recording.

    Times and ids repeat within a diff, and most levels are near the touch.

    Args:
        rows: Number of all rows.
        batch_rows: Number of rows of a table; the last one may have fewer. The memory depends on it.
        seed: Seed of the generator.
    """
    for number, start in enumerate(range(0, rows, batch_rows)):
        yield _generate_batch(start, min(batch_rows, rows - start), np.random.default_rng((seed, number)))


def depth_lines(table: pa.Table) -> bytes:
    """Convert rows to lines of a recording, one line for each diff, in the exchange's compact layout.

    Args:
        table: Table of whole diffs, from `depth_batches`.
    """
    columns = {name: table[name].to_numpy() for name in DEPTH.schema}
    starts = np.flatnonzero(np.diff(columns["line"], prepend=-1))
    bounds = [*starts.tolist(), table.num_rows]
    return b"".join(_format_line(columns, start, end) for start, end in itertools.pairwise(bounds))


def digest_of(tables: Iterable[pa.Table]) -> str:
    """Compute the SHA-256 of the values of all tables."""
    digest = hashlib.sha256()
    for table in tables:
        for name in DEPTH.schema:
            digest.update(table[name].to_numpy().tobytes())
    return digest.hexdigest()


def _generate_batch(start: int, rows: int, random: np.random.Generator) -> pa.Table:
    message = np.arange(start, start + rows, dtype=np.int64) // LEVELS_A_MESSAGE
    event_ns = _START_NS + message * _STEP_NS
    late = random.integers(0, _SPREAD_NS, rows // LEVELS_A_MESSAGE + 2)[message - message[0]]
    side = random.integers(0, 2, rows, dtype=np.int8)
    distance = (random.exponential(_DISTANCE, rows)).astype(np.int64)
    lots = np.where(random.random(rows) < _REMOVED, 0, random.integers(1, _MAX_LOTS, rows))
    middle = _MIDDLE + (np.sin(message / 5_000) * 3_000).astype(np.int64)
    values: dict[str, NDArray[np.generic]] = {
        "line": message + 1,
        "capture_ns": event_ns + late,
        "event_us": event_ns // 1000,
        "first_id": message * 60 + 1,
        "last_id": message * 60 + 60,
        "previous_id": np.full(rows, -1, np.int64),
        "side": side,
        "price_e8": (middle + np.where(side == 0, -1 - distance, 1 + distance)) * _TICK_E8,
        "quantity_e8": lots * _LOT_E8,
        "price_places": np.full(rows, 8, np.int8),
        "quantity_places": np.full(rows, 8, np.int8),
    }
    return pa.table(
        {column.name: pa.array(values[column.name], column.arrow_type) for column in DEPTH.columns},
        schema=DEPTH.arrow_schema,
    )


def _format_line(columns: dict[str, NDArray[np.int64]], start: int, end: int) -> bytes:
    sides: tuple[list[str], list[str]] = [], []
    for row in range(start, end):
        price, quantity = int(columns["price_e8"][row]), int(columns["quantity_e8"][row])
        text = f'["{price // 10**8}.{price % 10**8:08d}","{quantity // 10**8}.{quantity % 10**8:08d}"]'
        sides[columns["side"][row]].append(text)
    event_ms, first, last = (
        columns["event_us"][start] // 1000,
        columns["first_id"][start],
        columns["last_id"][start],
    )
    bids, asks = (",".join(side) for side in sides)
    head = f'"e":"depthUpdate","E":{event_ms},"s":"BTCUSDT","U":{first},"u":{last}'
    envelope = f'"capture_ns":{columns["capture_ns"][start]},"stream":"btcusdt@depth@100ms"'
    return f'{{{envelope},"data":{{{head},"b":[{bids}],"a":[{asks}]}}}}\n'.encode()
