"""Representation of decimals by Arrow's decimal128.

A product has as many digits as its factors together, and the maximum is 38 digits.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from capture_pipeline.feasibility.decimal_precision.dataset import Rows
from capture_pipeline.feasibility.decimal_precision.polars_representations import decimals_from_units
from capture_pipeline.feasibility.decimal_precision.representations import (
    Dataset,
    Operation,
    Raw,
    Results,
    divide_exactly,
)
from capture_pipeline.tables.golden.columns import SCALE


@dataclass(frozen=True)
class ArrowRepresentation:
    """Arrow's decimal128 with eight decimals."""

    name: str

    def operation_key(self, operation: Operation) -> str:
        """Return a key of this representation only."""
        return f"{self.name}: {operation}"

    def build(self, rows: Rows) -> Dataset:
        """Convert rows, with as many digits as the largest value needs."""
        prices, quantities = rows.ticks * rows.price_factor, rows.lots * rows.quantity_factor
        digits, quantity_digits = (max(SCALE, len(str(int(values.max())))) for values in (prices, quantities))
        columns = {
            "price": decimals_from_units(prices, digits),
            "quantity": decimals_from_units(quantities, quantity_digits),
        }
        ladder = decimals_from_units(rows.ladder * rows.price_factor, digits)
        return Dataset(rows, pa.table({**columns, "minute": rows.minutes}), pa.table({"price": ladder}))

    def run(self, operation: Operation, dataset: Dataset) -> Raw:
        """Run an operation."""
        table: pa.Table = dataset.frame
        match operation:
            case Operation.SUM:
                return {name: pc.sum(table[name]) for name in ("price", "quantity")}
            case Operation.NOTIONAL:
                return {"notional": _sum_notional(table)}
            case Operation.VWAP:
                return {"notional": _sum_notional(table), "quantity": pc.sum(table["quantity"])}
            case Operation.GROUPS:
                widened = pa.table(
                    {
                        **dict(zip(table.column_names, table.columns, strict=True)),
                        "notional": _multiply(table),
                    }
                )
                return widened.group_by("minute").aggregate([("quantity", "sum"), ("notional", "sum")])
            case Operation.JOIN:
                return table.join(dataset.ladder, "price", join_type="inner").num_rows
            case Operation.PARQUET:
                file = io.BytesIO()
                pq.write_table(table, file, compression="zstd", compression_level=1)
                return pq.read_table(io.BytesIO(file.getbuffer()))

    def results(self, operation: Operation, raw: Raw, dataset: Dataset) -> Results:
        """Convert the result of an operation to decimals."""
        match operation:
            case Operation.SUM | Operation.NOTIONAL:
                return {name: value.as_py() for name, value in raw.items()}
            case Operation.VWAP:
                return {"vwap": divide_exactly(raw["notional"].as_py(), raw["quantity"].as_py())}
            case Operation.GROUPS:
                return {
                    f"{name} of minute {row['minute']}": row[f"{name}_sum"]
                    for row in raw.to_pylist()
                    for name in ("quantity", "notional")
                }
            case Operation.JOIN:
                return {"rows joined": Decimal(raw)}
            case Operation.PARQUET:
                expected = {
                    "price": dataset.rows.ticks * dataset.rows.price_factor,
                    "quantity": dataset.rows.lots * dataset.rows.quantity_factor,
                }
                return {
                    f"{name} as written": Decimal(_count_equal(raw[name], values))
                    for name, values in expected.items()
                }


def _multiply(table: pa.Table) -> Any:  # noqa: ANN401 - pyarrow has no types
    return pc.multiply(table["price"], table["quantity"])


def _sum_notional(table: pa.Table) -> Any:  # noqa: ANN401 - pyarrow has no types
    return pc.sum(_multiply(table))


def _count_equal(column: pa.ChunkedArray, values: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """Count the decimals that are equal to the written values, by both words of 64 bits."""
    read = column.combine_chunks()
    words = np.frombuffer(read.buffers()[1], np.int64).reshape(-1, 2)[read.offset : read.offset + len(read)]
    return int(((words[:, 0] == values) & (words[:, 1] == values >> 63)).sum())
