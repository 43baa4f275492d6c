"""Faults of the real-world profile in each market, counted by hand over the hours of four months."""

from __future__ import annotations

from dataclasses import dataclass, field

HISTORY = {"CAPTURE_HISTORY_START": "2024-11-01", "CAPTURE_HISTORY_END": "2025-02-28"}
EARLY, INVERTED = "early_close", "negative_length"
MONTHS = ("2024-11", "2024-12", "2025-01", "2025-02")
Part = tuple[str, str]


@dataclass(frozen=True)
class World:
    """Content of the profile in one market.

    Attributes:
        market: `spot` or `um`.
        bars: Bars of each month, by symbol.
        off_grid: Hours off the grid, by symbol.
        suspended: Hours of suspensions, by symbol.
        before_listing: Hours of the history before the listing, by symbol.
        filled: Hours that archive files lack, by symbol, month and the source that has them.
        conflicts: Bars on which sources disagree, by symbol and month.
        irregular: Rows with irregular close times, by symbol and month.
    """

    market: str
    bars: dict[str, tuple[int, ...]]
    off_grid: dict[str, int]
    filled: dict[tuple[str, str, str], int]
    irregular: dict[Part, dict[str, int]]
    before_listing: dict[str, int]
    suspended: dict[str, int] = field(default_factory=dict)
    conflicts: dict[Part, int] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment variables of a deployment that stores these bars."""
        return {"CAPTURE_MARKET": self.market, "CAPTURE_SYMBOLS": ",".join(self.bars), **HISTORY}


# December lacks the three hours off the grid. February ends with the present, 2025-02-20T10:30.
WHOLE_LIFE = (720, 741, 744, 466)
WORLDS = {
    "spot": World(
        market="spot",
        bars={
            "BTCUSDT": WHOLE_LIFE,
            "ETHUSDT": WHOLE_LIFE,
            # Suspended from 2024-11-18T06:00 to 2025-01-13T08:00.
            "SOLUSDT": (414, 0, 448, 466),
            # Listed at 2025-01-07T08:00.
            "币安人生USDT": (0, 0, 592, 466),
        },
        off_grid={"BTCUSDT": 3, "ETHUSDT": 3},
        before_listing={"币安人生USDT": 720 + 744 + 152},
        suspended={"SOLUSDT": 306 + 744 + 296},
        filled={
            ("BTCUSDT", "2024-11", "rest"): 2,
            ("ETHUSDT", "2024-12", "daily"): 3,
            ("ETHUSDT", "2025-02", "rest"): 4,
            ("SOLUSDT", "2025-01", "daily"): 24,
        },
        conflicts={("ETHUSDT", "2024-12"): 1},
        irregular={
            ("BTCUSDT", "2024-12"): {EARLY: 1, INVERTED: 1},
            ("BTCUSDT", "2025-01"): {EARLY: 1},
            ("ETHUSDT", "2024-12"): {EARLY: 1, INVERTED: 1},
            ("ETHUSDT", "2025-01"): {EARLY: 1},
            ("SOLUSDT", "2025-01"): {EARLY: 1},
            ("币安人生USDT", "2025-01"): {EARLY: 1},
        },
    ),
    "um": World(
        market="um",
        bars={
            "BTCUSDT": WHOLE_LIFE,
            # Listed at 2024-12-20T08:00, after the hours off the grid.
            "BTCUSDT_250328": (0, 280, 744, 466),
        },
        off_grid={"BTCUSDT": 3},
        before_listing={"BTCUSDT_250328": 720 + 464},
        filled={("BTCUSDT", "2024-11", "rest"): 2},
        irregular={
            ("BTCUSDT", "2024-12"): {EARLY: 1, INVERTED: 1},
            ("BTCUSDT", "2025-01"): {EARLY: 1},
            ("BTCUSDT_250328", "2025-01"): {EARLY: 1},
        },
    ),
}
