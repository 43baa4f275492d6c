"""decimal128 of Arrow as a form of decimals: the width of a product is that of its factors together, and 38 digits are all there are."""

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
from capture_pipeline.feasibility.decimal_precision.polars_representations import unscaled
from capture_pipeline.feasibility.decimal_precision.representations import (
    Dataset,
    Operation,
    Raw,
    Results,
    divided,
)
from capture_pipeline.tables.golden import SCALE


@dataclass(frozen=True)
class ArrowForm:
    """Arrow's decimal128 of eight places.

    Attributes:
        name: For tables.
    """

    name: str

    def does(self, operation: Operation) -> str:
        """What no other form does."""
        return f"{self.name}: {operation}"

    def build(self, rows: Rows) -> Dataset:
        """As many digits as the largest value needs."""
        prices, quantities = rows.ticks * rows.price_factor, rows.lots * rows.quantity_factor
        digits, quantity_digits = (max(SCALE, len(str(int(values.max())))) for values in (prices, quantities))
        columns = {"price": unscaled(prices, digits), "quantity": unscaled(quantities, quantity_digits)}
        ladder = unscaled(rows.ladder * rows.price_factor, digits)
        return Dataset(rows, pa.table({**columns, "minute": rows.minutes}), pa.table({"price": ladder}))

    def run(self, operation: Operation, built: Dataset) -> Raw:
        """Do it."""
        table: pa.Table = built.frame
        match operation:
            case Operation.SUM:
                return {name: pc.sum(table[name]) for name in ("price", "quantity")}
            case Operation.NOTIONAL:
                return {"notional": _notional(table)}
            case Operation.VWAP:
                return {"notional": _notional(table), "quantity": pc.sum(table["quantity"])}
            case Operation.GROUPS:
                widened = pa.table(
                    {
                        **dict(zip(table.column_names, table.columns, strict=True)),
                        "notional": _products(table),
                    }
                )
                return widened.group_by("minute").aggregate([("quantity", "sum"), ("notional", "sum")])
            case Operation.JOIN:
                return table.join(built.ladder, "price", join_type="inner").num_rows
            case Operation.PARQUET:
                file = io.BytesIO()
                pq.write_table(table, file, compression="zstd", compression_level=1)
                return pq.read_table(io.BytesIO(file.getbuffer()))

    def results(self, operation: Operation, raw: Raw, built: Dataset) -> Results:
        """What was returned, as decimals."""
        match operation:
            case Operation.SUM | Operation.NOTIONAL:
                return {name: value.as_py() for name, value in raw.items()}
            case Operation.VWAP:
                return {"vwap": divided(raw["notional"].as_py(), raw["quantity"].as_py())}
            case Operation.GROUPS:
                return {
                    f"{name} of minute {row['minute']}": row[f"{name}_sum"]
                    for row in raw.to_pylist()
                    for name in ("quantity", "notional")
                }
            case Operation.JOIN:
                return {"rows joined": Decimal(raw)}
            case Operation.PARQUET:
                made = {
                    "price": built.rows.ticks * built.rows.price_factor,
                    "quantity": built.rows.lots * built.rows.quantity_factor,
                }
                return {
                    f"{name} as written": Decimal(_same(raw[name], values)) for name, values in made.items()
                }


def _products(table: pa.Table) -> Any:  # noqa: ANN401 - pyarrow has no types
    return pc.multiply(table["price"], table["quantity"])


def _notional(table: pa.Table) -> Any:  # noqa: ANN401 - likewise
    return pc.sum(_products(table))


def _same(column: pa.ChunkedArray, values: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """How many decimals are what was written, by both words of 64 bits."""
    read = column.combine_chunks()
    words = np.frombuffer(read.buffers()[1], np.int64).reshape(-1, 2)[read.offset : read.offset + len(read)]
    return int(((words[:, 0] == values) & (words[:, 1] == values >> 63)).sum())
