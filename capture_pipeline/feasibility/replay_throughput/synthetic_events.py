"""Generator of diffs for benchmarks without a session: deterministic, with distances of a real book.

The price moves in a random walk. Levels that the price passes are removed, as on an exchange, so that the
book is never crossed.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import numpy as np

from capture_pipeline.orderbook.compiled.book import LevelBatch
from capture_pipeline.replay.messages import DIFF, ROWS, SNAPSHOT, Ints, Messages, Scale

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
DISTANCES = (0, 0, 8, 29, 59, 108, 190, 328, 466, 622, 763, 913, 22_121, 134_025, 460_663)
"""Quantiles of the distance of changed levels from the touch in ticks, for `SHARES`.

Source: 272,752 levels of ETHUSDT, eleven minutes in August 2024.
"""
REMOVED = 0.28
"""Share of those levels that were removals."""
LEVELS = 42
"""Mean number of levels of a diff in the same recording."""
SCALE = Scale(Decimal("0.01"), Decimal("1e-8"))
_START_NS, _STEP_NS = 1_785_760_200_000_000_000, 100_000_000
_FIRST_MID, _MAX_STEP, _SNAPSHOT_LEVELS = 6_417_500, 2, 5_000
_MESSAGES_AT_ONCE = 8_192


def generate_events(events: int, seed: int = 1) -> Iterator[Messages]:
    """Generate a snapshot of 5,000 levels for each side, then diffs of 42 levels.

    Args:
        events: Number of level updates of all diffs, rounded up to whole diffs.
        seed: Seed of the generator.
    """
    mid = _FIRST_MID
    yield _generate_snapshot(np.random.default_rng(seed), mid)
    messages, done = -(-events // LEVELS), 0
    while done < messages:
        count = min(_MESSAGES_AT_ONCE, messages - done)
        random = np.random.default_rng((seed, done))
        walk = mid + np.cumsum(random.integers(-_MAX_STEP, _MAX_STEP + 1, count))
        yield _generate_diffs(random, walk, done)
        mid, done = int(walk[-1]), done + count


def _generate_snapshot(random: np.random.Generator, mid: int) -> Messages:
    away = np.arange(1, _SNAPSHOT_LEVELS + 1)
    prices = np.concatenate([mid - away, mid + away])
    rows = _build_rows(1, 0, SNAPSHOT)
    bounds = np.array([[0], [_SNAPSHOT_LEVELS], [2 * _SNAPSHOT_LEVELS]], np.int64)
    return Messages(rows, LevelBatch(bounds, prices, random.integers(1, 900_000_000, prices.size)), SCALE)


def _generate_diffs(random: np.random.Generator, mid: Ints, first: int) -> Messages:
    count, half = mid.size, LEVELS // 2
    away = np.interp(random.random((count, LEVELS)), SHARES, DISTANCES).astype(np.int64) + 1
    prices = mid[:, None] + np.where(np.arange(LEVELS) < half, -away, away)
    lots = random.integers(1, 900_000_000, prices.shape) * (random.random(prices.shape) >= REMOVED)
    for step in range(_MAX_STEP):
        # Remove the levels at the present price and at prices that it has just passed.
        prices[:, step], prices[:, half + step] = mid + step, mid - step
        lots[:, [step, half + step]] = 0
    starts = np.arange(count, dtype=np.int64) * LEVELS
    return Messages(
        _build_rows(count, first, DIFF),
        LevelBatch(np.stack([starts, starts + half, starts + LEVELS]), prices.ravel(), lots.ravel()),
        SCALE,
    )


def _build_rows(count: int, first: int, kind: int) -> Ints:
    rows = np.zeros((ROWS, count), np.int64)
    place = first + np.arange(count) + (kind == DIFF)
    stamp = _START_NS + place * _STEP_NS
    rows[:] = np.stack(
        [np.full(count, kind), stamp, stamp // 1000 - 4000, place, place, np.full(count, -1), place]
    )
    return rows
