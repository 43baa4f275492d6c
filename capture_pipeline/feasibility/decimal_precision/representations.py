"""Forms in which prices and quantities can be kept, each with the operations that a book or a table asks of it.

A form says what it cannot do instead of answering wrongly where it can know; what it answers is held against exact sums elsewhere.
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
"""Values by name; None where the form refused, having found an overflow."""
Raw = Any
"""What an operation returned, before it is made decimal for comparing."""


class Operation(StrEnum):
    """What is asked of a form."""

    SUM = "sum"
    NOTIONAL = "notional"
    VWAP = "vwap"
    GROUPS = "group_by"
    JOIN = "join"
    PARQUET = "parquet"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows in a form.

    Attributes:
        rows: As they were made.
        frame: `price`, `quantity` and `minute`.
        ladder: Every price once, computed by the form's own arithmetic from its number of ticks.
    """

    rows: Rows
    frame: Any
    ladder: Any


class Representation(Protocol):
    """One form."""

    @property
    def name(self) -> str:
        """For tables."""

    def does(self, operation: Operation) -> str:
        """Names what is done; forms of one name do the same at this operation, so that it is measured once."""

    def build(self, rows: Rows) -> Dataset:
        """Bring rows into the form."""

    def run(self, operation: Operation, built: Dataset) -> Raw:
        """Do it; this is what is timed."""

    def results(self, operation: Operation, raw: Raw, built: Dataset) -> Results:
        """What was returned, as decimals."""


def divided(notional: Decimal | None, volume: Decimal | None) -> Decimal | None:
    """A VWAP of two sums, to eight decimals, half to even."""
    return (
        None
        if notional is None or volume is None
        else EXACT.divide(notional, volume).quantize(VWAP_PLACES, context=EXACT)
    )


@dataclass(frozen=True)
class PolarsForm:
    """A form whose columns are polars'.

    Attributes:
        name: For tables.
    """

    name: str

    def does(self, operation: Operation) -> str:
        """What no other form does."""
        return f"{self.name}: {operation}"

    def build(self, rows: Rows) -> Dataset:
        """Bring rows into the form."""
        columns = {
            "price": self.prices(rows.ticks, rows),
            "quantity": self.quantities(rows.lots, rows),
            "minute": rows.minutes,
        }
        return Dataset(rows, pl.DataFrame(columns), pl.DataFrame({"price": self.ladder(rows)}))

    def prices(self, ticks: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Prices of these ticks."""
        raise NotImplementedError

    def quantities(self, lots: NDArray[np.int64], rows: Rows) -> pl.Series:
        """Quantities of these lots."""
        raise NotImplementedError

    def ladder(self, rows: Rows) -> pl.Series:
        """Every price of the rows, once."""
        return self.prices(rows.ladder, rows)

    def sums(self) -> list[pl.Expr]:
        """`price` and `quantity` summed."""
        return [pl.col("price").sum(), pl.col("quantity").sum()]

    def notional(self) -> list[pl.Expr]:
        """`notional`."""
        return [(pl.col("price") * pl.col("quantity")).sum().alias("notional")]

    def volume(self) -> list[pl.Expr]:
        """`quantity` summed."""
        return [self.sums()[1]]

    def vwap(self) -> list[pl.Expr]:
        """What a VWAP is made of, or it."""
        return [*self.notional(), *self.volume()]

    def run(self, operation: Operation, built: Dataset) -> Raw:
        """Do it."""
        frame: pl.DataFrame = built.frame
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
                return frame.join(built.ladder, on="price", how="inner").height
            case Operation.PARQUET:
                file = io.BytesIO()
                frame.write_parquet(file, compression="zstd", compression_level=1)
                return pl.read_parquet(io.BytesIO(file.getbuffer()), hive_partitioning=False)

    def results(self, operation: Operation, raw: Raw, built: Dataset) -> Results:
        """What was returned, as decimals."""
        match operation:
            case Operation.SUM | Operation.NOTIONAL:
                return self.decimals(raw.row(0, named=True), built.rows)
            case Operation.VWAP:
                return {"vwap": self.vwap_of(raw.row(0, named=True), built.rows)}
            case Operation.GROUPS:
                return {
                    f"{name} of minute {row['minute']}": value
                    for row in raw.iter_rows(named=True)
                    for name, value in self.decimals(row, built.rows).items()
                }
            case Operation.JOIN:
                return {"rows joined": Decimal(raw)}
            case Operation.PARQUET:
                return {
                    f"{name} as written": Decimal(
                        int((self.integers(raw[name], name, built.rows) == made).sum())
                    )
                    for name, made in (("price", built.rows.ticks), ("quantity", built.rows.lots))
                }

    def vwap_of(self, row: dict[str, Any], rows: Rows) -> Decimal | None:
        """The VWAP of what `vwap` returned."""
        found = self.decimals(row, rows)
        return divided(found["notional"], found["quantity"])

    def decimals(self, row: dict[str, Any], rows: Rows) -> Results:
        """The sums of a row, as decimals."""
        raise NotImplementedError

    def integers(self, column: pl.Series, name: str, rows: Rows) -> NDArray[Any]:
        """Ticks or lots of a column that was read back."""
        raise NotImplementedError
