"""Representations of prices and quantities, with the operations that books and tables need.

A representation returns None if it detects an overflow. Other modules compare its results with exact ones.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from capture_pipeline.feasibility.decimal_precision.dataset import Rows

EXACT = Context(prec=100)
VWAP_PLACES = Decimal("1e-8")
Results = dict[str, Decimal | None]
"""Values by name; None after a detected overflow."""
Raw = Any
"""Result of an operation, before its conversion to decimals."""


class Operation(StrEnum):
    """Operations of the benchmark."""

    SUM = "sum"
    NOTIONAL = "notional"
    VWAP = "vwap"
    GROUPS = "group_by"
    JOIN = "join"
    PARQUET = "parquet"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows in one representation.

    Attributes:
        rows: The generated rows.
        frame: Frame or table with `price`, `quantity` and `minute`.
        ladder: Distinct prices, computed from ticks by the representation's own arithmetic.
    """

    rows: Rows
    frame: Any
    ladder: Any


class Representation(Protocol):
    """Interface of a representation."""

    @property
    def name(self) -> str:
        """Name for tables."""

    def operation_key(self, operation: Operation) -> str:
        """Return a key; an operation with the same key in several representations is measured once."""

    def build(self, rows: Rows) -> Dataset:
        """Convert rows to the representation."""

    def run(self, operation: Operation, dataset: Dataset) -> Raw:
        """Run an operation; the benchmark measures the time of this call."""

    def results(self, operation: Operation, raw: Raw, dataset: Dataset) -> Results:
        """Convert the result of an operation to decimals."""


def divide_exactly(notional: Decimal | None, volume: Decimal | None) -> Decimal | None:
    """Compute a VWAP from two sums, rounded half to even to eight decimals."""
    return (
        None
        if notional is None or volume is None
        else EXACT.divide(notional, volume).quantize(VWAP_PLACES, context=EXACT)
    )


@dataclass(frozen=True)
class PolarsRepresentation:
    """Base of representations by a column type of polars."""

    name: str

    def operation_key(self, operation: Operation) -> str:
        """Return a key of this representation only."""
        return f"{self.name}: {operation}"

    def build(self, rows: Rows) -> Dataset:
        """Convert rows to the representation."""
        columns = {
            "price": self.prices(rows.ticks, rows),
            "quantity": self.quantities(rows.lots, rows),
            "minute": rows.minutes,
        }
        return Dataset(rows, pl.DataFrame(columns), pl.DataFrame({"price": self.ladder(rows)}))

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert ticks to prices."""
        raise NotImplementedError

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Convert lots to quantities."""
        raise NotImplementedError

    def ladder(self, rows: Rows) -> pl.Series:
        """Return the distinct prices."""
        return self.prices(rows.ladder, rows)

    def sums(self) -> list[pl.Expr]:
        """Return the sums of `price` and `quantity`."""
        return [pl.col("price").sum(), pl.col("quantity").sum()]

    def notional(self) -> list[pl.Expr]:
        """Return the sum of notionals."""
        return [(pl.col("price") * pl.col("quantity")).sum().alias("notional")]

    def volume(self) -> list[pl.Expr]:
        """Return the sum of `quantity`."""
        return [self.sums()[1]]

    def vwap(self) -> list[pl.Expr]:
        """Return the sums of a VWAP, or the VWAP."""
        return [*self.notional(), *self.volume()]

    def run(self, operation: Operation, dataset: Dataset) -> Raw:
        """Run an operation."""
        frame: pl.DataFrame = dataset.frame
        match operation:
            case Operation.SUM:
                return frame.select(self.sums())
            case Operation.NOTIONAL:
                return frame.select(self.notional())
            case Operation.VWAP:
                return frame.select(self.vwap())
            case Operation.GROUPS:
                return frame.group_by("minute").agg(*self.volume(), *self.notional())
            case Operation.JOIN:
                return frame.join(dataset.ladder, on="price", how="inner").height
            case Operation.PARQUET:
                file = io.BytesIO()
                frame.write_parquet(file, compression="zstd", compression_level=1)
                return pl.read_parquet(io.BytesIO(file.getbuffer()), hive_partitioning=False)

    def results(self, operation: Operation, raw: Raw, dataset: Dataset) -> Results:
        """Convert the result of an operation to decimals."""
        match operation:
            case Operation.SUM | Operation.NOTIONAL:
                return self.decimals(raw.row(0, named=True), dataset.rows)
            case Operation.VWAP:
                return {"vwap": self.vwap_of(raw.row(0, named=True), dataset.rows)}
            case Operation.GROUPS:
                return {
                    f"{name} of minute {row['minute']}": value
                    for row in raw.iter_rows(named=True)
                    for name, value in self.decimals(row, dataset.rows).items()
                }
            case Operation.JOIN:
                return {"rows joined": Decimal(raw)}
            case Operation.PARQUET:
                return {
                    f"{name} as written": Decimal(
                        int((self.integers(raw[name], name, dataset.rows) == expected).sum())
                    )
                    for name, expected in (("price", dataset.rows.ticks), ("quantity", dataset.rows.lots))
                }

    def vwap_of(self, row: dict[str, Any], rows: Rows) -> Decimal | None:
        """Return the VWAP from the result of `vwap`."""
        found = self.decimals(row, rows)
        return divide_exactly(found["notional"], found["quantity"])

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """Convert the sums of a row to decimals."""
        raise NotImplementedError

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Convert a column that was read to ticks or lots."""
        raise NotImplementedError
