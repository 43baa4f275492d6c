"""Tables of samples of a book at regular times: wide (one row per sample) or long (one row per level)."""

from __future__ import annotations

from capture_pipeline.tables.table import INT32, INT64, TEXT, Column, Table

_HEAD = (
    Column("sampled_ns", INT64, "Time of the sample", "nanoseconds UTC"),
    Column("last_id", INT64, "Last update id of the book"),
)
LONG_SAMPLES = Table(
    "samples_long",
    "Samples of a book (`capture session replay --long`): one row per level.",
    (
        *_HEAD,
        Column("symbol", TEXT, "Symbol in capitals"),
        Column("side", TEXT, "`bid` or `ask`"),
        Column("level", INT32, "Number of the level; 1 is the best"),
        Column("price_e8", INT64, "Price, exact", "1e-8 quote asset"),
        Column("quantity_e8", INT64, "Quantity, exact", "1e-8 base asset"),
    ),
)


def wide_samples(depth: int) -> Table:
    """Declare the table of samples with one row per sample.

    Args:
        depth: Number of levels of each side; each has two columns.
    """
    return Table(
        "samples_wide",
        "Samples of a book (`capture session replay --out`): one row per sample.",
        (
            *_HEAD,
            *(
                Column(
                    f"{side}_{level}_{value}_e8",
                    INT64,
                    f"{value.capitalize()} of the level, exact; null if the book has fewer levels",
                    f"1e-8 {unit} asset",
                    nullable=True,
                )
                for side in ("bid", "ask")
                for level in range(1, depth + 1)
                for value, unit in (("price", "quote"), ("quantity", "base"))
            ),
        ),
        notes="Further levels of each side, up to `--depth`, have the columns `bid_2_price_e8` and so on.",
    )
