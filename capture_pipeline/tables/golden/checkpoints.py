"""The table `golden_checkpoints`: complete order books, from which a replay can start near any time."""

from __future__ import annotations

from capture_pipeline.tables.table import INT8, INT64, Column, Table

CHECKPOINT_HEAD = ("capture_ns", "line", "last_id", "reached_ns")
"""Columns with one value per checkpoint."""
CHECKPOINT_LEVEL = ("side", "price_e8", "quantity_e8")
"""Columns of a price level."""
CHECKPOINTS = Table(
    "golden_checkpoints",
    "Complete order books of a session, ten minutes apart: one row per price level, one row group a "
    "checkpoint.",
    (
        Column("capture_ns", INT64, "Capture time of the checkpoint", "nanoseconds UTC"),
        Column("line", INT64, "Last line of the recording that the book contains"),
        Column("last_id", INT64, "Last update id of the book"),
        Column("reached_ns", INT64, "Time up to which the book is known", "nanoseconds UTC"),
        Column("side", INT8, "0 bid, 1 ask"),
        Column("price_e8", INT64, "Price, exact", "1e-8 quote asset"),
        Column("quantity_e8", INT64, "Quantity, exact", "1e-8 base asset"),
    ),
    notes="""\
The first query writes the file `lake/golden_checkpoints/session=…/symbol=…/checkpoints.parquet`. It is
written again after the recording was converted again.""",
)
